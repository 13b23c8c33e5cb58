#!/usr/bin/env python3
"""Sweeps, replays and the cache as a user meets them: files, errors, repeatability, interruption, kills.
Usage: sweep_test.py PATH_OF_STRAIT [unittest arguments]"""
import fcntl
import json
import os
import shutil
import subprocess
import time
import unittest

from command_case import STRAIT, Case

NONE = {"label": "none", "set": {"compression.pipeline.method": "none"}}
SUBSPACE = {"label": "subspace 4", "set": {"compression.pipeline.method": "subspace", "compression.pipeline.rank": 4}}
TRACES = ("steps.csv", "evals.csv", "ranks.csv", "links.csv", "messages.csv", "timeline.json")


class Sweeps(Case):
    def setUp(self):
        super().setUp()
        self.base = {
            "seed": 3,
            "model": {"layers": 4, "width": 32, "heads": 4, "ffn_width": 64, "context": 32},
            "data": {"corpus": str(self.corpus), "tokenizer": "byte"},
            "training": {"steps": 8, "batch": 8, "microbatches": 4, "evaluate_every": 4, "evaluate_batches": 2,
                         "optimizer": {"lr": 3e-3, "warmup_steps": 2}, "targets": [5.5, 1.0]},
            "parallel": {"pipeline": 4},
            "network": {"model": "fluid", "preset": "home-80m"},
            "devices": {"backend": "cpu"}}

    def write(self, name="sweep.json", **keys):
        sweep = {"base": self.base, "axes": {"method": [NONE, SUBSPACE], "network.links.bandwidth": ["80Mbps", "300Mbps", "1Gbps"]}}
        sweep.update(keys)
        path = self.folder / name
        path.write_text(json.dumps(sweep, indent=1))
        return path

    def run_once(self):
        path = self.folder / "base.json"
        path.write_text(json.dumps(self.base))
        self.ok("run", path, "--out", "run", "--quiet")
        return self.folder / "run"

    def files(self, root):
        """Everything that must not depend on how the sweep went: all traces and the table."""
        found = {}
        for path in sorted(root.rglob("*")):
            if path.is_file() and (path.name in TRACES or path.name in ("runs.csv", "sweep.json", "plan.json", "log.strait")):
                if path.name != "log.strait":  # host seconds are in its footer
                    found[str(path.relative_to(root))] = path.read_bytes()
        return found

    def leftovers(self, root):
        return [str(p) for p in root.rglob("*") if p.name.endswith((".tmp", ".part", ".gone")) or p.name == "errors.txt"]

    # ---- replay

    def test_a_replay_of_the_run_s_own_scenario_is_the_run_byte_for_byte(self):
        run = self.run_once()
        self.ok("replay", run)
        for name in TRACES:
            self.assertEqual((run / name).read_bytes(), (run / "replays/again" / name).read_bytes(), name)

    def test_a_replay_needs_the_record_alone(self):
        run = self.run_once()
        self.corpus.unlink()
        shutil.rmtree(self.folder / "cache")
        out = self.ok("replay", run, "--set", "network.preset=datacenter-100g", "--set", "devices.timing.device=H100")
        self.assertIn("replays/datacenter-100g_H100", out)
        self.assertLess(float(self.rows(run / "replays/datacenter-100g_H100/steps.csv")[-1]["time_s"]),
                        float(self.rows(run / "steps.csv")[-1]["time_s"]) / 10)
        again = self.ok("replay", run / "replays/datacenter-100g_H100", "--out", "third", "--set", "network.model=ideal")
        self.assertIn("third", again)

    def test_what_would_change_the_record_is_refused_key_by_key(self):
        run = self.run_once()
        done = self.strait("replay", run, "--set", "seed=4", "--set", "training.optimizer.lr=1", "--set", "parallel.schedule=gpipe",
                           "--set", "network.seed=4")
        self.assertEqual(done.returncode, 2)
        for key in ("seed would", "training.optimizer.lr would", "parallel.schedule would", "network, devices.timing, devices.ranks"):
            self.assertIn(key, done.stderr)
        self.assertNotIn("network.seed would", done.stderr)
        self.assertFalse((run / "replays").exists())

    def test_replays_overwrite_nothing(self):
        run = self.run_once()
        for name in ("again", "again-2"):
            self.assertIn("replays/" + name, self.ok("replay", run))
        self.assertEqual(self.strait("replay", run, "--out", run).returncode, 2)
        self.assertEqual(self.strait("replay", self.folder).returncode, 2)

    # ---- sweep

    def test_a_sweep_trains_each_record_once_and_its_points_are_what_runs_would_be(self):
        out = self.ok("sweep", self.write(), "--out", "out")
        self.assertIn("6 points", out)
        root = self.folder / "out"
        self.assertEqual(len([p for p in (root / "trainings").iterdir() if p.is_dir()]), 2)
        rows = self.rows(root / "runs.csv")
        self.assertEqual([row["point"] for row in rows], [p["name"] for p in json.loads((root / "plan.json").read_text())["points"]])
        self.assertEqual({row["status"] for row in rows}, {"ok"})
        self.assertEqual({row["time_to_1_s"] for row in rows}, {"not reached"})
        self.assertEqual(self.leftovers(root), [])
        for row in rows:
            point = root / row["path"]
            summary = json.loads((point / "summary.json").read_text())
            self.assertEqual(row["final_loss"], repr(summary["final_loss"]))
            self.assertEqual(float(row["best_validation_loss"]), min(float(e["validation_loss"]) for e in self.rows(point / "evals.csv")))
            self.assertEqual(float(row["time_s"]), float(self.rows(point / "steps.csv")[-1]["time_s"]))
        # A point is a run: the same scenario through `run`, and another replay of it.
        point = root / rows[4]["path"]
        self.ok("run", point / "scenario.json", "--out", "alone", "--quiet", "--no-cache")
        self.ok("replay", point, "--out", "again")
        for name in TRACES:
            self.assertEqual((point / name).read_bytes(), (self.folder / "alone" / name).read_bytes(), name)
            self.assertEqual((point / name).read_bytes(), (self.folder / "again" / name).read_bytes(), name)
        shown = subprocess.run([STRAIT.with_name("strait-sim"), point, "--out", self.folder / "direct"], capture_output=True)
        self.assertEqual(shown.returncode, 0, shown.stderr)

    def test_the_table_does_not_depend_on_the_number_of_jobs(self):
        sweep = self.write()
        self.ok("sweep", sweep, "--out", "a", "--jobs", "1")
        shutil.rmtree(self.folder / "cache/trainings")
        self.ok("sweep", sweep, "--out", "b", "--jobs", "5", "--quiet")
        self.assertEqual(self.files(self.folder / "a"), self.files(self.folder / "b"))

    def test_a_dry_run_says_what_would_be_and_writes_nothing(self):
        out = self.ok("sweep", self.write(), "--dry-run")
        for text in ("subspace-4_300Mbps", "trainings         2", "replays           6", "host time"):
            self.assertIn(text, out)
        self.assertFalse((self.folder / "sweeps").exists())
        self.assertFalse((self.folder / "cache").exists())

    def test_a_failing_point_is_a_row_with_its_error_and_does_not_stop_the_rest(self):
        sweep = self.write(axes={"seed": [1, 2, 3]})
        self.ok("sweep", sweep, "--out", "good")
        keys = [t["key"] for t in json.loads((self.folder / "good/plan.json").read_text())["trainings"]]
        # The second training cannot write its record: a directory has its name.
        shutil.copytree(self.folder / "good", self.folder / "bad", symlinks=True)
        (self.folder / "bad/trainings" / keys[1] / "record/log.strait").unlink()
        (self.folder / "bad/trainings" / keys[1] / "record/log.strait").mkdir()
        shutil.rmtree(self.folder / "bad/runs/seed-2")
        done = self.strait("sweep", sweep, "--out", "bad/")
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        rows = self.rows(self.folder / "bad/runs.csv")
        self.assertEqual([row["status"] == "ok" for row in rows], [True, False, True])
        self.assertIn(f" trainings/{keys[1]}/record/log.strait", rows[1]["status"])
        self.assertNotIn(str(self.folder), rows[1]["status"])
        self.assertIn("seed-2", rows[1]["path"])
        self.assertEqual(rows[1]["final_loss"], "")
        self.assertIn(keys[1], done.stderr)
        (self.folder / "bad/trainings" / keys[1] / "record/log.strait").rmdir()
        self.ok("sweep", sweep, "--out", "bad")
        self.assertEqual(self.files(self.folder / "good"), self.files(self.folder / "bad"))
        self.assertEqual(self.leftovers(self.folder / "bad"), [])

    def test_wrong_sweeps_are_named_with_their_place_and_write_nothing(self):
        for text, keys in (("/axes/network.links.bandwith", {"axes": {"network.links.bandwith": ["80Mbps"]}}),
                           ("/axes/network.model", {"axes": {"network.model": ["fluid", "ideal"]}}),
                           ("/axes/seed/1", {"axes": {"seed": [1, "two"]}}),
                           ("rank 99", {"axes": {"compression.pipeline": [{"method": "subspace", "rank": 99}]}})):
            for command in ("sweep", "validate"):
                done = self.strait(command, self.write(**keys))
                self.assertEqual(done.returncode, 2, done.stdout)
                self.assertIn(text, done.stderr)
        self.assertFalse((self.folder / "sweeps").exists())
        self.assertIn("a sweep of 6 points", self.ok("validate", self.write()))
        self.assertIn("axes", json.loads(self.ok("schema", "sweep"))["properties"])

    def test_another_sweep_s_directory_is_refused_and_a_grown_sweep_goes_on(self):
        self.ok("sweep", self.write(), "--out", "out")
        done = self.strait("sweep", self.write(axes={"seed": [1]}), "--out", "out")
        self.assertEqual(done.returncode, 2)
        self.assertIn("another sweep", done.stderr)
        text = self.corpus.read_text()
        self.corpus.write_text(text.replace("moon", "noon"))
        done = self.strait("sweep", self.write(), "--out", "out")
        self.assertEqual(done.returncode, 2)
        self.assertIn("was begun with other data", done.stderr)
        self.corpus.write_text(text)
        (self.folder / "other").mkdir()
        (self.folder / "other/precious").write_text("1")
        self.assertEqual(self.strait("sweep", self.write(), "--out", "other").returncode, 2)
        before = {p: p.stat().st_mtime_ns for p in (self.folder / "out/runs").rglob("steps.csv")}
        grown = {"method": [NONE, SUBSPACE], "network.links.bandwidth": ["80Mbps", "300Mbps", "1Gbps", "16Gbps"]}
        self.assertIn("left to do: 0 trainings, 2 points", self.ok("sweep", self.write(axes=grown), "--out", "out"))
        self.assertEqual(len(self.rows(self.folder / "out/runs.csv")), 8)
        self.assertEqual({p: p.stat().st_mtime_ns for p in before}, before)

    def test_the_meta_backend_sweeps_without_losses(self):
        self.base["devices"]["backend"] = "meta"
        self.base["training"]["evaluate_every"] = 0
        del self.base["data"]
        self.ok("sweep", self.write(), "--out", "out")
        rows = self.rows(self.folder / "out/runs.csv")
        self.assertEqual({row["final_loss"] for row in rows}, {""})
        self.assertEqual({row["time_to_1_s"] for row in rows}, {"unknown"})
        self.assertTrue(all(float(row["time_s"]) > 0 for row in rows))

    def test_one_process_at_a_time_writes_into_a_sweep_s_directory(self):
        (self.folder / "out").mkdir()
        other = os.open(self.folder / "out", os.O_RDONLY)
        self.addCleanup(os.close, other)
        fcntl.flock(other, fcntl.LOCK_EX)
        done = self.strait("sweep", self.write(), "--out", "out")
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertIn("another process is writing", done.stderr)
        self.assertEqual(os.listdir(self.folder / "out"), [])

    # ---- interruption

    def test_ctrl_c_stops_the_children_and_the_same_command_goes_on(self):
        self.base["training"].update(steps=1500, checkpoint_every=200)
        sweep = self.write()
        process = self.start("sweep", sweep, "--out", "out")
        logs = lambda: list((self.folder / "out/trainings").glob("*/record/log.strait"))
        self.wait_for(lambda: any(p.stat().st_size > 2000 for p in logs()), process)
        output = self.interrupt(process)
        sizes = [p.stat().st_size for p in logs()]
        time.sleep(0.3)
        self.assertEqual([p.stat().st_size for p in logs()], sizes, "a child goes on")
        self.assertIn("the same command goes on", output)
        self.ok("sweep", sweep, "--out", "out")
        self.assertEqual({row["steps"] for row in self.rows(self.folder / "out/runs.csv")}, {"1500"})

    def test_who_starts_it_may_ignore_its_children(self):
        done = subprocess.run(["bash", "-c", 'trap "" CHLD; exec "$0" "$@"', STRAIT, "sweep", self.write(), "--out", "out", "--quiet"],
                              cwd=self.folder, env=self.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_what_it_submits_does_not_end_with_it(self):
        """Also where sbatch lies in the same folder: what marks our children, so that they end with us, is not handed on."""
        programs = self.folder / "bin"
        programs.mkdir()
        for name in ("strait", "strait-sim"):
            shutil.copy(STRAIT.with_name(name), programs)
        for name, text in (("sbatch", f'env > "{self.folder}/seen"; exit 1'), ("squeue", "exit 0")):
            (programs / name).write_text(f"#!/bin/bash\n{text}\n")
            (programs / name).chmod(0o755)
        done = subprocess.run([programs / "strait", "sweep", self.write(), "--out", "out", "--launcher", "slurm"], cwd=self.folder,
                              env=self.environment | {"PATH": f"{programs}:{os.environ['PATH']}"}, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=60)
        self.assertIn("sbatch did not take", done.stderr)
        self.assertNotIn("STRAIT_PARENT", (self.folder / "seen").read_text())

    # ---- cache

    def test_trainings_are_shared_verified_and_pruned(self):
        cache = self.folder / "cache/trainings"
        self.ok("sweep", self.write(), "--out", "a")
        self.assertEqual(len(list(cache.iterdir())), 2)
        self.assertIn("2 trainings", self.ok("cache", "list"))
        self.assertIn("(2 in the cache)", self.ok("sweep", self.write(), "--out", "b"))
        self.assertEqual(self.files(self.folder / "a"), self.files(self.folder / "b"))
        entry = sorted(cache.iterdir())[0] / "record/log.strait"
        entry.write_bytes(entry.read_bytes()[:-1] + b"?")
        self.ok("sweep", self.write(), "--out", "c")
        self.assertEqual(self.files(self.folder / "a"), self.files(self.folder / "c"))
        self.assertEqual(self.strait("cache", "prune").returncode, 2)
        self.assertEqual(self.strait("cache", "prune", "--keep", "lots").returncode, 2)
        for days in ("1e300", "nan", "-2"):
            self.assertEqual(self.strait("cache", "prune", f"--older-than={days}").returncode, 2, days)
        self.assertIn("0 trainings removed", self.ok("cache", "prune", "--older-than", "1"))
        self.assertIn("2 trainings removed", self.ok("cache", "prune", "--keep", "1kB"))
        self.assertIn("0 trainings", self.ok("cache", "list"))

    def test_sweeps_at_the_same_time_share_the_cache(self):
        sweep, outs = self.write(), ("a", "b", "c")
        processes = [self.start("sweep", sweep, "--out", out, "--jobs", "2", "--quiet") for out in outs]
        for process in processes:
            output, errors = process.communicate(timeout=120)
            self.assertEqual(process.returncode, 0, output + errors)
            self.assertEqual(errors, "")
        for out in outs[1:]:
            self.assertEqual(self.files(self.folder / out), self.files(self.folder / "a"))
        names = sorted(path.name for path in (self.folder / "cache/trainings").iterdir())
        self.assertEqual([len(name) for name in names], [64, 64])


if __name__ == "__main__":
    unittest.main(verbosity=2)
