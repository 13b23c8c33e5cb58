#!/usr/bin/env python3
"""Sweeps through a real Slurm, with a cluster of one node that the test starts: the same table as the local launcher's, failures,
interruption, going on. Exit status 77: Slurm is not installed. Usage: slurm_test.py PATH_OF_STRAIT [unittest arguments]"""
import csv
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import local_cluster

STRAIT = sys.argv.pop(1)
WORDS = "the sea was calm and the ship went slowly over the strait while the crew slept under a pale moon".split()


def setUpModule():
    global cluster
    cluster = local_cluster.LocalCluster()
    cluster.__enter__()
    unittest.addModuleCleanup(cluster.__exit__)


class SlurmSweeps(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="strait slurm "))
        self.addCleanup(shutil.rmtree, self.folder, True)
        corpus = self.folder / "corpus.txt"
        corpus.write_text("\n".join(" ".join(WORDS[(i * j) % len(WORDS)] for j in range(1, 12)) for i in range(1, 400)))
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

    def environment(self, cache):
        return dict(cluster.environment, STRAIT_CACHE=str(self.folder / cache))

    def command(self, *arguments):
        (self.folder / "sweep.json").write_text(json.dumps(self.sweep, indent=1))
        return [STRAIT, "sweep", "sweep.json", *arguments]

    def run_sweep(self, *arguments, cache="cache"):
        return subprocess.run(self.command(*arguments), cwd=self.folder, env=self.environment(cache), capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=240)

    def ok(self, *arguments, cache="cache"):
        done = self.run_sweep(*arguments, cache=cache)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr + cluster.logs())
        return done.stdout

    def table(self, out):
        return (self.folder / out / "runs.csv").read_bytes()

    def rows(self, out):
        with open(self.folder / out / "runs.csv", newline="") as file:
            return list(csv.DictReader(file))

    def queue(self):
        return cluster.ask("squeue", "--noheader", "--format=%A %T").stdout.strip()

    def wait_for(self, condition, process):
        deadline = time.time() + 60
        while time.time() < deadline and process.poll() is None and not condition():
            time.sleep(0.05)

    def test_both_launchers_give_the_same_table_and_the_same_traces(self):
        self.ok("--out", "local", cache="cache-local")
        out = self.ok("--out", "slurm", "--launcher", "slurm", cache="cache-slurm")
        self.assertIn("submitted", out)
        self.assertEqual(self.table("slurm"), self.table("local"))
        self.assertEqual({row["status"] for row in self.rows("slurm")}, {"ok"})
        for row in self.rows("local"):
            for name in ("steps.csv", "evals.csv", "links.csv", "timeline.json"):
                self.assertEqual((self.folder / "local" / row["path"] / name).read_bytes(),
                                 (self.folder / "slurm" / row["path"] / name).read_bytes())
        scripts = {p.name: p.read_text() for p in (self.folder / "slurm/slurm").glob("*.sh")}
        self.assertEqual(set(scripts), {"trainings.sh", "replays.sh"})
        self.assertIn("#SBATCH --array=0-1\n", scripts["trainings.sh"])
        self.assertIn("#SBATCH --array=0-5\n", scripts["replays.sh"])
        # There is nothing left to do, for either launcher.
        self.assertNotIn("submitted", self.ok("--out", "slurm", "--launcher", "slurm"))
        self.assertIn("0 trainings, 0 points", self.ok("--out", "slurm"))
        self.assertEqual(self.table("slurm"), self.table("local"))

    def test_a_training_that_fails_is_told_in_its_rows_as_the_local_launcher_tells_it(self):
        self.ok("--out", "whole")
        key = json.loads((self.folder / "whole/plan.json").read_text())["trainings"][1]["key"]
        for out, launcher in (("a", "local"), ("b", "slurm")):
            (self.folder / out / "trainings" / key / "record/log.strait").mkdir(parents=True)
            done = self.run_sweep("--out", out, "--launcher", launcher)
            self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        rows = self.rows("b")
        self.assertEqual([row["status"] == "ok" for row in rows], [True] * 3 + [False] * 3)
        self.assertIn(key, rows[3]["status"])
        self.assertEqual(self.table("a"), self.table("b"))

    def test_interrupted_or_killed_the_jobs_go_on_and_the_same_command_collects_them(self):
        self.sweep["base"]["training"].update(steps=600)
        self.ok("--out", "local", cache="cache-local")
        command = self.command("--out", "slurm", "--launcher", "slurm")
        for ending, status in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
            process = subprocess.Popen(command, cwd=self.folder, env=self.environment("cache-slurm"), stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.wait_for(lambda: "RUNNING" in self.queue(), process)
            process.send_signal(ending)
            output, errors = process.communicate(timeout=60)
            self.assertEqual(process.returncode, status, output + errors)
        self.assertIn("jobs of an earlier session go on", self.ok("--out", "slurm", "--launcher", "slurm", cache="cache-slurm"))
        self.assertEqual(self.table("slurm"), self.table("local"))

    def test_without_slurm_the_error_says_what_is_missing(self):
        environment = dict(self.environment("cache"), PATH=str(self.folder))
        done = subprocess.run(self.command("--out", "out", "--launcher", "slurm"), cwd=self.folder, env=environment, capture_output=True,
                              text=True, stdin=subprocess.DEVNULL, timeout=60)
        self.assertEqual(done.returncode, 2)
        self.assertIn("found no sbatch in PATH", done.stderr)


if __name__ == "__main__":
    if missing := local_cluster.missing_programs():
        print(f"skipped: not installed: {', '.join(missing)} (Debian: slurm-wlm, munge)")
        sys.exit(77)
    unittest.main(verbosity=2)
