"""`strait plot` as a user meets it, on runs made by the built program. Use: command_test.py PATH_OF_STRAIT [unittest arguments]; the
interpreter must have pandas and matplotlib."""

import json
import os
import shutil
import stat
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cli"))

import synthetic  # noqa: E402
from command_case import Case  # noqa: E402

SCENARIO = {
    "name": "plotted", "seed": 3,
    "model": {"layers": 4, "width": 32, "heads": 4, "ffn_width": 64, "context": 32},
    "training": {"steps": 6, "batch": 8, "microbatches": 4, "evaluate_every": 3, "evaluate_batches": 2, "targets": [5.0, 0.5],
                 "optimizer": {"lr": 3e-3, "warmup_steps": 2}},
    "parallel": {"pipeline": 4, "schedule": "1f1b"},
    "compression": {"pipeline": {"method": "subspace", "rank": 4}},
    "network": {"model": "fluid", "preset": "home-80m"},
    "devices": {"backend": "cpu"},
    "output": {"compare_networks": ["datacenter-100g"]},
}


class Command(Case):
    def setUp(self):
        super().setUp()
        self.environment["STRAIT_PYTHON"] = sys.executable

    def trained(self, out, **changes):
        scenario = SCENARIO | changes
        if scenario["devices"]["backend"] != "meta":
            scenario["data"] = {"corpus": str(self.corpus), "tokenizer": "byte"}
        (self.folder / f"{out}.json").write_text(json.dumps(scenario))
        self.ok("run", f"{out}.json", "--out", out, "--quiet")
        return self.folder / out


class Runs(Command):
    def test_a_run_is_drawn_from_its_own_files(self):
        run = self.trained("run")
        self.assertIn("step_attribution.svg", self.ok("plot", run))
        plots = run / "plots"
        self.assertTrue((plots / "index.html").exists())
        steps = [row for row in self.rows(run / "steps.csv") if row["step"] != "1"]
        self.assertEqual([row["method"] for row in self.rows(plots / "loss_over_time.csv")], ["subspace rank 4"] * 6)  # 2 networks
        drawn = {(row["network"], row["method"]): row for row in self.rows(plots / "step_attribution.csv")}
        self.assertEqual(set(drawn), {("80 Mbps", "none"), ("80 Mbps", "subspace rank 4"), ("100 Gbps", "none"), ("100 Gbps", "subspace rank 4")})
        row = drawn["80 Mbps", "subspace rank 4"]
        for part in (*synthetic.PARTS, "step_s"):
            self.assertAlmostEqual(float(row[part]), sum(float(step[part]) for step in steps) / len(steps), places=12)
        evals = self.rows(run / "evals.csv")
        curve = [row for row in self.rows(plots / "loss_over_time.csv") if row["network"] == "80 Mbps"]
        self.assertEqual([float(row["loss"]) for row in curve], [float(row["validation_loss"]) for row in evals])
        summary = json.loads((run / "summary.json").read_text())
        (listed,) = [row for row in self.rows(plots / "all_runs.csv") if row["point"] == "run"]
        self.assertEqual(float(listed["wire_ratio"]), summary["wire"]["pipeline"]["combined"]["wire_ratio"])
        self.assertEqual(listed["time_to_0.5_s"], "not reached")
        (ratio,) = [row for row in self.rows(plots / "ratios.csv") if row["network"] == "80 Mbps"]
        plain = json.loads((run / "compare/none-own/summary.json").read_text())
        self.assertAlmostEqual(float(ratio["step_time_ratio"]), plain["mean_step_s"] / summary["mean_step_s"], places=9)

    def test_runs_without_losses_have_the_figures_of_time(self):
        run = self.trained("meta", devices={"backend": "meta"}, training=SCENARIO["training"] | {"evaluate_every": 0}, output={})
        self.assertIn("the meta backend computes none", self.ok("plot", run, "--out", "figures", "--format", "png"))
        self.assertTrue((self.folder / "figures/pipeline_grid.png").exists())
        self.assertFalse((self.folder / "figures/loss_over_time.png").exists())
        self.assertNotIn("not reached", (self.folder / "figures/all_runs.csv").read_text())

    def test_two_runs_are_one_comparison(self):
        first, second = self.trained("first"), self.trained("second", compression={"pipeline": {"method": "none"}}, output={})
        self.ok("plot", first, second)
        self.assertEqual({row["method"] for row in self.rows(self.folder / "plots/loss_over_time.csv")}, {"none", "subspace rank 4"})


class Sweeps(Command):
    def setUp(self):
        super().setUp()
        base = {key: value for key, value in SCENARIO.items() if key not in ("compression", "output")}
        methods = [{"label": "none", "set": {"compression.pipeline.method": "none"}},
                   {"label": "half", "set": {"compression.pipeline": {"method": "subspace", "ratio": 2}}}]
        sweep = {"base": base | {"data": {"corpus": str(self.corpus), "tokenizer": "byte"}},
                 "axes": {"method": methods, "network.preset": ["home-80m", "datacenter-100g"], "seed": [1, 2]}}
        (self.folder / "sweep.json").write_text(json.dumps(sweep))
        self.ok("sweep", "sweep.json", "--out", "sweep", "--jobs", "1")
        self.table = self.rows(self.folder / "sweep/runs.csv")

    def test_a_sweep_is_drawn_with_the_figures_of_its_table(self):
        self.ok("plot", "sweep")
        plots = self.folder / "sweep/plots"
        self.assertIn("8 points: 8 finished.", (plots / "index.html").read_text())
        listed = {row["point"]: row for row in self.rows(plots / "all_runs.csv")}
        for row in self.table:
            for column in ("final_validation_loss", "time_s", "mean_step_s", "tokens_per_s", "wire_ratio"):
                self.assertEqual(float(listed[row["point"]][column]), float(row[column]))
            self.assertEqual(listed[row["point"]]["time_to_0.5_s"], row["time_to_0.5_s"])
        for drawn in self.rows(plots / "loss_over_wire_ratio.csv"):
            losses = {row["seed"]: float(row["final_validation_loss"]) for row in self.table if row["method"] == drawn["method"]}
            self.assertAlmostEqual(float(drawn["loss"]), sum(losses.values()) / 2, places=12)
        for drawn in self.rows(plots / "ratios.csv"):
            preset = "home-80m" if drawn["network"] == "80 Mbps" else "datacenter-100g"
            step = {row["method"]: float(row["mean_step_s"]) for row in self.table if row["network.preset"] == preset}
            self.assertAlmostEqual(float(drawn["step_time_ratio"]), step["none"] / step["half"], places=9)

    def test_a_sweep_that_is_cut_off_is_drawn_as_far_as_it_is(self):
        table = self.folder / "sweep/runs.csv"
        table.write_text("".join(table.read_text().splitlines(keepends=True)[:4]))
        for point in [row["point"] for row in self.table][4:]:
            shutil.rmtree(self.folder / "sweep/runs" / point)
        (self.folder / "sweep/runs" / self.table[3]["point"] / "summary.json").unlink()
        self.ok("plot", "sweep")
        self.assertIn("8 points: 3 finished, 1 unfinished, 4 not begun.", (self.folder / "sweep/plots/index.html").read_text())


class Errors(Command):
    def test_what_is_no_run_and_no_sweep_exits_with_2(self):
        for directory, text in (("nowhere", "no such directory"), (self.folder, "neither a run directory")):
            done = self.strait("plot", directory)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(text, done.stderr)
        self.assertEqual(self.strait("plot").returncode, 2)
        self.assertEqual(self.strait("plot", self.folder, "--format", "gif").returncode, 2)

    def test_a_damaged_file_is_named(self):
        synthetic.write_run(self.folder / "run", "none", "80Mbps", 1)
        (self.folder / "run/evals.csv").write_text("step,loss\n1,2\n")
        done = self.strait("plot", "run")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("run/evals.csv", done.stderr)
        self.assertNotIn("Traceback", done.stderr)

    def test_an_output_folder_that_cannot_be_made_is_an_error(self):
        synthetic.write_run(self.folder / "run", "none", "80Mbps", 1)
        (self.folder / "file").write_text("")
        done = self.strait("plot", "run", "--out", "file/plots")
        self.assertEqual(done.returncode, 1)
        self.assertIn("file", done.stderr)
        self.assertNotIn("Traceback", done.stderr)

    def test_without_the_packages_the_debian_names_are_given(self):
        synthetic.write_run(self.folder / "run", "none", "80Mbps", 1)
        poor = self.folder / "python3"
        poor.write_text("#!/bin/sh\nexit 1\n")
        poor.chmod(poor.stat().st_mode | stat.S_IXUSR)
        done = self.strait("plot", "run", STRAIT_PYTHON=str(poor))
        self.assertEqual(done.returncode, 1)
        for text in ("apt-get install python3 python3-pandas python3-matplotlib", str(poor)):
            self.assertIn(text, done.stderr)

    @unittest.skipUnless(sys.version_info >= (3, 11), "older ones look into the current folder first")
    def test_a_script_in_the_current_folder_is_not_mistaken_for_a_package(self):
        synthetic.write_run(self.folder / "run", "none", "80Mbps", 1)
        (self.folder / "pandas.py").write_text("raise SystemExit('the wrong one')")
        self.ok("plot", "run")

    @unittest.skipUnless(os.path.realpath(sys.executable) == os.path.realpath("/usr/bin/python3"), "the system's Python lacks the packages")
    def test_a_python_on_the_path_without_the_packages_is_passed_over(self):
        synthetic.write_run(self.folder / "run", "none", "80Mbps", 1)
        poor = self.folder / "bin/python3"
        poor.parent.mkdir()
        poor.write_text("#!/bin/sh\nexit 1\n")
        poor.chmod(poor.stat().st_mode | stat.S_IXUSR)
        self.ok("plot", "run", PATH=f"{poor.parent}:{os.environ['PATH']}", STRAIT_PYTHON="")


if __name__ == "__main__":
    unittest.main()
