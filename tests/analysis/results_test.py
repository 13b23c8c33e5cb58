"""analysis/results: rates are chosen, orders claimed and the page of docs/results written as it says there, on sweeps whose numbers are known."""

import contextlib
import io
import json
import math
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCE / "analysis"), str(SOURCE / "analysis/results")]

import context  # noqa: E402
import methods  # noqa: E402
import page as pages  # noqa: E402
import rates  # noqa: E402
from entries import difference, entries_of, order, ratio_class  # noqa: E402
from strait_analysis.files import InputError  # noqa: E402
import synthetic  # noqa: E402
from synthetic import write_csv  # noqa: E402

ADAMW = {"training.optimizer.name": "adamw", "training.optimizer.lr": 3e-3}
# label → (what it sets, wire ratio, losses of three seeds, mean step in seconds at 80 Mbps)
SMALL = {
    "none": ({"compression.pipeline.method": "none"}, 1.0, (4.00, 4.10, 4.20), 8.0),
    "quantize int4": ({"compression.pipeline.method": "quantize", "compression.pipeline.bits": 4}, 7.76, (4.05, 4.16, 4.27), 1.0),
    "mapl 8x": ({"compression.pipeline.method": "mapl", "compression.pipeline.ratio": 8}, 8.01, (4.30, 4.41, 4.49), 1.0),
    "topk 8x": ({"compression.pipeline.method": "topk", "compression.pipeline.ratio": 8}, 7.9, (5.0, 5.1, None), 1.0),
}
NETWORKS = {"home-80m": 1.0, "datacenter-100g": 0.125}
RATES = {"none": {1e-3: 4.5, 3e-3: 4.2, 1e-2: 4.4}, "quantize": {1e-3: 4.5, 3e-3: 4.4, 1e-2: 4.3}, "mapl": {1e-3: 4.6, 3e-3: None, 1e-2: math.nan},
         "topk": {1e-3: 5.0, 3e-3: 5.0, 1e-2: 5.2}}


def write_sweep(folder: Path, axes: dict, rows: list[dict]) -> None:
    """A sweep directory without its runs: an axis is a name with its values, a row the cells of runs.csv after the axes."""
    folder.mkdir()
    names = list(axes)
    points = [{"name": row["point"], "axes": {name: str(row[name]) for name in names}, "directory": f"runs/{row['point']}"} for row in rows]
    (folder / "sweep.json").write_text(json.dumps({"base": {"training": {"optimizer": {"lr": 3e-3}}}, "axes": axes}))
    (folder / "plan.json").write_text(json.dumps({"name": folder.name, "points": points}))
    write_csv(folder / "runs.csv", [{**row, "path": f"runs/{row['point']}"} for row in rows])


def write_small(folder: Path, tokens: int = 819200) -> None:
    rows = []
    for label, (_, ratio, losses, step) in SMALL.items():
        for network, factor in NETWORKS.items():
            for seed, loss in enumerate(losses, 1):
                reached = loss is not None and loss <= 4.25
                rows.append({"point": f"{label} {network} {seed}", "method": label, "network.preset": network, "seed": seed,
                             "status": "ok" if loss else "the loss is not finite", "tokens": tokens if loss else "", "final_validation_loss": loss or "",
                             "time_to_4.25_s": ("not reached", 100 * step * factor)[reached] if loss else "",
                             "mean_step_s": step * factor if loss else "", "wire_ratio_forward": ratio if loss else "", "wire_ratio": ratio if loss else ""})
    values = [{"label": label, "set": {**sets, **ADAMW}} for label, (sets, *_) in SMALL.items()]
    write_sweep(folder, {"method": values, "network.preset": list(NETWORKS), "seed": [1, 2, 3]}, rows)


def write_rates(folder: Path) -> None:
    rows = [{"point": f"{method} {rate:g}", "method": method, "rate": f"{rate:g}", "seed": 1, "status": "ok" if loss else "the loss is not finite",
             "tokens": 819200, "final_validation_loss": loss or ""} for method, losses in RATES.items() for rate, loss in losses.items()]
    axes = {"method": [{"label": method, "set": {"compression.pipeline.method": method}} for method in RATES],
            "rate": [{"label": f"{rate:g}", "set": {**ADAMW, "training.optimizer.lr": rate}} for rate in (1e-3, 3e-3, 1e-2)], "seed": [1]}
    write_sweep(folder, axes, rows)


class Folder(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="strait results "))
        self.addCleanup(shutil.rmtree, self.folder)
        write_rates(self.folder / "rates")
        write_small(self.folder / "small")


class Rates(Folder):
    def setUp(self):
        super().setUp()
        self.tried = rates.tried_rates(self.folder / "rates")

    def test_the_rate_with_the_lowest_loss_is_chosen_and_one_at_an_end_is_remarked(self):
        chosen = {t.method: (t.chosen, t.remark) for t in self.tried}
        self.assertEqual(chosen["none"], (3e-3, ""))
        self.assertEqual(chosen["quantize"], (1e-2, "the highest tried"))
        self.assertEqual(chosen["topk"], (1e-3, "the lowest tried"))  # of equal ones the lowest

    def test_a_rate_that_failed_or_has_no_finite_loss_is_never_chosen(self):
        self.assertEqual({t.method: t.chosen for t in self.tried}["mapl"], 1e-3)

    def test_rates_are_not_chosen_before_all_are_known(self):
        table = self.folder / "rates/runs.csv"
        table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
        with self.assertRaisesRegex(InputError, "topk 0.01 is not begun"):
            rates.tried_rates(self.folder / "rates")

    def test_only_rates_are_written_and_kin_share_one(self):
        line = '{"label": "x", "set": {"compression.pipeline.method": "%s", "training.optimizer.name": "adamw", "training.optimizer.lr": %s}},'
        text = "// a comment, lr 3e-3\n" + "\n".join(line % pair for pair in (("cast", "3e-3"), ("mapl", "0.003"))) + '\n"lr": 3e-3\n'
        expected = "// a comment, lr 3e-3\n" + "\n".join(line % pair for pair in (("cast", "0.01"), ("mapl", "0.001"))) + '\n"lr": 3e-3\n'
        self.assertEqual(rates.with_rates(text, self.tried), expected)
        self.assertEqual(rates.with_rates(expected, self.tried), expected)
        with self.assertRaisesRegex(InputError, "line 1: no rates of resbm with adamw"):
            rates.with_rates(line % ("resbm", "3e-3"), self.tried)

    def test_every_method_of_the_committed_sweeps_has_a_rate_on_its_line(self):
        known = [rates.Tried(method, optimizer, {0.125: 4.0}) for optimizer in rates.RATE
                 for method in ("none", "subspace", "resbm", "mapl", "frozen", "topk", "column_mask", "lowrank", "quantize")]
        for name in ("methods_small", "mapl_vq", "mapl_projector"):
            text = (SOURCE / f"scenarios/sweeps/{name}.json").read_text()
            self.assertEqual(rates.with_rates(text, known).count("lr\": 0.125"), text.count('"label"'), name)


class Orders(Folder):
    def setUp(self):
        super().setUp()
        self.entries = {entry.label: entry for entry in entries_of(self.folder / "small")}

    def test_networks_do_not_count_as_seeds(self):
        entry = self.entries["mapl 8x"]
        self.assertEqual(entry.losses, {1: 4.30, 2: 4.41, 3: 4.49})
        self.assertEqual(entry.band, (4.30, 4.49))
        self.assertAlmostEqual(entry.loss, 4.4)
        self.assertEqual(entry.step_s, {"home-80m": 1.0, "datacenter-100g": 0.125})

    def test_differences_are_paired_by_seed(self):
        # 0.05, 0.06, 0.07: standard deviation 0.01, half width 4.3027 * 0.01 / sqrt(3).
        mean, low, high, n = difference(self.entries["quantize int4"], self.entries["none"])
        self.assertAlmostEqual(mean, 0.06)
        self.assertAlmostEqual((high - low) / 2, 4.3027 * 0.01 / math.sqrt(3), places=6)
        self.assertEqual(n, 3)
        self.assertEqual(difference(self.entries["topk 8x"], self.entries["none"])[3], 2)

    def test_an_order_is_claimed_only_where_bands_do_not_overlap(self):
        none, int4, mapl = (self.entries[label] for label in ("none", "quantize int4", "mapl 8x"))
        self.assertEqual((order(int4, none), order(mapl, none), order(none, mapl)), ("overlap", "higher", "lower"))
        mapl.losses[1] = 4.20  # touches the highest of none
        self.assertEqual(order(mapl, none), "overlap")

    def test_what_asks_for_no_ratio_is_compared_at_the_one_that_it_measures(self):
        self.assertEqual(ratio_class(self.entries["quantize int4"], [4.0, 8.0]), 8.0)
        self.assertEqual(ratio_class(self.entries["mapl 8x"], [4.0, 8.0]), 8.0)
        self.assertTrue(math.isnan(ratio_class(self.entries["none"], [4.0, 8.0])))

    def test_a_label_that_names_two_trainings_is_refused(self):
        with self.assertRaisesRegex(InputError, '"none" names two trainings'):
            entries_of(self.folder / "rates")  # the rate is an axis of its own there

    def test_losses_at_different_numbers_of_tokens_are_not_compared(self):
        table = self.folder / "small/runs.csv"
        table.write_text(table.read_text().replace("819200", "409600", 1))
        with self.assertRaisesRegex(InputError, "equal tokens"):
            entries_of(self.folder / "small")


class Page(Folder):
    def make(self, *ablations) -> tuple[int, str]:
        page = self.folder / "page.md"
        if not page.exists():
            page.write_text(f"# Before\n\n{methods.BEGIN}\nold\n{pages.END}\n\nAfter.\n")
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            status = methods.main([str(self.folder / "rates"), str(self.folder / "small"), *map(str, ablations), "--page", str(page)])
        return status, page.read_text()

    def test_the_tables_say_what_the_sweep_measured(self):
        _, page = self.make()
        for row in ("| none | adamw | 0.001: 4.500, **0.003: 4.200**, 0.01: 4.400 | 0.003 |  |",
                    "| none |  | 1× | 4.100 [4.000, 4.200] |  |",
                    "| quantize | int4 | 7.76× | 4.160 [4.050, 4.270] | +0.060 ± 0.025 |",
                    "| topk | 8× | 7.9× | 5.050 [5.000, 5.100] (2 of 3 seeds) | +1.000 ± 0.000 |",
                    "| mapl | none | **higher** +0.300 ± 0.025 | −0.05 to +0.05, 4× to 8× (MAPL) |",
                    "| quantize | mapl | **lower** −0.240 ± 0.043 |  |",
                    "| none |  | AdamW | 8 s | 13.3 min |",
                    "| quantize | int4 | AdamW | 1 s | 100 s (2 of 3) |",
                    "| mapl | 8× | AdamW | 1 s | – |",
                    "| none |  | AdamW | 1 s | 100 s |"):
            self.assertIn(row, page)
        self.assertIn("After 819,200 tokens.", page)

    def test_only_what_stands_between_the_markers_changes_and_the_same_input_gives_the_same_bytes(self):
        status, first = self.make()
        figures = [(self.folder / name).read_bytes() for name in ("methods_loss_vs_ratio.svg", "methods_time_to_target.svg")]
        self.assertEqual(status, 0)
        self.assertTrue(first.startswith("# Before\n\n") and first.endswith(f"{pages.END}\n\nAfter.\n"))
        self.assertNotIn("old", first)
        self.assertEqual(self.make(), (0, first))
        self.assertEqual([(self.folder / name).read_bytes() for name in ("methods_loss_vs_ratio.svg", "methods_time_to_target.svg")], figures)

    def test_an_ablation_gets_a_table_with_differences_to_its_first_row(self):
        shutil.copytree(self.folder / "small", self.folder / "of mapl")
        _, page = self.make(self.folder / "of mapl")
        self.assertIn("### `small`", page)  # the name of the sweep
        self.assertIn("| mapl 8x | AdamW | 8.01× | 8.01× | 4.400 [4.300, 4.490] | +0.300 ± 0.025 | **higher** | 1 s |", page)

    def test_a_page_without_markers_and_an_unfinished_sweep_are_refused_and_nothing_is_written(self):
        (self.folder / "page.md").write_text("no markers\n")
        self.assertEqual(self.make(), (2, "no markers\n"))
        (self.folder / "page.md").unlink()
        (self.folder / "small/runs.csv").write_text("".join((self.folder / "small/runs.csv").read_text().splitlines(keepends=True)[:-1]))
        status, page = self.make()
        self.assertEqual((status, "old" in page), (2, True))
        self.assertFalse((self.folder / "methods_loss_vs_ratio.svg").exists())

    def test_the_committed_page_has_the_markers(self):
        for of in (methods, context):
            page = of.PAGE.read_text()
            self.assertEqual((page.count(of.BEGIN), page.count(pages.END)), (1, 1))


class ContextPage(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="strait results "))
        self.addCleanup(shutil.rmtree, self.folder)
        synthetic.write_sweep(self.folder / "sweep")
        document = json.loads((self.folder / "sweep/sweep.json").read_text())
        document["base"] = {"training": {"optimizer": {"lr": 3e-3}}}
        (self.folder / "sweep/sweep.json").write_text(json.dumps(document))
        self.page = self.folder / "page.md"
        self.page.write_text(f"# Before\n\n{context.BEGIN}\nold\n{pages.END}\n")

    def make(self) -> str:
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(context.main([str(self.folder / "sweep")] * 2 + ["--page", str(self.page)]), 0)
        return self.page.read_text()

    def test_bytes_and_steps_are_those_of_the_end(self):
        # Four steps, the first twice as long: 8 s and 1 s without compression, in the mean of the last 20, which are all, 10 s and 1.25 s.
        page = self.make()
        for row in ("| none | 1× | 1× | 4.020 [4.010, 4.030] |  |  |",
                    "| subspace 4x | 4× | 4× | 4.120 [4.108, 4.132] | +0.100 ± 0.005 | **higher** |",
                    "| none | 10 s | 1.25 s |"):
            self.assertIn(row, page)
        self.assertEqual(self.make(), page)

    def test_the_energy_that_a_basis_captures_is_the_mean_over_layers_of_the_last_diagnosis(self):
        for run in (self.folder / "sweep/runs").glob("subspace*_1"):
            write_csv(run / "diagnostics.csv", [{"step": step, "boundary": -1, "name": f"layer{layer}_{z}_captured", "value": value}
                                                for step, value in ((2, 0.1), (4, 0.5)) for layer in (0, 1) for z in ("key", "value")])
        self.assertIn("| **higher** | 50.0 % | 50.0 % |", self.make())


if __name__ == "__main__":
    unittest.main()
