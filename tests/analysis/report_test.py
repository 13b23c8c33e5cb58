"""The numbers beside the figures, and what can be said of a figure without looking: that no text is cut or overlaps another, that it is
the same every time."""

import csv
import io
import itertools
import json
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

import pandas
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

SOURCE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "analysis"))

import synthetic  # noqa: E402
from strait_analysis import FIGURES, NotApplicable, load_sweep, write_report  # noqa: E402
from strait_analysis.style import styled  # noqa: E402
from strait_analysis.tables import latex_text  # noqa: E402


class Folder(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="strait analysis "))
        self.addCleanup(shutil.rmtree, self.folder)
        synthetic.write_sweep(self.folder / "sweep")
        self.sweep = load_sweep(self.folder / "sweep")


class Numbers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="strait analysis "))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        synthetic.write_sweep(cls.folder / "sweep")
        cls.report = write_report(load_sweep(cls.folder / "sweep"), cls.folder / "out")

    def rows(self, name, **having):
        """The rows of a figure's CSV file that have these values."""
        text = (self.folder / "out" / f"{name}.csv").read_text()
        return [row for row in csv.DictReader(io.StringIO(text)) if all(row[key] == value for key, value in having.items())]

    def test_every_figure_is_drawn_with_its_numbers_and_named_on_the_page(self):
        self.assertEqual(self.report.missing, [])
        self.assertEqual(len(self.report.drawn), len(FIGURES))
        page = (self.folder / "out/index.html").read_text()
        expected = {"index.html", "all_runs.csv", "all_runs.tex"}
        for name in FIGURES:
            expected |= {f"{name}.svg", f"{name}.csv", f"{name}.tex"}
            self.assertIn(f'src="{name}.svg"', page)
        self.assertEqual({path.name for path in (self.folder / "out").iterdir()}, expected)

    def test_loss_over_time_is_the_mean_over_seeds_with_its_range(self):
        (row,) = self.rows("loss_over_time", network="1 Gbps", method="none", step="4")
        self.assertEqual([float(row[key]) for key in ("time_s", "loss", "lowest", "highest", "n")], [5.0, 4.02, 4.01, 4.03, 3])

    def test_a_target_that_was_not_reached_is_said_not_to_be(self):
        (row,) = self.rows("time_to_target", target="4.05", method="subspace 4x", network="80 Mbps")
        self.assertEqual((row["time_s"], row["reached"], row["n"]), ("not reached", "0", "3"))
        (row,) = self.rows("time_to_target", target="4.05", method="none", network="80 Mbps")
        self.assertEqual((float(row["time_s"]), row["reached"]), (40.0, "3"))
        self.assertIn("not reached", (self.folder / "out/time_to_target.tex").read_text())
        (row,) = self.rows("all_runs", point="subspace-4x_80Mbps_1")
        self.assertEqual(row["time_to_4.05_s"], "not reached")

    def test_the_parts_of_a_step_add_up_to_its_mean_without_the_first_step(self):
        (row,) = self.rows("step_attribution", network="80 Mbps", method="none")
        self.assertEqual(float(row["step_s"]), 8.0)
        self.assertEqual(sum(float(row[part]) for part in synthetic.PARTS), 8.0)

    def test_ratios_are_those_of_bytes_transfers_and_steps(self):
        (row,) = self.rows("ratios", network="80 Mbps")
        self.assertEqual([round(float(row[key]), 9) for key in ("bytes_ratio", "transfer_time_ratio", "step_time_ratio")], [4, 4, 4])
        (row,) = self.rows("ratios", network="1 Gbps")
        self.assertEqual([round(float(row[key]), 9) for key in ("bytes_ratio", "transfer_time_ratio", "step_time_ratio")], [4, 2, 2])

    def test_ranks_and_the_pareto_front(self):
        (row,) = self.rows("rank_time", network="1 Gbps", method="none", rank="1")
        self.assertEqual([float(row[key]) for key in ("compute_s", "codec_s", "waiting_s", "idle_s", "step_s")], [0.25, 0, 0.5, 0.25, 1.0])
        self.assertEqual([row["on_front"] for row in self.rows("loss_over_wire_ratio")], ["True", "True"])
        self.assertEqual([float(row["wire_ratio"]) for row in self.rows("loss_over_wire_ratio")], [1.0, 4.0])

    def test_the_grid_counts_time_from_the_end_of_the_step_before(self):
        (row,) = self.rows("pipeline_grid", kind="message", method="none")
        self.assertEqual((round(float(row["start_s"]), 9), round(float(row["end_s"]), 9), row["network"]), (0.1, 0.3, "80 Mbps"))

    def test_latex_tables_have_as_many_cells_in_every_row_and_escape_what_latex_takes_for_commands(self):
        for path in (self.folder / "out").glob("*.tex"):
            lines = path.read_text().splitlines()
            columns = len(lines[2][lines[2].index("}{") + 2:-1])
            rows = [line for line in lines if line.endswith(r"\\")]
            self.assertGreater(len(rows), 1, path)
            self.assertEqual({line.count(" & ") + 1 for line in rows}, {columns}, path)
        frame = pandas.DataFrame({"method": ["50% a_b & c\\"]})
        self.assertIn(r"50\% a\_b \& c\textbackslash{}", latex_text(frame, "caption"))


class Partial(Folder):
    def test_with_one_seed_there_is_no_interval_and_the_title_says_so(self):
        for point in (self.folder / "sweep/runs").glob("*_[23]"):
            shutil.rmtree(point)
        (self.folder / "sweep/plan.json").unlink()
        table = self.folder / "sweep/runs.csv"
        table.write_text("".join(line for line in table.read_text().splitlines(keepends=True) if not ("_2," in line or "_3," in line)))
        drawn = FIGURES["paired_differences"](load_sweep(self.folder / "sweep"))
        self.assertIn("one seed: no interval", drawn.title)
        self.assertTrue(drawn.data["low"].isna().all())

    def test_a_table_without_run_directories_is_drawn_as_far_as_it_goes(self):
        shutil.rmtree(self.folder / "sweep/runs")
        report = write_report(load_sweep(self.folder / "sweep"), self.folder / "out")
        self.assertEqual([drawn.name for drawn in report.drawn], ["time_to_target", "loss_over_wire_ratio", "paired_differences"])

    def test_a_training_that_diverges_ends_where_its_loss_does(self):
        for path in (self.folder / "sweep/runs").glob("none*/evals.csv"):
            lines = path.read_text().splitlines()
            path.write_text("\n".join([*lines[:-1], ",".join([*lines[-1].split(",")[:3], "inf", "inf"])]) + "\n")
        drawn = FIGURES["loss_over_time"](load_sweep(self.folder / "sweep"))
        assert_readable(self, drawn.figure)
        self.assertEqual(drawn.data[drawn.data["method"] == "none"]["step"].max(), 2)

    def test_a_target_that_holds_from_the_start_has_no_place_on_a_logarithm(self):
        for path in (self.folder / "sweep/runs").glob("*/summary.json"):
            path.write_text(path.read_text().replace('"step": 4, "time_s": 40.0', '"step": 0, "time_s": 0.0'))
        sweep = load_sweep(self.folder / "sweep")
        drawn = FIGURES["time_to_target"](sweep)
        assert_readable(self, drawn.figure)
        self.assertIn(0.0, set(drawn.data["time_s"]))
        assert_readable(self, FIGURES["paired_differences"](sweep).figure)

    def test_a_pipeline_of_one_stage_has_no_ratios(self):
        for path in (self.folder / "sweep/runs").glob("*/summary.json"):
            summary = json.loads(path.read_text())
            summary["wire"]["all"] = {"combined": summary["wire"]["all"]["combined"] | {"bytes": 0, "transfer_s": 0.0}}
            path.write_text(json.dumps(summary))
        with self.assertRaises(NotApplicable):
            FIGURES["ratios"](load_sweep(self.folder / "sweep"))

    def test_a_shorter_comparison_is_compared_by_its_later_steps(self):
        synthetic.write_run(self.folder / "run", "subspace 4x", "80Mbps", 1)
        short = self.folder / "run/compare/none-own"
        synthetic.write_run(short, "none", "80Mbps", 1, steps=2)
        scenario, summary = synthetic.scenario("none", "80Mbps", 1), synthetic.summary("none", "80Mbps", 1)
        scenario["training"]["steps"] = 2
        (short / "scenario.json").write_text(json.dumps(scenario))
        (short / "summary.json").write_text(json.dumps(summary | {"steps": 2, "time_s": 24.0, "mean_step_s": 12.0}))
        drawn = FIGURES["ratios"](load_sweep(self.folder / "run"))
        assert_readable(self, drawn.figure)
        # 8 s over 2 s, not 12 s over 2.5 s: twice as long a first step weighs more among two than among four.
        self.assertAlmostEqual(drawn.data.at[0, "step_time_ratio"], 4.0, places=9)
        self.assertTrue(pandas.isna(drawn.data.at[0, "transfer_time_ratio"]))  # neither lists its messages

    def test_a_sweep_that_has_only_begun_says_what_is_missing(self):
        shutil.rmtree(self.folder / "sweep/runs")
        (self.folder / "sweep/runs.csv").unlink()
        report = write_report(load_sweep(self.folder / "sweep"), self.folder / "out")
        self.assertEqual(report.drawn, [])
        self.assertEqual([name for name, _ in report.missing], list(FIGURES))
        self.assertIn("12 not begun", (self.folder / "out/index.html").read_text())


class Drawing(Folder):
    def test_two_reports_are_the_same_bytes_in_every_format(self):
        for image_format in ("svg", "png", "pdf"):
            for name in ("a", "b"):
                write_report(load_sweep(self.folder / "sweep"), self.folder / name, image_format)
        files = sorted(path.name for path in (self.folder / "a").iterdir())
        self.assertEqual(sum(name.endswith((".svg", ".png", ".pdf")) for name in files), 3 * len(FIGURES))
        for name in files:
            self.assertEqual((self.folder / "a" / name).read_bytes(), (self.folder / "b" / name).read_bytes(), name)

    def test_no_text_is_cut_and_no_tick_label_touches_its_neighbour(self):
        for name, make in FIGURES.items():
            with self.subTest(name):
                assert_readable(self, make(self.sweep).figure)

    def test_long_names_many_methods_and_many_networks_find_their_place(self):
        rates = ["8Mbps", "80Mbps", "300Mbps", "1Gbps", "16Gbps", "100Gbps", "400Gbps"]
        names = ["none", *(f"a method with a rather long name {i}" for i in range(8)), "a name " + "without end " * 12]
        lines = ["point,method,network.links.bandwidth,seed,status,steps,path"]
        for (m, method), rate in itertools.product(enumerate(names), rates):
            kind, model = ("none" if m == 0 else "subspace 4x"), f"runs/{m}-{rate}"
            synthetic.write_run(self.folder / "wide" / model, kind, "80Mbps", 1)
            scenario = self.folder / "wide" / model / "scenario.json"
            scenario.write_text(scenario.read_text().replace("80Mbps", rate).replace("4.0}", f"{m + 2}}}"))
            lines.append(f"{m}-{rate},{method},{rate},1,ok,4,{model}")
        (self.folder / "wide/runs.csv").write_text("\n".join(lines) + "\n")
        sweep = load_sweep(self.folder / "wide")
        self.assertEqual((len(sweep.methods), len(sweep.networks)), (10, 7))
        for name, make in FIGURES.items():
            with self.subTest(name):
                assert_readable(self, make(sweep).figure)

    def test_networks_of_one_bandwidth_are_lines_of_their_own(self):
        synthetic.write_sweep(self.folder / "packet")
        for scenario in (self.folder / "packet/runs").glob("*/scenario.json"):
            scenario.write_text(scenario.read_text().replace('"fluid"', '"packet"'))
        sweep = load_sweep(self.folder / "sweep", self.folder / "packet")
        self.assertEqual(sweep.networks, ["80 Mbps, fluid", "80 Mbps, packet", "1 Gbps, fluid", "1 Gbps, packet"])
        for name, make in FIGURES.items():
            with self.subTest(name):
                assert_readable(self, make(sweep).figure)
        legend = {text.get_text() for text in FIGURES["time_to_target"](sweep).figure.legends[0].get_texts()}
        self.assertEqual(legend, {f"{method} ({model})" for method in synthetic.METHODS for model in ("fluid", "packet")})

    def test_a_figure_on_one_network_alone(self):
        for point in (self.folder / "sweep/runs").glob("*1Gbps*"):
            shutil.rmtree(point)
        (self.folder / "sweep/runs.csv").unlink()
        sweep = load_sweep(self.folder / "sweep")
        for name, make in FIGURES.items():
            with self.subTest(name):
                assert_readable(self, make(sweep).figure)

    def test_one_run_has_the_figures_that_need_no_other(self):
        sweep = load_sweep(self.folder / "sweep/runs/none_80Mbps_1")
        drawn = set()
        for name, make in FIGURES.items():
            try:
                assert_readable(self, make(sweep).figure)
                drawn.add(name)
            except NotApplicable as reason:
                self.assertTrue(str(reason))
        self.assertEqual(drawn, {"loss_over_time", "step_attribution", "rank_time", "pipeline_grid"})


@styled
def assert_readable(test, figure):
    """Every text lies within the figure, and the labels of an axis do not overlap."""
    figure.set_dpi(300)  # at few dots an inch letters are moved to whole dots, which widens texts
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    renderer, page = canvas.get_renderer(), figure.bbox
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip():
            box = text.get_window_extent(renderer)
            inside = box.x0 >= page.x0 - 1 and box.x1 <= page.x1 + 1 and box.y0 >= page.y0 - 1 and box.y1 <= page.y1 + 1
            test.assertTrue(inside or not drawn_tick(text, figure), f"cut: {text.get_text()!r} at {box}")
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            labels = [t.get_window_extent(renderer) for t in shown_labels(axis)]
            for a, b in itertools.combinations(labels, 2):
                apart = a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0
                test.assertTrue(apart, f"tick labels overlap: {[t.get_text() for t in shown_labels(axis)]}")


def shown_labels(axis):
    """The labels of ticks within the limits: the others are not drawn."""
    low, high = sorted(axis.get_view_interval())
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    span = high - low
    return [t.label1 for t in ticks if t.label1.get_text().strip() and low - 1e-9 * span <= t.get_loc() <= high + 1e-9 * span]


def drawn_tick(text, figure):
    """Not a tick label beyond the limits of its axis."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            if any(text in (t.label1, t.label2) for t in ticks):
                return text in shown_labels(axis)
    return True


if __name__ == "__main__":
    unittest.main()
