#!/usr/bin/env python3
"""kill -9 at random moments: a run and a sweep that are killed and started again end with the same bytes as those that were
left alone, and nothing temporary stays. Usage: interruption_test.py PATH_OF_STRAIT [unittest arguments]
KILLS (default 16): how often altogether. SEED: of the moments; printed, so that a failure can be repeated."""
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

STRAIT = sys.argv.pop(1)
KILLS = int(os.environ.get("KILLS", "16"))
SEED = int(os.environ.get("SEED", "1"))
WORDS = "one ship after another left the harbour before the storm came over the strait and the lights went out".split()

SCENARIO = {
    "name": "killed", "seed": 5,
    "model": {"layers": 4, "width": 64, "heads": 4, "ffn_width": 128, "context": 64},
    "data": {"corpus": "corpus.txt", "tokenizer": "byte"},
    "training": {"steps": 60, "batch": 8, "microbatches": 4, "evaluate_every": 20, "evaluate_batches": 2,
                 "checkpoint_every": 7, "optimizer": {"lr": 3e-3, "warmup_steps": 5},
                 "phases": [{"at": 25, "set": {"model.context": 128}}, {"at": 34, "set": {"compression.pipeline": {"method": "none"}}}, {"at": 43, "set": {"training.optimizer.lr": 1e-3}}]},
    "parallel": {"pipeline": 4, "schedule": "1f1b"},
    "compression": {"pipeline": {"method": "subspace", "rank": 8}},
    "network": {"model": "fluid", "preset": "home-80m"},
    "devices": {"backend": "cpu"},
    "output": {"messages": "all", "timeline_steps": [1, 2], "diagnose_every": 10},
}
SWEEP = {
    "base": SCENARIO,
    "axes": {
        "method": [{"label": "none", "set": {"compression.pipeline": {"method": "none"}}},
                   {"label": "subspace", "set": {"compression.pipeline": {"method": "subspace", "rank": 8}}}],
        "seed": [5, 6],
        "network.links.bandwidth": ["80Mbps", "1Gbps", "16Gbps"],
    },
}


def host_only(document, path):
    """Removes what two runs of one scenario may differ in: host time, and with how many threads a sweep let its trainings run."""
    if path.name == "summary.json":
        document.pop("host", None)
    elif path.name == "manifest.json":
        document.pop("host_seconds", None)
        document.pop("record", None)
    elif path.parts[-2:-1] == ("trainings",) or path.parts[-3:-2] == ("trainings",):
        document.get("devices", {}).pop("host_threads", None)
    return document


def content(path):
    """The file without what belongs to the host; None for the record, which holds the host's times of every operation."""
    if path.name == "log.strait":
        return None
    if path.suffix == ".json":
        return json.dumps(host_only(json.loads(path.read_text()), path))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tree(folder):
    return {str(p.relative_to(folder)): content(p) for p in sorted(folder.rglob("*")) if p.is_file()}


class Interruption(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="strait-kill-"))
        self.addCleanup(shutil.rmtree, self.folder, True)
        (self.folder / "corpus.txt").write_text(
            "\n".join(" ".join(WORDS[(i * j) % len(WORDS)] for j in range(1, 12)) for i in range(1, 400)))
        self.random = random.Random(SEED)

    def environment(self, cache):
        return dict(os.environ, STRAIT_CACHE=str(self.folder / cache), OMP_WAIT_POLICY="passive")

    def finish(self, arguments, cache):
        done = subprocess.run([STRAIT, *arguments], cwd=self.folder, env=self.environment(cache), capture_output=True,
                              text=True, stdin=subprocess.DEVNULL, timeout=300)
        self.assertEqual(done.returncode, 0, f"seed {SEED}: {done.stdout}{done.stderr}")
        return done

    def start_and_kill(self, arguments, cache, longest):
        """Whether it was killed before it ended by itself."""
        process = subprocess.Popen([STRAIT, *arguments], cwd=self.folder, env=self.environment(cache),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        try:
            _, errors = process.communicate(timeout=self.random.uniform(0, longest))
            self.assertEqual(process.returncode, 0, f"seed {SEED}: {errors}")
            return False
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return True

    def kill_and_compare(self, name, arguments, kills):
        """`arguments(out)` starts or goes on; `kills` kills in rounds, each round ending in a comparison."""
        begin = time.monotonic()
        self.finish(arguments(f"{name}-whole"), "cache-whole")
        longest = 0.9 * (time.monotonic() - begin)
        expected, done, rounds = tree(self.folder / f"{name}-whole"), 0, 0
        self.assertTrue(expected)
        while done < kills:
            rounds += 1
            out, cache = f"{name}-{rounds}", f"cache-{name}-{rounds}"
            for _ in range(min(5, kills - done)):
                if not self.start_and_kill(arguments(out), cache, longest):
                    break
                done += 1
            self.finish(arguments(out), cache)
            found = tree(self.folder / out)
            self.assertEqual(sorted(found), sorted(expected), f"seed {SEED}, round {rounds}")
            for path, value in expected.items():
                self.assertEqual(found[path], value, f"seed {SEED}, round {rounds}: {path}")
            shutil.rmtree(self.folder / out)
        print(f"{name}: {done} kills in {rounds} rounds, seed {SEED}", flush=True)

    def test_a_run(self):
        (self.folder / "scenario.json").write_text(json.dumps(SCENARIO))
        self.kill_and_compare("run", lambda out: ["run", "scenario.json", "--out", out, "--resume", "--no-cache", "--quiet"],
                              (KILLS + 1) // 2)

    def test_a_sweep(self):
        (self.folder / "sweep.json").write_text(json.dumps(SWEEP))
        self.kill_and_compare("sweep", lambda out: ["sweep", "sweep.json", "--out", out, "--jobs", "2", "--quiet"], KILLS // 2)


if __name__ == "__main__":
    unittest.main()
