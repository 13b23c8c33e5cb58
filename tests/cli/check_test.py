#!/usr/bin/env python3
"""verify, crosscheck, export and planning as a user meets them. Usage: check_test.py PATH_OF_STRAIT [unittest arguments]"""
import json
import os
import pathlib
import struct
import unittest

import command_case

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCENARIO = {
    "name": "test", "seed": 3,
    "model": {"layers": 4, "width": 32, "heads": 4, "kv_heads": 2, "ffn_width": 64, "context": 32},
    "data": {"tokenizer": "byte"},
    "training": {"steps": 6, "batch": 8, "microbatches": 4, "evaluate_every": 3, "evaluate_batches": 2, "targets": [9.0, 0.1],
                 "optimizer": {"lr": 3e-3, "warmup_steps": 2}},
    "parallel": {"pipeline": 4, "schedule": "1f1b"},
    "compression": {"pipeline": {"method": "subspace", "rank": 4}},
    "network": {"model": "fluid", "preset": "home-80m"},
    "devices": {"backend": "cpu"},
    "output": {"messages": "all"},
}


class Case(command_case.Case):
    def setUp(self):
        super().setUp()
        self.temporary = self.folder / "temporary"
        self.temporary.mkdir()
        self.environment["TMPDIR"] = str(self.temporary)

    def tearDown(self):
        self.assertEqual(os.listdir(self.temporary), [], "temporary files are left")

    def strait(self, *arguments, expect=0):
        done = super().strait(*arguments)
        self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        return done

    def run_scenario(self, out, *overrides, arguments=()):
        path = self.folder / f"{out}.json"
        scenario = json.loads(json.dumps(SCENARIO))
        scenario["data"]["corpus"] = str(self.corpus)
        path.write_text(json.dumps(scenario))
        self.strait("run", path, "--out", out, "--quiet", *arguments, *(word for o in overrides for word in ("--set", o)))
        return self.folder / out


class Verify(Case):
    def test_a_run_is_verified(self):
        run = self.run_scenario("out")
        done = self.strait("verify", run)
        for text in ("losses", "parameters", "bytes of every message", "steps.csv", "messages.csv", "summary.json", "6 steps, all equal",
                     "not compared: measured durations"):
            self.assertIn(text, done.stdout)
        self.assertNotIn("DIFFERENT", done.stdout)

    def test_it_trains_again_even_if_the_training_is_kept(self):
        run = self.run_scenario("out")
        steps = "step 6/6"
        self.assertIn(steps, self.strait("verify", run).stdout)

    def test_another_corpus_is_found_out(self):
        run = self.run_scenario("out")
        self.corpus.write_text(self.corpus.read_text().replace("moon", "noon"))
        done = self.strait("verify", run, expect=1)
        self.assertIn("the data is not what the run trained on", done.stderr)

    def test_another_scenario_is_found_out_at_its_first_step(self):
        run = self.run_scenario("out")
        scenario = json.loads((run / "scenario.json").read_text())
        scenario["training"]["optimizer"]["lr"] = 2e-3
        (run / "scenario.json").write_text(json.dumps(scenario))
        done = self.strait("verify", run, expect=1)
        self.assertIn("DIFFERENT", done.stdout)
        self.assertIn("first difference: what was run: hash of what determines the record", done.stdout)

    def test_a_changed_trace_is_found_out_with_its_cell(self):
        run = self.run_scenario("out")
        text = (run / "steps.csv").read_text().splitlines(keepends=True)
        cells = text[3].split(",")
        cells[2] = "1.5"
        text[3] = ",".join(cells)
        (run / "steps.csv").write_text("".join(text))
        done = self.strait("verify", run, expect=1)
        self.assertIn("first difference: steps.csv, line 4, step 3: loss 1.5, again", done.stdout)

    def test_measured_and_planned_runs_are_verified(self):
        self.assertIn("all equal", self.strait("verify", self.run_scenario("measured", "devices.timing=measured")).stdout)
        meta = self.run_scenario("meta", "devices.backend=meta", "training.evaluate_every=0")
        self.assertIn("all equal", self.strait("verify", meta).stdout)

    def test_a_stopped_run_is_verified_as_far_as_it_got(self):
        self.run_scenario("once", "training.steps=1", "training.optimizer.warmup_steps=0")
        process = self.start("run", "once.json", "--out", "out", "--set", "training.steps=100000")
        steps = self.folder / "out/steps.csv"
        self.wait_for(lambda: steps.exists() and steps.read_text().count("\n") > 5, process)
        self.interrupt(process)
        done = self.strait("verify", "--quiet", "out")
        self.assertIn("the run was stopped there", done.stdout)
        self.assertNotIn("DIFFERENT", done.stdout)
        self.assertEqual(int(done.stdout.splitlines()[-1].split()[0]), len(self.rows(steps)))

    def test_ctrl_c_leaves_nothing_behind(self):
        run = self.run_scenario("out", "training.steps=600")
        process = self.start("verify", run)
        self.wait_for(lambda: list(self.temporary.glob("strait-verify-*/again/record/log.strait")), process)
        self.interrupt(process)

    def test_a_directory_without_a_record_is_wrong_input(self):
        done = self.strait("verify", self.folder, expect=2)
        self.assertIn("log.strait", done.stderr)


class Crosscheck(Case):
    def test_models_are_compared_over_messages_and_steps(self):
        run = self.run_scenario("out")
        done = self.strait("crosscheck", run, "--models", "ideal,fluid", "--out", "check")
        self.assertIn("against fluid", done.stdout)
        rows = self.rows(self.folder / "check/crosscheck.csv")
        self.assertEqual([(r["model"], r["reference"]) for r in rows], [("ideal", "fluid"), ("fluid", "fluid")])
        ideal, fluid = rows
        self.assertEqual(fluid["message_worst"], "0")
        self.assertEqual(int(ideal["messages"]), 6 * (3 * 4 * 2 + 3 * 2))  # 3 boundaries; clipping sums over all ranks
        # The figures of the run's own model are those of the run. Both are written with nine decimals: what is computed from two of
        # them may differ by one more, and a ratio of times of milliseconds by some 1e-6.
        steps = [float(r["step_s"]) for r in self.rows(run / "steps.csv")]
        self.assertAlmostEqual(float(fluid["first_step_s"]), steps[0], 9)
        self.assertAlmostEqual(float(fluid["run_s"]), sum(steps), 9)
        self.assertEqual([float(r["fluid_s"]) for r in self.rows(self.folder / "check/crosscheck_steps.csv")], steps)
        # The worst message, found again in the run's own messages.
        worst = [m for m in self.rows(run / "messages.csv") if all(m[k] == ideal[k] for k in ("from", "to", "kind", "microbatch", "bytes"))
                 and m["step"] == ideal["worst_message_step"]]
        self.assertEqual(len(worst), 1)
        self.assertAlmostEqual(float(worst[0]["delivered_s"]) - float(worst[0]["sent_s"]), float(ideal["reference_transfer_s"]), 8)
        self.assertAlmostEqual(abs(float(ideal["transfer_s"]) / float(ideal["reference_transfer_s"]) - 1), float(ideal["message_worst"]), 5)

    def test_runs_are_put_into_order(self):
        a, b = self.run_scenario("a"), self.run_scenario("b", "compression.pipeline.method=none")
        done = self.strait("crosscheck", a, b, "--models", "fluid,ideal")
        self.assertIn("order by mean step time, shortest first", done.stdout)
        self.assertIn("order by time to loss 0.1", done.stdout)
        self.assertIn("not reached", done.stdout)
        self.assertIn("a (", done.stdout)

    def test_only_the_first_steps(self):
        run = self.run_scenario("out")
        self.strait("crosscheck", run, "--models", "ideal,fluid", "--steps", 2, "--out", "check")
        self.assertEqual(len(self.rows(self.folder / "check/crosscheck_steps.csv")), 2)

    def test_the_packet_model_says_what_it_costs_first(self):
        if "packet" not in self.strait("crosscheck", "--help").stdout.split("--models")[1].split("--steps")[0].split("[")[-1]:
            self.skipTest("this build has no packet model")
        run = self.run_scenario("out", "training.steps=2", "training.optimizer.warmup_steps=1")
        done = self.strait("crosscheck", run)
        self.assertIn("the packet model will take about", done.stdout)
        self.assertIn("against packet", done.stdout)

    def test_wrong_input_is_told(self):
        run = self.run_scenario("out", "training.steps=2", "training.optimizer.warmup_steps=1")
        self.assertIn('found "fluids"', self.strait("crosscheck", run, "--models", "ideal,fluids", expect=2).stderr)
        self.assertIn("two different ones", self.strait("crosscheck", run, "--models", "ideal", expect=2).stderr)
        self.assertIn("nowhere", self.strait("crosscheck", "nowhere", expect=2).stderr)

    def test_ctrl_c_leaves_nothing_behind(self):
        run = self.run_scenario("out", "devices.backend=meta", "training.evaluate_every=0", "training.steps=4000")
        process = self.start("crosscheck", run, "--models", "ideal,fluid")
        self.wait_for(lambda: list(self.temporary.glob("strait-crosscheck-*/fluid/steps.csv")), process)
        self.interrupt(process)


class Export(Case):
    def header(self, path):
        data = path.read_bytes()
        return json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])

    def test_a_checkpoint_becomes_a_llama(self):
        run = self.run_scenario("out", "training.checkpoint_every=3")
        done = self.strait("export", "--format", "safetensors-hf", run)
        self.assertIn("after step 6", done.stdout)
        tensors = self.header(run / "export/model.safetensors")
        self.assertEqual(tensors["model.embed_tokens.weight"]["shape"], [320, 32])
        self.assertEqual(tensors["model.layers.0.self_attn.k_proj.weight"]["shape"], [16, 32])
        config = json.loads((run / "export/config.json").read_text())
        self.assertEqual((config["vocab_size"], config["hidden_size"], config["eos_token_id"]), (320, 32, 256))

    def test_the_step_can_be_chosen(self):
        run = self.run_scenario("out", "training.checkpoint_every=3", "compression.pipeline.method=none")
        self.strait("export", run, "--checkpoint", 3, "--out", "three")
        self.strait("export", run, "--out", "six")
        three, six = ((self.folder / name / "model.safetensors").read_bytes() for name in ("three", "six"))
        self.assertEqual(len(three), len(six))
        self.assertNotEqual(three, six)
        self.assertIn("allowed: 3, 6", self.strait("export", run, "--checkpoint", 4, expect=2).stderr)

    def test_a_sentencepiece_model_comes_along(self):
        run = self.run_scenario("out", "training.checkpoint_every=6", 'data.tokenizer={"sentencepiece": {"vocabulary": 330}}')
        self.strait("export", run)
        self.assertTrue((run / "export/tokenizer.model").exists())
        self.assertEqual(json.loads((run / "export/tokenizer_config.json").read_text())["eos_token"], "</s>")

    def test_no_checkpoint_is_wrong_input(self):
        run = self.run_scenario("out")
        self.assertIn("training.checkpoint_every", self.strait("export", run, expect=2).stderr)
        self.assertIn("safetensors-hf", self.strait("export", run, "--format", "gguf", expect=2).stderr)


class Planning(Case):
    # The scenario itself, with a shorter context and fewer steps.
    def test_a_large_model_is_planned_without_data_and_without_losses(self):
        done = self.strait("run", ROOT / "scenarios/planning/llama_8b_32.json", "--out", "out", "--quiet", "--set", "training.steps=2",
                           "--set", "model.context=1024", "--set", "output.timeline_steps=[1, 1]")
        self.assertNotIn("nan", done.stdout)
        run = self.folder / "out"
        steps = self.rows(run / "steps.csv")
        self.assertEqual([row["loss"] for row in steps], ["nan", "nan"])
        # 31 boundaries, 32 microbatches of 1024 tokens, rank 40 in bf16; ids of 4 bytes beyond 65,536 tokens.
        self.assertEqual(int(steps[0]["bytes_forward"]), 31 * 32 * 1024 * (40 * 2 + 4))
        self.assertEqual(int(steps[0]["bytes_backward"]), 31 * 32 * 1024 * 40 * 2)
        self.assertEqual(len(self.rows(run / "ranks.csv")), 2 * 32)
        summary = json.loads((run / "summary.json").read_text())
        self.assertIsNone(summary["final_loss"])
        self.assertGreater(sum(rank["parameters"] for rank in summary["ranks"]), 5e9)
        self.assertGreater(summary["tokens_per_s"], 0)


class Sizes(Case):
    """compression.match, and what show says of a compressed model beside the uncompressed one."""
    matched = ("compression.match=parameters", "compression.match_multiple=4")

    def parameters(self, run):
        return sum(rank["parameters"] for rank in json.loads((run / "summary.json").read_text())["ranks"])

    def test_a_matched_model_has_the_parameters_of_the_uncompressed_one(self):
        plain = self.run_scenario("plain", "compression.pipeline={\"method\": \"none\"}")
        narrow, wide = self.run_scenario("narrow"), self.run_scenario("wide", *self.matched)
        resolved = json.loads((wide / "scenario.json").read_text())
        width = resolved["compression"]["ffn_width"]
        self.assertEqual(resolved["model"]["ffn_width"], 64)
        self.assertEqual(width % 4, 0)
        self.assertGreater(width, 64)
        self.assertLess(self.parameters(narrow), 0.9 * self.parameters(plain))
        # A step of 4 in the width is 4 * (3 * 2 * 32 + 3 * 4 + 32) parameters over the four layers; half of it is the most that is left.
        self.assertLessEqual(abs(self.parameters(wide) - self.parameters(plain)), 2 * (4 * 64 + 3 * 4 + 32))
        self.assertNotEqual((wide / "steps.csv").read_bytes(), (narrow / "steps.csv").read_bytes())
        # The resolved scenario stands for itself: it is run, verified and replayed as it is.
        self.assertIn("all equal", self.strait("verify", wide).stdout)
        self.strait("replay", wide, "--out", "again", "--set", "network.links.bandwidth=1Gbps")
        self.assertEqual(json.loads((self.folder / "again/scenario.json").read_text())["compression"]["ffn_width"], width)

    def test_a_method_that_is_larger_than_the_model_cannot_be_matched(self):
        path = self.folder / "scenario.json"
        path.write_text(json.dumps(dict(SCENARIO, data={"corpus": str(self.corpus)}, compression={
            "pipeline": {"method": "resbm", "rank": 4, "hidden": 4096}, "match": "parameters"})))
        for command in ("run", "show"):
            self.assertIn("/compression/match: method resbm has", self.strait(command, path, expect=2).stderr)

    def test_show_sets_the_model_beside_the_uncompressed_one(self):
        path = self.folder / "scenario.json"
        path.write_text(json.dumps(dict(SCENARIO, data={"corpus": str(self.corpus)},
                                        compression={"pipeline": {"method": "subspace", "ratio": 6}})))
        shown = self.strait("show", path, "--set", "model.vocabulary=257").stdout
        plain = self.strait("show", path, "--set", "model.vocabulary=257", "--set", "compression.pipeline.method=none").stdout
        for line in plain.splitlines():
            name, _, figure = line.partition(" ")
            if line.startswith(("parameters ", "FLOPs")):
                self.assertIn("; uncompressed " + line[18:].removesuffix(" trained"), shown)
        self.assertIn("method            subspace rank 5, for ratio 6, of width 32", shown)
        # fp32: 128 B a token against 5 * 4 + 2 and 5 * 4.
        self.assertIn("forward 5.82x, backward 6.40x", shown)
        self.assertIn("wire ratio        1.00x with sync, forward 1.00x", plain)

    def test_the_clip_norm_is_nobodys_compression(self):
        """Its sum takes the same 8 bytes up and down the stages with every method."""
        plain, small = (json.loads((self.run_scenario(name, f"compression.pipeline={pipeline}") / "summary.json").read_text())["wire"]["pipeline"]
                        for name, pipeline in (("plain", '{"method": "none"}'), ("small", '{"method": "subspace", "rank": 4}')))
        self.assertEqual(plain["combined"]["wire_ratio"], 1)
        self.assertEqual(plain["sync"]["bytes"], 6 * 2 * 3 * 8)
        self.assertEqual(small["sync"]["dense_bytes"], small["sync"]["bytes"])
        self.assertEqual(small["combined"]["dense_bytes"], plain["combined"]["dense_bytes"])
        self.assertAlmostEqual(small["combined"]["wire_ratio"], small["combined"]["dense_bytes"] / small["combined"]["bytes"], places=12)

    def test_a_step_without_links_is_what_is_stated(self):
        run = self.run_scenario("out", 'devices.timing={"device": "L4", "link_free_step": "250ms"}', "network.preset=datacenter-100g",
                                "network.links.latency=0ns")
        steps = self.rows(run / "steps.csv")
        # Some kilobytes at 100 Gbps and 5 us of host overhead a message: below a thousandth.
        self.assertAlmostEqual(float(steps[-1]["step_s"]) / 0.25, 1, delta=1e-3)


if __name__ == "__main__":
    unittest.main(verbosity=2)
