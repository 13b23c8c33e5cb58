#!/usr/bin/env python3
"""Sweeps through a real Slurm, with a cluster of one node that the test starts: the same table as the local launcher's, failures,
interruption, going on. Exit status 77: Slurm is not installed. Usage: slurm_test.py PATH_OF_STRAIT [unittest arguments]"""
import json
import pathlib
import signal
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cli"))

import local_cluster  # noqa: E402
from command_case import Case  # noqa: E402


def setUpModule():
    global cluster
    cluster = local_cluster.LocalCluster()
    cluster.__enter__()
    unittest.addModuleCleanup(cluster.__exit__)


class SlurmSweeps(Case):
    def setUp(self):
        super().setUp()
        self.environment = self.environment | cluster.environment
        self.sweep = {
            "base": {
                "model": {"layers": 4, "width": 32, "heads": 4, "ffn_width": 64, "context": 32},
                "data": {"corpus": "./corpus.txt", "tokenizer": "byte"},
                "training": {"steps": 8, "batch": 8, "microbatches": 4, "evaluate_every": 4, "evaluate_batches": 2,
                             "optimizer": {"lr": 3e-3}, "targets": [5.5, 1.0]},
                "parallel": {"pipeline": 4},
                "network": {"model": "fluid", "preset": "home-80m"},
                "devices": {"backend": "cpu"}},
            "axes": {
                "method": [{"label": "none", "set": {"compression.pipeline.method": "none"}},
                           {"label": "subspace 4", "set": {"compression.pipeline": {"method": "subspace", "rank": 4}}}],
                "network.links.bandwidth": ["80Mbps", "300Mbps", "1Gbps"]}}

    def run_sweep(self, *arguments, cache="cache", **variables):
        (self.folder / "sweep.json").write_text(json.dumps(self.sweep, indent=1))
        return self.strait("sweep", "sweep.json", *arguments, STRAIT_CACHE=str(self.folder / cache), **variables)

    def swept(self, *arguments, cache="cache"):
        done = self.run_sweep(*arguments, cache=cache)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr + cluster.logs())
        return done.stdout

    def table(self, out):
        return (self.folder / out / "runs.csv").read_bytes()

    def points(self, out):
        return self.rows(self.folder / out / "runs.csv")

    def queue(self):
        return cluster.ask("squeue", "--noheader", "--format=%A %T").stdout.strip()

    def test_both_launchers_give_the_same_table_and_the_same_traces(self):
        self.swept("--out", "local", cache="cache-local")
        out = self.swept("--out", "slurm", "--launcher", "slurm", cache="cache-slurm")
        self.assertIn("submitted", out)
        self.assertEqual(self.table("slurm"), self.table("local"))
        self.assertEqual({row["status"] for row in self.points("slurm")}, {"ok"})
        for row in self.points("local"):
            for name in ("steps.csv", "evals.csv", "links.csv", "timeline.json"):
                self.assertEqual((self.folder / "local" / row["path"] / name).read_bytes(),
                                 (self.folder / "slurm" / row["path"] / name).read_bytes())
        scripts = {p.name: p.read_text() for p in (self.folder / "slurm/slurm").glob("*.sh")}
        self.assertEqual(set(scripts), {"trainings.sh", "replays.sh"})
        self.assertIn("#SBATCH --array=0-1\n", scripts["trainings.sh"])
        self.assertIn("#SBATCH --array=0-5\n", scripts["replays.sh"])
        # There is nothing left to do, for either launcher.
        self.assertNotIn("submitted", self.swept("--out", "slurm", "--launcher", "slurm"))
        self.assertIn("0 trainings, 0 points", self.swept("--out", "slurm"))
        self.assertEqual(self.table("slurm"), self.table("local"))

    def test_a_training_that_fails_is_told_in_its_rows_as_the_local_launcher_tells_it(self):
        self.swept("--out", "whole")
        key = json.loads((self.folder / "whole/plan.json").read_text())["trainings"][1]["key"]
        for out, launcher in (("a", "local"), ("b", "slurm")):
            (self.folder / out / "trainings" / key / "record/log.strait").mkdir(parents=True)
            done = self.run_sweep("--out", out, "--launcher", launcher)
            self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        rows = self.points("b")
        self.assertEqual([row["status"] == "ok" for row in rows], [True] * 3 + [False] * 3)
        self.assertIn(key, rows[3]["status"])
        self.assertEqual(self.table("a"), self.table("b"))

    def test_interrupted_or_killed_the_jobs_go_on_and_the_same_command_collects_them(self):
        self.sweep["base"]["training"].update(steps=600)
        self.swept("--out", "local", cache="cache-local")
        for ending, status in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
            process = self.start("sweep", "sweep.json", "--out", "slurm", "--launcher", "slurm", STRAIT_CACHE=str(self.folder / "cache-slurm"))
            self.wait_for(lambda: "RUNNING" in self.queue(), process)
            process.send_signal(ending)
            output, errors = process.communicate(timeout=60)
            self.assertEqual(process.returncode, status, output + errors)
        # However the directory is written, the jobs are found.
        self.assertIn("jobs of an earlier session go on", self.swept("--out", "./slurm/", "--launcher", "slurm", cache="cache-slurm"))
        self.assertEqual(self.table("slurm"), self.table("local"))

    def test_without_slurm_the_error_says_what_is_missing(self):
        done = self.run_sweep("--out", "out", "--launcher", "slurm", PATH=str(self.folder))
        self.assertEqual(done.returncode, 2)
        self.assertIn("found no sbatch in PATH", done.stderr)


if __name__ == "__main__":
    if missing := local_cluster.missing_programs():
        print(f"skipped: not installed: {', '.join(missing)} (Debian: slurm-wlm, munge)")
        sys.exit(77)
    unittest.main(verbosity=2)
