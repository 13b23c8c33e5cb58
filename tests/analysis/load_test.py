"""What load_run and load_sweep make of directories: whole ones, unfinished ones, damaged ones. Use: load_test.py (the package is that of
the source tree)."""

import json
import math
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "analysis"))

import synthetic  # noqa: E402
from strait_analysis import InputError, load_run, load_sweep, quantities  # noqa: E402
from strait_analysis.labels import method_text  # noqa: E402
from strait_analysis.style import Look  # noqa: E402


class MethodTexts(unittest.TestCase):
    def test_they_name_what_crosses_in_both_directions(self):
        def text(**compression):
            return method_text({"compression": compression})
        self.assertEqual(text(pipeline={"method": "subspace", "ratio": 8}), "subspace 8×")
        self.assertEqual(text(pipeline={"method": "topk", "keep": 4}), "topk keep 4")
        self.assertEqual(text(pipeline={"method": "mapl", "rank": 64, "vq": {"rounds": 4}}), "mapl vq rank 64")
        self.assertEqual(text(pipeline={"method": "none", "backward": {"method": "quantize", "bits": 4}}), "none, gradients quantize int4")
        self.assertEqual(text(pipeline={"method": "cast", "format": "fp16"}, match="parameters", match_multiple=1, ffn_width=6303), "cast fp16")
        self.assertEqual(text(pipeline={"method": "none"}, match="none"), "none")

    def test_they_name_keys_and_values_and_what_phases_change(self):
        def text(phases=(), **compression):
            return method_text({"compression": compression, "training": {"phases": [{"at": 5 + i, "set": s} for i, s in enumerate(phases)]}})
        mos = {"method": "mos", "rho_k": 0.9}
        self.assertEqual(text(pipeline={"method": "none"}, context=mos), "mos")
        self.assertEqual(text(pipeline={"method": "mapl", "rank": 64}, context=mos), "mapl rank 64 + mos")
        self.assertEqual(text(context={"method": "quantize", "bits": 4}), "context quantize int4")
        self.assertEqual(text([{"compression.context": mos}, {"training.batch": 4}], pipeline={"method": "none"}), "none > mos")
        self.assertEqual(text([{"compression.context.method": "quantize", "compression.context.bits": 8}, {"compression.context": {"method": "none"}}],
                              pipeline={"method": "none"}, context={"method": "topk", "keep": 0.1}), "context topk keep 0.1 > context quantize int8 > none")
        self.assertEqual(text([{"compression.pipeline": {"method": "none"}}], pipeline={"method": "subspace", "rank": 4}), "subspace rank 4 > none")
        self.assertEqual(text([{"model.context": 64}], pipeline={"method": "none"}), "none")


class Directories(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="strait analysis "))
        self.addCleanup(shutil.rmtree, self.folder)

    def sweep(self, name="sweep"):
        synthetic.write_sweep(self.folder / name)
        return self.folder / name


class Runs(Directories):
    def run_directory(self, **options):
        synthetic.write_run(self.folder / "run", "none", "80Mbps", 1, **options)
        return self.folder / "run"

    def test_a_run_is_its_files_as_frames(self):
        run = load_run(self.run_directory())
        self.assertEqual(list(run.steps["time_s"]), [16.0, 24.0, 32.0, 40.0])
        self.assertEqual(list(run.evals["step"]), [0, 2, 4])
        self.assertEqual(len(run.ranks), 8)
        self.assertTrue(run.finished)
        self.assertEqual(len(run.messages), 0)  # none was asked for
        self.assertIn("bound_by", run.messages)

    def test_a_target_that_was_not_reached_has_no_time(self):
        targets = load_run(self.run_directory()).targets
        self.assertEqual(list(targets["time_s"]), [40.0, 40.0])
        synthetic.write_run(self.folder / "other", "subspace 4x", "80Mbps", 1)
        targets = load_run(self.folder / "other").targets.set_index("target")
        self.assertTrue(math.isnan(targets.loc[4.05, "time_s"]))
        self.assertFalse(targets.loc[4.05, "reached"])

    def test_of_a_run_without_losses_no_target_is_said_to_be_missed(self):
        path = self.run_directory()
        summary = json.loads((path / "summary.json").read_text())
        for target in summary["targets"]:
            target.update(step=None, time_s="unknown")
        (path / "summary.json").write_text(json.dumps(summary))
        self.assertEqual(len(load_run(path).targets), 0)

    def test_a_torn_last_line_is_left_out(self):
        path = self.run_directory(finished=False)
        whole = (path / "steps.csv").read_bytes()
        for cut in (1, 5, 60):
            (path / "steps.csv").write_bytes(whole[:-cut])
            self.assertEqual(list(load_run(path).steps["step"]), [1, 2, 3])

    def test_an_unfinished_run_has_reached_what_it_has_reached_and_no_more_is_said(self):
        targets = load_run(self.run_directory(finished=False, steps=2)).targets
        self.assertEqual(list(targets["target"]), [])
        targets = load_run(synthetic_run(self.folder / "later", steps=4)).targets
        self.assertEqual(list(targets[["target", "step", "time_s"]].itertuples(index=False, name=None)), [(5.0, 4, 40.0), (4.05, 4, 40.0)])

    def test_a_file_that_has_only_begun_has_no_rows(self):
        path = self.run_directory(finished=False)
        for content in ("", "step,tok", "step,tokens,time_s,validation_loss,perplexity\n"):
            (path / "evals.csv").write_text(content)
            self.assertEqual(list(load_run(path).evals.columns), ["step", "tokens", "time_s", "validation_loss", "perplexity"])

    def test_a_missing_column_a_strange_value_and_a_missing_directory_are_named(self):
        path = self.run_directory()
        (path / "evals.csv").write_text("step,tokens,time_s\n0,0,0\n")
        with self.assertRaisesRegex(InputError, "evals.csv.*validation_loss"):
            load_run(path).evals
        (path / "ranks.csv").write_text((path / "ranks.csv").read_text().replace("4.0", "four"))
        with self.assertRaisesRegex(InputError, "ranks.csv"):
            load_run(path).ranks
        (path / "summary.json").write_text("{")
        with self.assertRaisesRegex(InputError, "summary.json: line 1"):
            load_run(path).summary
        with self.assertRaisesRegex(InputError, "no such directory"):
            load_run(self.folder / "nowhere")
        with self.assertRaisesRegex(InputError, "neither a run directory"):
            load_sweep(self.folder)

    def test_a_timeline_has_what_ranks_did_and_messages_from_sending_to_delivery(self):
        slices = load_run(self.run_directory()).timeline
        self.assertEqual(list(slices["kind"]), ["compute", "compute", "message"])
        message = slices.iloc[2]
        self.assertEqual((message["rank"], message["to"], message["phase"], message["microbatch"]), (0, 1, "forward", 0))
        self.assertAlmostEqual(message["end_s"] - message["start_s"], 0.2)


def synthetic_run(path, **options):
    synthetic.write_run(path, "none", "80Mbps", 1, finished=False, **options)
    return path


class Sweeps(Directories):
    def test_points_know_their_method_network_and_seed(self):
        sweep = load_sweep(self.sweep())
        self.assertEqual(len(sweep.runs), 12)
        self.assertEqual(sweep.methods, ["none", "subspace 4x"])
        self.assertEqual(sweep.networks, ["80 Mbps", "1 Gbps"])
        self.assertEqual(sweep.reference, "none")
        row = sweep.runs.set_index("point").loc["subspace-4x_1Gbps_2"]
        self.assertEqual((row["method"], row["network"], row["seed"], row["wire_ratio"]), ("subspace 4x", "1 Gbps", 2, 4.0))
        self.assertEqual(row["bandwidth_bps"], 1e9)
        self.assertEqual(row["network.links.bandwidth"], "1Gbps")
        self.assertEqual(len(sweep.evals), 12 * 3)

    def test_a_point_that_failed_is_a_row_with_its_error_and_no_figures(self):
        path = self.sweep()
        rows = (path / "runs.csv").read_text().splitlines()
        name = "none_80Mbps_1"
        cells = rows[1].split(",")
        rows[1] = ",".join([*cells[:4], '"strait-sim: no, not today"', *[""] * (len(cells) - 6), f"runs/{name}"])
        (path / "runs.csv").write_text("\n".join(rows) + "\n")
        shutil.rmtree(path / "runs" / name)
        sweep = load_sweep(path)
        row = sweep.runs.set_index("point").loc[name]
        self.assertEqual(row["status"], "strait-sim: no, not today")
        self.assertTrue(math.isnan(row["mean_step_s"]))
        self.assertNotIn(name, set(sweep.targets["point"]))
        with self.assertRaises(KeyError):
            sweep.run(name)

    def test_a_sweep_that_still_goes_on_has_finished_unfinished_and_waiting_points(self):
        path = self.sweep()
        lines = (path / "runs.csv").read_text().splitlines(keepends=True)
        (path / "runs.csv").write_text("".join(lines[:4]) + lines[4][:30])  # three rows and a torn one
        for point in list((path / "runs").iterdir()):
            if not point.name.startswith("none_80Mbps") and point.name != "none_1Gbps_1":
                shutil.rmtree(point)
        (path / "runs/none_1Gbps_1/summary.json").unlink()
        sweep = load_sweep(path)
        counts = sweep.runs["status"].value_counts()
        self.assertEqual(dict(counts), {"ok": 3, "unfinished": 1, "not begun": 8})
        self.assertEqual(sweep.methods, ["none"])
        unfinished = sweep.runs.set_index("point").loc["none_1Gbps_1"]
        self.assertEqual((unfinished["mean_step_s"], unfinished["steps"]), (5.0 / 4, 4))

    def test_a_sweep_of_which_nothing_is_there_but_its_plan_is_not_an_error(self):
        path = self.sweep()
        (path / "runs.csv").unlink()
        shutil.rmtree(path / "runs")
        self.assertEqual(set(load_sweep(path).runs["status"]), {"not begun"})

    def test_a_table_without_run_directories_has_its_figures(self):
        path = self.sweep()
        shutil.rmtree(path / "runs")
        sweep = load_sweep(path)
        row = sweep.runs.set_index("point").loc["none_80Mbps_2"]
        self.assertEqual((row["method"], row["network"], row["mean_step_s"], row["wire_ratio"]), ("none", "80 Mbps", 10.0, 1.0))
        times = sweep.targets.set_index(["point", "target"])["time_s"]
        self.assertEqual(times["none_80Mbps_2", 4.05], 40.0)
        self.assertTrue(math.isnan(times["subspace-4x_80Mbps_2", 4.05]))
        table = path / "runs.csv"
        table.write_text(table.read_text().replace("not reached", "unknown"))
        self.assertNotIn(("subspace-4x_80Mbps_2", 4.05), load_sweep(path).targets.set_index(["point", "target"]).index)

    def test_networks_of_one_bandwidth_are_told_apart_without_run_directories_too(self):
        path = self.sweep()
        shutil.rmtree(path / "runs")
        (path / "plan.json").unlink()
        lines = (path / "runs.csv").read_text().splitlines()
        twice = [f"network.links.latency,{lines[0]}", *(f"{latency},{latency}-{line}" for latency in ("20ms", "50ms") for line in lines[1:])]
        (path / "runs.csv").write_text("\n".join(twice) + "\n")
        sweep = load_sweep(path)
        self.assertIn("80 Mbps, 20 ms latency", sweep.networks)
        self.assertEqual(len(sweep.networks), 4)

    def test_points_that_are_not_there_have_the_scenario_that_the_sweep_file_writes(self):
        path = self.sweep()
        shutil.rmtree(path / "runs")
        (path / "runs.csv").unlink()
        values = [{"method": "none"}, {"method": "subspace", "ratio": 8}]
        places = [{"label": "near", "set": {"network.preset": "home-80m"}}, {"label": "far", "set": {"network.links.latency": "90ms"}}]
        (path / "sweep.json").write_text(json.dumps({"base": synthetic.scenario("subspace 4x", "1Gbps", 7),
                                                     "axes": {"compression.pipeline": values, "place": places}}))
        axes = [{"compression.pipeline": json.dumps(value), "place": place} for value in values for place in ("near", "far")]
        (path / "plan.json").write_text(json.dumps({"points": [{"name": str(i), "axes": a, "directory": f"runs/{i}"} for i, a in enumerate(axes)]}))
        runs = load_sweep(path).runs
        self.assertEqual(list(runs["method"]), ["none", "none", "subspace 8×", "subspace 8×"])
        self.assertEqual((runs.at[1, "bandwidth_bps"], runs.at[1, "latency_s"], runs.at[1, "seed"]), (1e9, 0.09, 7))
        self.assertEqual(runs.at[0, "network"], "home-80m")  # which replaces the base's links; its bandwidth is not written

    def test_a_method_keeps_its_colour_while_others_have_not_begun(self):
        path = self.sweep()
        whole = Look(load_sweep(path))
        (path / "runs.csv").write_text("".join(line for line in (path / "runs.csv").read_text().splitlines(keepends=True) if "none" not in line))
        for point in (path / "runs").glob("none*"):
            shutil.rmtree(point)
        part = load_sweep(path)
        self.assertEqual(part.methods, ["subspace 4x"])
        self.assertEqual(Look(part).colour("subspace 4x"), whole.colour("subspace 4x"))

    def test_a_method_without_a_label_keeps_its_colour_too(self):
        path = self.sweep()
        (path / "sweep.json").write_text(json.dumps({"base": {}, "axes": {"compression.pipeline": [{"method": "none"}, {"method": "subspace", "ratio": 4}],
                                                                          "network.links.bandwidth": list(synthetic.BANDWIDTHS), "seed": [1, 2, 3]}}))
        plan = json.loads((path / "plan.json").read_text())
        for point in plan["points"]:
            method = point["axes"].pop("method")
            point["axes"]["compression.pipeline"] = '{"method":"none"}' if method == "none" else '{"method":"subspace","ratio":4}'
        (path / "plan.json").write_text(json.dumps(plan))
        (path / "runs.csv").unlink()
        whole = Look(load_sweep(path))
        for point in (path / "runs").glob("none*"):
            shutil.rmtree(point)
        part = load_sweep(path)
        self.assertEqual(part.methods, ["subspace 4×"])
        self.assertEqual(Look(part).colour("subspace 4×"), whole.colour("subspace 4×"))

    def test_the_same_run_given_twice_counts_once(self):
        path = self.sweep()
        sweep = load_sweep(path, path / "runs/none_80Mbps_1")
        self.assertEqual(len(sweep.runs), 12)
        self.assertEqual(len(sweep.notes), 1)

    def test_names_say_what_differs_and_no_more(self):
        for name, changes in (("a", {}), ("b", {"model": "packet"}), ("c", {"model": "packet", "seed": 5})):
            synthetic.write_run(self.folder / name, "subspace 4x", "80Mbps", 1)
            document = synthetic.scenario("subspace 4x", "80Mbps", 1)
            document["network"].update(changes)
            document["training"]["batch"] = 8 if name == "a" else 16
            (self.folder / name / "scenario.json").write_text(json.dumps(document))
        sweep = load_sweep(*(self.folder / name for name in "abc"))
        self.assertEqual(list(sweep.runs["method"]), ["subspace 4×, batch 8", "subspace 4×, batch 16", "subspace 4×, batch 16"])
        self.assertEqual(list(sweep.runs["network"]), ["80 Mbps, fluid", "80 Mbps, packet", "80 Mbps, packet"])
        self.assertEqual(list(sweep.runs["network_seed"]), [0, 0, 5])

    def test_long_values_are_named_shortly_and_stay_different(self):
        changes = [{}, {"phases": [{"at": 3, "set": {"model.context": 64, "training.optimizer.lr": 0.001}}]},
                   {"phases": [{"at": 3, "set": {"model.context": 32, "training.optimizer.lr": 0.001}}]}, {"init_from": "/a/folder/far/away/runs/before"}]
        for number, change in enumerate(changes):
            synthetic.write_run(self.folder / str(number), "none", "80Mbps", 1)
            document = synthetic.scenario("none", "80Mbps", 1)
            document["training"].update(change)
            (self.folder / str(number) / "scenario.json").write_text(json.dumps(document))
        sweep = load_sweep(*(self.folder / str(number) for number in range(4)))
        self.assertEqual(list(sweep.runs["method"]), ["none", "none, phases at 3", "none, phases at 3 #2",
                                                      "none, init from …er/far/away/runs/before"])

    def test_a_short_comparison_beside_a_run_times_steps_and_trains_nothing(self):
        synthetic.write_run(self.folder / "run", "subspace 4x", "80Mbps", 1)
        synthetic.write_run(self.folder / "run/compare/none-own", "none", "80Mbps", 1)
        document = synthetic.scenario("none", "80Mbps", 1)
        document["training"]["steps"] = 2
        (self.folder / "run/compare/none-own/scenario.json").write_text(json.dumps(document))
        synthetic.write_run(self.folder / "run/replays/fast", "subspace 4x", "1Gbps", 1)
        sweep = load_sweep(self.folder / "run")
        self.assertEqual(list(sweep.runs["comparison"]), [False, True, False])
        self.assertEqual(set(sweep.evals["method"]), {"subspace 4×"})
        self.assertEqual(set(sweep.traces("steps", comparisons=True)["method"]), {"none", "subspace 4×"})


class Quantities(unittest.TestCase):
    def test_they_are_read_as_scenarios_write_them(self):
        self.assertEqual(quantities.parse_bandwidth("80Mbps"), 80e6)
        self.assertEqual(quantities.parse_bandwidth("1.5 Gbps"), 1.5e9)
        self.assertEqual(quantities.parse_duration("20ms"), 0.02)
        self.assertTrue(math.isnan(quantities.parse_bandwidth("80MB")))
        self.assertTrue(math.isnan(quantities.parse_bandwidth(None)))

    def test_they_are_written_in_the_unit_that_reads_best(self):
        self.assertEqual([quantities.bandwidth(b) for b in (80e6, 1e9, 1.6e10, 500.0)], ["80 Mbps", "1 Gbps", "16 Gbps", "500 bps"])
        self.assertEqual([quantities.duration(t) for t in (0.3842, 402.0, 2e-5, 0.0)], ["384 ms", "6.7 min", "20 µs", "0 s"])
        self.assertEqual([quantities.number(v) for v in (1234567, 0.00123, 7.876, 0, -0.0999, 999.96, 1e-6)],
                         ["1,234,567", "0.00123", "7.88", "0", "−0.0999", "1,000", "1.00e−06"])


if __name__ == "__main__":
    unittest.main()
