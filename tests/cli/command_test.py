#!/usr/bin/env python3
"""The command line as a user meets it: exit statuses, error texts, files, repeatability, interruption.
Usage: command_test.py PATH_OF_STRAIT [unittest arguments]"""
import json
import os
import re
import subprocess
import unittest

from command_case import STRAIT, Case


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


class Commands(Case):
    def write(self, name="scenario.json", **changes):
        path = self.folder / name
        path.write_text(json.dumps(scenario(self.corpus, **changes), indent=1))
        return path

    def run_ok(self, out, *arguments, **changes):
        self.ok("run", self.write(**changes), "--out", out, "--no-cache", *arguments)
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

    def test_replicas_train_as_one_does_and_sum_their_gradients(self):
        one = self.run_ok("one", training__microbatches=2)
        two = self.run_ok("two", parallel__data=2, parallel__pipeline=4, training__microbatches=1, training__evaluate_batches=2)
        for a, b in zip(self.rows(one / "steps.csv"), self.rows(two / "steps.csv")):
            self.assertAlmostEqual(float(a["loss"]), float(b["loss"]), delta=1e-5)  # sums in another order
            self.assertEqual(a["tokens"], b["tokens"])
        wire = json.loads((two / "summary.json").read_text())["wire"]
        self.assertEqual(wire["data"]["combined"]["messages"], 6 * 8 * 2)  # steps, ranks, hops of two ranks' ring
        self.assertEqual(wire["data"]["combined"]["wire_ratio"], 1)
        self.assertGreater(wire["pipeline"]["combined"]["wire_ratio"], 5)
        self.assertIn("2 copies of each stage", self.ok("show", two / "scenario.json"))

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
        whole = self.run_ok("whole", training__steps=600)
        process = self.start("run", self.write(training__steps=600), "--out", "out", "--no-cache")
        steps = self.folder / "out/steps.csv"
        self.wait_for(lambda: steps.exists() and steps.read_text().count("\n") > 5, process)
        self.assertIn("strait run --resume out", self.interrupt(process))
        other = self.strait("run", self.write("other.json", training__steps=600, seed=4), "--out", "out", "--resume")
        self.assertEqual(other.returncode, 2, other.stdout)
        self.assertIn("of another training", other.stderr)
        done = self.strait("run", "--resume", "out", "--no-cache")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.same_tables(whole, self.folder / "out")
        self.assertFalse((self.folder / "out/checkpoints").exists())  # it held nothing but the one of the interruption

    def test_a_finished_training_is_not_overwritten_by_another_one(self):
        record = self.run_ok("out") / "record/log.strait"
        kept = record.read_bytes()
        other = self.strait("run", self.write(seed=4), "--out", "out", "--resume", "--no-cache")
        self.assertEqual(other.returncode, 2, other.stdout)
        self.assertIn("out/record/log.strait: this record is of another training", other.stderr)
        self.corpus.write_text(self.corpus.read_text().replace("moon", "noon"))
        other = self.strait("run", self.write(), "--out", "out", "--resume", "--no-cache")
        self.assertEqual(other.returncode, 2, other.stdout)
        self.assertEqual(record.read_bytes(), kept)

    def test_progress_says_what_this_machine_does(self):
        """Tokens where it computes them, steps where it does not: on the meta backend, of a training from the cache, in a replay."""
        line = re.compile(r"^step 6/6 \| (loss [0-9.]+ \| )?virtual .* \(step 6\) \| [0-9.e+]+ (tokens|steps)/s here", re.MULTILINE)
        said = {}
        said["trained"] = self.ok("run", self.write(), "--out", "out")
        said["cached"] = self.ok("run", self.write(), "--out", "again")
        said["replayed"] = self.ok("replay", "out")
        said["planned"] = self.ok("run", self.write(devices__backend="meta", training__evaluate_every=0), "--out", "meta")
        found = {name: line.search(text) for name, text in said.items()}
        self.assertTrue(all(found.values()), said)
        self.assertEqual({name: match.group(2) for name, match in found.items()},
                         {"trained": "tokens", "cached": "steps", "replayed": "steps", "planned": "steps"})
        self.assertEqual({name for name, match in found.items() if match.group(1)}, {"trained", "cached", "replayed"})

    def test_a_name_is_that_of_one_folder(self):
        self.ok("run", self.write(), "--set", "name=../a/b", "--quiet")
        self.assertEqual(os.listdir(self.folder / "runs"), ["-.-a-b"])

    def test_a_training_starts_from_a_checkpoint_and_changes_on_the_way(self):
        first = self.run_ok("a", training__checkpoint_every=6)
        second = self.run_ok("b", training__init_from=str(first),
                             training__phases=[{"at": 4, "set": {"model.context": 64}}])
        self.assertEqual(self.rows(first / "evals.csv")[-1]["validation_loss"], self.rows(second / "evals.csv")[0]["validation_loss"])
        tokens = [int(row["tokens"]) for row in self.rows(second / "steps.csv")]
        self.assertEqual(tokens, [256, 512, 768, 768 + 512, 768 + 1024, 768 + 1536])
        self.wrong("/training/init_from", "no checkpoint there", training__init_from="nowhere")

    def test_what_does_not_fit_into_memory_is_refused_with_what_would(self):
        self.wrong("/training/microbatches", "sequences", training__batch=1 << 24, training__microbatches=2)
        self.assertFalse((self.folder / "out").exists())

    def test_a_calibrated_machine_is_a_device(self):
        told = self.ok("calibrate", "--threads", "1", "--seconds", "0.01", "--backend", "cpu", "--out", "here.json")
        self.assertIn("devices.timing.device=here.json", told)
        run = self.run_ok("a", devices__timing={"device": "here.json"})
        resolved = json.loads((run / "scenario.json").read_text())["devices"]["timing"]["device"]
        self.assertEqual(resolved, json.loads((self.folder / "here.json").read_text())["device"])
        (self.folder / "here.json").unlink()  # the run has it
        self.ok("replay", run, "--out", "again", "--quiet")
        self.assertEqual((run / "steps.csv").read_bytes(), (self.folder / "again/steps.csv").read_bytes())
        self.wrong("/devices/timing/device", "here.json", devices__timing={"device": "here.json"})
        (self.folder / "here.json").write_text('{"device": {"name": "x", "fp32_flops": 0}}')
        self.wrong("here.json/device/fp32_flops", "1 to 1e+21", devices__timing={"device": "here.json"})

    def test_compression_is_turned_off_and_on_on_the_way(self):
        phases = [{"at": 3, "set": {"compression.pipeline": {"method": "none"}}}, {"at": 5, "set": {"compression.pipeline": {"method": "subspace", "rank": 8}}}]
        told = self.ok("run", self.write(training__phases=phases, output__compare_networks=[]), "--out", "out")
        self.assertIn("(parameters are folded: the same function)", told)
        self.assertIn("(parameters are projected: the model changes)", told)
        self.assertIn("subspace rank 4 > none > subspace rank 8", told)
        sent = [int(row["bytes_forward"]) for row in self.rows(self.folder / "out/steps.csv")]
        self.assertEqual(len(set(sent)), 3)
        self.assertEqual(sent[::2], sent[1::2])
        self.assertTrue(sent[0] < sent[4] < sent[2])

    def test_runs_are_called_by_what_becomes_of_keys_and_values_too(self):
        grid = {"parallel": {"pipeline": 1, "context": 2}, "compression": {"pipeline": {"method": "none"}}, "network__topology": "access"}
        mos = {"method": "mos", "rank_k": 4, "rank_v": 8}
        phases = [{"at": 3, "set": {"compression.context": mos}}, {"at": 5, "set": {"compression.context": {"method": "quantize"}}}]
        told = self.ok("run", self.write(training__phases=phases, output__compare_networks=[], **grid), "--out", "out")
        self.assertRegex(told, r"(?m)^keys and values   none, ring, .* wire ratio 1\.00x\n {18}from step 3: mos ranks 4/8, ring, .* wire ratio [2-9].*\n"
                               r" {18}from step 5: quantize int8, ring, ")
        self.assertIn('"quantize"}} (keys and values are folded: the same function at angle 0)', told)
        self.assertRegex(told, r"(?m)^none > mos ranks 4/8 > context quantize int8 +home-80m ")
        grid["compression"]["context"] = mos
        told = self.ok("run", self.write(output__compare_networks=["datacenter-100g"], output__diagnose_every=3, training__checkpoint_every=6, **grid),
                       "--out", "mos")
        self.assertRegex(told, r"(?m)^mos ranks 4/8 +home-80m ")
        self.assertRegex(told, r"(?m)^none +datacenter-100g ")
        rows = [(row["step"], row["boundary"], row["name"]) for row in self.rows(self.folder / "mos/diagnostics.csv")]
        self.assertEqual(rows, [(step, "0", f"layer{layer}_{z}_{name}") for step in ("3", "6") for layer in range(3) for z in ("key", "value")
                                for name in ("captured", "angle", "clipped")])
        self.assertIn("keys and values of 3 of 4 layers are folded onto their subspaces; the angles", self.ok("export", "mos"))
        self.assertIn("keys and values   mos ranks 4/8, 2 shards", self.ok("show", self.folder / "mos/scenario.json"))

    def test_the_closing_table_compares_networks_and_the_uncompressed_method(self):
        done = self.strait("run", self.write(output__compare_networks=["datacenter-100g"]), "--out", "out")
        self.assertEqual(done.returncode, 0, done.stderr)
        for text in ("subspace rank 4", "none", "home-80m", "datacenter-100g", "summary.json"):
            self.assertIn(text, done.stdout)

        # Nothing can be measured of what is not computed.
        measured = self.ok("run", self.write(output__compare_networks=["datacenter-100g"], devices__timing="measured"), "--out", "measured")
        self.assertIn("datacenter-100g", measured)
        self.assertNotIn("none", measured)

    def test_the_closing_table_counts_the_tokens_and_bytes_of_all_phases(self):
        """Three of six steps have twice the context: 1.5 times the tokens and bytes of one that keeps it."""
        changed = self.write(output__compare_networks=["datacenter-100g"], training__phases=[{"at": 4, "set": {"model.context": 64}}])
        rows = [line.split() for line in self.ok("run", changed, "--out", "out").splitlines() if "home-80m" in line]
        summary = json.loads((self.folder / "out/summary.json").read_text())
        self.assertEqual(summary["tokens"], 6 * 8 * 32 * 1.5)
        own = rows[0]
        self.assertEqual(own[:4], ["subspace", "rank", "4", "home-80m"])
        self.assertEqual(float(own[4]), float(f"{sum(summary['bytes'].values()) / 6 / 1e3:.3g}"))
        self.assertEqual(own[5], "kB")
        self.assertEqual(rows[1][:4], ["none,", "phase", "1", "home-80m"])

    def test_the_closing_table_counts_the_steps_that_it_leaves_out_as_later_ones(self):
        """Windows grow over many steps of packet-level TCP: steps 2 to 6 are 7 % longer here than the mean of 60. What is said of 60 steps
        after 40 is to be what 60 simulated ones take, to 2 %."""
        changes = {"training__steps": 60, "training__batch": 512, "training__microbatches": 8, "training__evaluate_every": 0, "parallel__schedule": "gpipe",
                   "network__model": "packet", "network__links": {"mtu": "4000B"}, "devices__backend": "meta", "data": None,
                   "model__vocabulary": 257, "output__messages": "none"}
        plain = self.run_ok("plain", compression__pipeline={"method": "none"}, **changes)
        out = self.ok("run", self.write(output__compare_networks=["datacenter-100g"], **changes))
        (row,) = [line.split() for line in out.splitlines() if line.startswith("none") and "home-80m" in line]
        self.assertIn("* 40 steps simulated, the rest as the last quarter of them", out)
        step = float(row[4]) * {"s": 1, "ms": 1e-3}[row[5]]
        ends = [float(r["time_s"]) for r in self.rows(plain / "steps.csv")]
        mean = (ends[-1] - ends[0]) / 59
        self.assertAlmostEqual(step / mean, 1, delta=0.02)
        self.assertGreater((ends[5] - ends[0]) / 5 / mean, 1.05)  # or the case says nothing

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
        done = subprocess.run([STRAIT.with_name("strait-sim"), run], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
        self.assertEqual(done.returncode, 2)
        self.assertIn("log.strait", done.stderr)
        self.assertIn("byte", done.stderr)

    def test_ctrl_c_ends_cleanly_with_whole_files(self):
        process = self.start("run", self.write(training__steps=100000), "--out", "out")
        steps = self.folder / "out/steps.csv"
        self.wait_for(lambda: steps.exists() and steps.read_text().count("\n") > 3, process)
        self.interrupt(process)
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
