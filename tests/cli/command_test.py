#!/usr/bin/env python3
"""The command line as a user meets it: exit statuses, error texts, files, repeatability, interruption. Needs no network:
the corpus is a text that the test writes. Usage: command_test.py PATH_OF_STRAIT [unittest arguments]"""
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

STRAIT = sys.argv.pop(1)
WORDS = "the sea was calm and the ship went slowly over the strait while the crew slept under a pale moon".split()


def scenario(corpus, **changes):
    base = {
        "name": "test", "seed": 3,
        "model": {"layers": 4, "width": 32, "heads": 4, "ffn_width": 64, "context": 32},
        "data": {"corpus": str(corpus), "tokenizer": "byte"},
        "training": {"steps": 6, "batch": 8, "microbatches": 4, "evaluate_every": 3, "evaluate_batches": 2,
                     "optimizer": {"lr": 3e-3, "warmup_steps": 2}},
        "parallel": {"pipeline": 4, "schedule": "1f1b"},
        "compression": {"pipeline": {"method": "subspace", "rank": 4}},
        "network": {"model": "fluid", "preset": "home-80m"},
        "devices": {"backend": "cpu"},
        "output": {"messages": "all", "timeline_steps": [1, 2]},
    }
    for path, value in changes.items():
        node = base
        *parents, last = path.split("__")
        for key in parents:
            node = node.setdefault(key, {})
        if value is None:
            node.pop(last, None)
        else:
            node[last] = value
    return base


class Commands(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="strait test "))
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.corpus = self.folder / "corpus.txt"
        self.corpus.write_text("\n".join(" ".join(WORDS[(i * j) % len(WORDS)] for j in range(1, 12)) for i in range(1, 400)))
        self.environment = dict(os.environ, STRAIT_CACHE=str(self.folder / "cache"))

    def strait(self, *arguments):
        return subprocess.run([STRAIT, *map(str, arguments)], cwd=self.folder, env=self.environment, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=300)

    def write(self, name="scenario.json", **changes):
        path = self.folder / name
        path.write_text(json.dumps(scenario(self.corpus, **changes), indent=1))
        return path

    def run_ok(self, out, *arguments, **changes):
        done = self.strait("run", self.write(**changes), "--out", out, "--no-cache", *arguments)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return self.folder / out

    def same_tables(self, first, second):
        for name in ("steps.csv", "evals.csv", "messages.csv", "ranks.csv", "links.csv"):
            self.assertEqual((first / name).read_bytes(), (second / name).read_bytes(), name)

    def wrong(self, *texts, arguments=("run",), **changes):
        done = self.strait(*arguments, self.write(**changes))
        self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
        for text in texts:
            self.assertIn(text, done.stderr)
        self.assertFalse((self.folder / "runs").exists())

    def rows(self, path):
        with open(path, newline="") as file:
            return list(csv.DictReader(file))

    def test_a_run_leaves_the_files_of_the_design(self):
        run = self.run_ok("out")
        steps = self.rows(run / "steps.csv")
        self.assertEqual(len(steps), 6)
        self.assertEqual(list(steps[0]), "step,tokens,loss,grad_norm,learning_rate,time_s,step_s,compute_s,codec_s,host_s,serialisation_s,"
                         "propagation_s,window_s,queue_s,recovery_s,bytes_forward,bytes_backward,bytes_sync".split(","))
        self.assertEqual(list(self.rows(run / "evals.csv")[0]), "step,tokens,time_s,validation_loss,perplexity".split(","))
        self.assertEqual([row["step"] for row in self.rows(run / "evals.csv")], ["0", "3", "6"])
        self.assertEqual(list(self.rows(run / "ranks.csv")[0]), "step,rank,compute_s,codec_s,waiting_s,idle_s,bytes_sent,bytes_received".split(","))
        self.assertEqual(list(self.rows(run / "links.csv")[0]), "step,from,to,bytes,busy_s,utilisation".split(","))
        self.assertEqual(list(self.rows(run / "messages.csv")[0]), "step,from,to,kind,microbatch,bytes,sent_s,delivered_s,bound_by".split(","))
        for row in steps:  # every nanosecond of a step is attributed
            parts = sum(round(float(row[k + "_s"]) * 1e9) for k in
                        ("compute", "codec", "host", "serialisation", "propagation", "window", "queue", "recovery"))
            self.assertEqual(parts, round(float(row["step_s"]) * 1e9))
        # 3 boundaries, 4 microbatches of 2 x 32 tokens: N (k w + i) and N k w (specification of subspace models, section 7).
        self.assertEqual(int(steps[0]["bytes_forward"]), 3 * 4 * 64 * (4 * 4 + 2))
        self.assertEqual(int(steps[0]["bytes_backward"]), 3 * 4 * 64 * 4 * 4)
        json.loads((run / "summary.json").read_text())
        events = json.loads((run / "timeline.json").read_text())
        events = events["traceEvents"] if isinstance(events, dict) else events
        starts = sorted(e["id"] for e in events if e["ph"] == "s")
        self.assertTrue(starts)
        self.assertEqual(starts, sorted(e["id"] for e in events if e["ph"] == "f"))
        self.assertEqual(sorted(p.name for p in run.rglob("*") if p.name.endswith((".tmp", ".part"))), [])

    def test_two_runs_and_any_number_of_host_threads_give_the_same_bytes(self):
        first = self.run_ok("a")
        second = self.run_ok("b", devices__host_threads=1)
        self.same_tables(first, second)

    def test_the_run_s_own_scenario_runs_again_to_the_same_bytes(self):
        first = self.run_ok("a")
        done = self.strait("run", first / "scenario.json", "--out", "b", "--no-cache")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.same_tables(first, self.folder / "b")

    def test_a_finished_training_is_taken_from_the_cache_unless_it_is_damaged(self):
        texts = []
        for out in "abc":
            done = self.strait("run", self.write(training__checkpoint_every=4), "--out", out)
            self.assertEqual(done.returncode, 0, done.stderr)
            texts.append("taken from the cache" in done.stdout)
            if out == "b":
                record, = (self.folder / "cache/trainings").glob("*/record/log.strait")
                record.write_bytes(record.read_bytes()[:-3] + b"xyz")
        self.assertEqual(texts, [False, True, False])
        for out in "bc":
            self.same_tables(self.folder / "a", self.folder / out)
            self.assertEqual((self.folder / "a/checkpoints/step_00000006/model.safetensors").read_bytes(),
                             (self.folder / out / "checkpoints/step_00000006/model.safetensors").read_bytes())

    def test_an_interrupted_run_goes_on_to_the_same_bytes(self):
        whole = self.run_ok("whole", training__steps=40)
        scenario = self.write(training__steps=40)
        process = subprocess.Popen([STRAIT, "run", scenario, "--out", "out", "--no-cache"], cwd=self.folder, env=self.environment,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while not (self.folder / "out/steps.csv").exists() or len(self.rows(self.folder / "out/steps.csv")) < 5:
            self.assertIsNone(process.poll())
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, output)
        self.assertIn("strait run --resume out", output)
        other = self.strait("run", self.write("other.json", training__steps=40, seed=4), "--out", "out", "--resume")
        self.assertEqual(other.returncode, 2, other.stdout)
        self.assertIn("of another training", other.stderr)
        done = self.strait("run", "--resume", "out", "--no-cache")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.same_tables(whole, self.folder / "out")
        self.assertFalse((self.folder / "out/checkpoints").exists())  # it held nothing but the one of the interruption

    def test_a_training_starts_from_a_checkpoint_and_changes_on_the_way(self):
        first = self.run_ok("a", training__checkpoint_every=6)
        second = self.run_ok("b", training__init_from=str(first),
                             training__phases=[{"at": 4, "set": {"model.context": 64}}])
        self.assertEqual(self.rows(first / "evals.csv")[-1]["validation_loss"], self.rows(second / "evals.csv")[0]["validation_loss"])
        tokens = [int(row["tokens"]) for row in self.rows(second / "steps.csv")]
        self.assertEqual(tokens, [256, 512, 768, 768 + 512, 768 + 1024, 768 + 1536])
        self.wrong("/training/init_from", "no checkpoint there", training__init_from="nowhere")

    def test_the_closing_table_compares_networks_and_the_uncompressed_method(self):
        done = self.strait("run", self.write(output__compare_networks=["datacenter-100g"]), "--out", "out")
        self.assertEqual(done.returncode, 0, done.stderr)
        for text in ("subspace rank 4", "none", "home-80m", "datacenter-100g", "summary.json"):
            self.assertIn(text, done.stdout)

    def test_measured_devices_and_bf16_run(self):
        run = self.run_ok("out", devices__timing="measured", devices__precision="bf16", compression__pipeline={"method": "none"})
        self.assertGreater(float(self.rows(run / "steps.csv")[2]["compute_s"]), 0)

    def test_the_meta_backend_needs_no_data(self):
        run = self.run_ok("out", devices__backend="meta", data=None, training__evaluate_every=0)
        self.assertEqual(len(self.rows(run / "steps.csv")), 6)

    def test_wrong_input_is_named_with_its_place_and_writes_nothing(self):
        self.wrong("/network/links/bandwith", "bandwidth", network={"links": {"bandwith": "80Mbps"}})
        self.wrong("/network/links/bandwidth", "80", network={"links": {"bandwidth": "80MB"}})
        self.wrong("pipeline", parallel__pipeline=9)
        self.wrong("microbatches", training__microbatches=3)
        self.wrong("nothere.txt", data__corpus="nothere.txt")
        self.wrong("austen", data__corpus="austin")
        self.wrong("llama-1m", model={"preset": "llama-1mm"})
        self.wrong("rank", compression__pipeline={"method": "subspace", "rank": 99})
        self.wrong("ratio", compression__pipeline={"method": "subspace", "ratio": 1e9})

    def test_all_errors_of_a_file_are_listed_by_validate(self):
        self.wrong("/training/steps", "/parallel/pipeline", arguments=("validate",), training__steps=0, parallel__pipeline="four")

    def test_the_corpus_must_be_long_enough(self):
        self.corpus.write_text("short")
        done = self.strait("run", self.write())
        self.assertEqual(done.returncode, 2)
        self.assertIn("corpus.txt", done.stderr)

    def test_an_occupied_run_directory_is_refused_and_kept(self):
        (self.folder / "out").mkdir()
        (self.folder / "out/precious").write_text("1")
        done = self.strait("run", self.write(), "--out", "out")
        self.assertEqual(done.returncode, 2)
        self.assertEqual(os.listdir(self.folder / "out"), ["precious"])

    def test_an_unreadable_record_is_an_error_that_says_where(self):
        run = self.run_ok("out")
        log = run / "record/log.strait"
        data = bytearray(log.read_bytes())
        data[len(data) // 2] ^= 0xFF
        log.write_bytes(data)
        simulator = pathlib.Path(STRAIT).with_name("strait-sim")
        done = subprocess.run([simulator, run], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
        self.assertEqual(done.returncode, 2)
        self.assertIn("log.strait", done.stderr)
        self.assertIn("byte", done.stderr)

    def test_ctrl_c_ends_cleanly_with_whole_files(self):
        process = subprocess.Popen([STRAIT, "run", self.write(training__steps=100000), "--out", "out"], cwd=self.folder, env=self.environment,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        steps = self.folder / "out/steps.csv"
        deadline = time.time() + 60
        while time.time() < deadline and not (steps.exists() and steps.read_text().count("\n") > 3):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 130, output + errors)
        text = steps.read_text()
        self.assertTrue(text.endswith("\n"))
        self.assertEqual(len({line.count(",") for line in text.splitlines()}), 1)
        json.loads((self.folder / "out/summary.json").read_text())

    def test_a_full_disk_is_an_error_and_not_a_crash(self):
        # A file size limit is the disk that fills up: writes beyond it fail (SIGXFSZ ignored, so with EFBIG).
        self.run_ok("warm")  # the corpus is in the cache now
        script = 'ulimit -f 40; trap "" XFSZ; exec "$0" "$@"'
        done = subprocess.run(["bash", "-c", script, STRAIT, "run", str(self.write(training__steps=3000)), "--out", "out"], cwd=self.folder,
                              env=self.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
        self.assertEqual(done.returncode, 1, done.stdout[-500:] + done.stderr)
        self.assertIn("out/", done.stderr)

    def test_help_schema_info_and_show(self):
        self.assertEqual(self.strait("--help").returncode, 0)
        self.assertEqual(self.strait().returncode, 2)
        self.assertEqual(self.strait("run").returncode, 2)
        self.assertIn("$schema", json.loads(self.strait("schema", "scenario").stdout))
        self.assertEqual(self.strait("schema", "nonsense").returncode, 2)
        self.assertIn("subspace", self.strait("info").stdout)
        shown = self.strait("show", self.write())
        self.assertEqual(shown.returncode, 0, shown.stderr)
        for text in ("parameters", "wire ratio", "later steps", "rank 3 |"):
            self.assertIn(text, shown.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
