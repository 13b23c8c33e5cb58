"""What compressing costs a stage: trains a model over 4 stages once with each method, times it by the clock of what computes it (on the CPU
that of a rank's own thread), and prints, of the fastest of each phase over the microbatches and steps but the first,

  coding      of a microbatch: encoding, decoding and both for the gradients over forward and backward; of all ranks, and of the rank where it
              is most;
  once        what codecs do once a step (projectors, codebooks, bases) over what the optimizer does, of all ranks;
  computing   forward and backward over those of `none`, of all ranks: a method may change the model;
  memory      planned at most on a rank, of 8 microbatches of that size under 1F1B, over that of the same rank with `none`: the rank where it is
              most, and the part of it that is parameters, gradients, moments, tables and states (the rest is activations and scratch).

  python3 tests/bench/codec_overhead.py PATH_OF_STRAIT [--model llama-150m] [--device cpu] [--batch 1] [--microbatches 1] [--methods NAME ...]

Ratios: 4, at which the methods are compared at 150M parameters; resbm also its paper's 128, mapl with quantisation 8. mapl states its rank,
because its ratio counts what it sends once a step.
"""
import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from train_vs_torch import SHAPES, write_shard  # noqa: E402

METHODS = {
    "none": {"method": "none"},
    "cast fp16": {"method": "cast", "format": "fp16"},
    "cast fp8": {"method": "cast", "format": "fp8_e4m3"},
    "quantize int4": {"method": "quantize", "bits": 4},
    "topk 4x": {"method": "topk", "ratio": 4},
    "column_mask 4x": {"method": "column_mask", "ratio": 4},
    "column_mask 4x, anchors": {"method": "column_mask", "ratio": 4, "anchors": "static"},
    "lowrank 4x": {"method": "lowrank", "ratio": 4},
    "frozen 4x": {"method": "frozen", "ratio": 4},
    "subspace 4x": {"method": "subspace", "ratio": 4},
    "resbm 128x": {"method": "resbm", "ratio": 128},
    "resbm 4x": {"method": "resbm", "ratio": 4},
    "resbm iota_v1 128x": {"method": "resbm", "form": "iota_v1", "ratio": 128},
    "mapl 4x": {"method": "mapl", "rank": 256},
    "mapl+vq 8x": {"method": "mapl", "rank": 256, "vq": {"groups": 16, "codes": 256, "rounds": 1}},
}


MEMORY_MICROBATCHES = 8
PER_MICROBATCH = {"compute": ("forward", "backward", "backward_weight"), "codec": ("encode", "decode", "encode_grad", "decode_grad")}


def run(options, folder, pipeline, computes):
    """Files of a training: on the device, or, for the memory, on the backend that computes nothing."""
    batch, microbatches = options.batch, options.microbatches
    if not computes:
        batch, microbatches = batch // microbatches * MEMORY_MICROBATCHES, MEMORY_MICROBATCHES
    scenario = {
        "name": "codec", "seed": 1, "model": SHAPES[options.model], "data": {"corpus": [str(folder / "tokens.bin")], "format": "llmc"},
        "training": {"steps": options.steps if computes else 1, "batch": batch, "microbatches": microbatches}, "parallel": {"pipeline": 4},
        "compression": {"pipeline": pipeline}, "network": {"model": "ideal"},
        "devices": {"backend": options.device if computes else "meta", "precision": "bf16",
                    "timing": "measured" if computes else {"device": "A10G"}},
        "output": {"timeline_steps": [2, options.steps]}}
    (folder / "scenario.json").write_text(json.dumps(scenario))
    shutil.rmtree(folder / "run", ignore_errors=True)
    done = subprocess.run([options.strait, "run", folder / "scenario.json", "--out", folder / "run", "--quiet", "--no-cache"],
                          capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    return folder / "run"


def seconds_of(files):
    """[{(category, per microbatch or once a step): s}] of each rank."""
    found = defaultdict(lambda: defaultdict(float))  # of what is once a step there may be several parts
    for event in json.loads((files / "timeline.json").read_text())["traceEvents"]:
        if event["ph"] == "X" and event["pid"] == 1 and event["cat"] in PER_MICROBATCH:
            phase = event["name"].split()[0]
            key = (event["tid"], event["cat"], phase in PER_MICROBATCH[event["cat"]], phase)
            found[key][event["args"]["step"], event["name"]] += 1e-6 * event["dur"]
    ranks = defaultdict(lambda: defaultdict(float))
    for (rank, category, per_microbatch, _), seconds in found.items():
        ranks[rank][category, per_microbatch] += min(seconds.values())
    return [ranks[rank] for rank in sorted(ranks)]


def memory_of(files):
    """[(peak, of it persistent) bytes] of each rank."""
    return [(rank["peak_bytes"], rank["persistent_bytes"]) for rank in json.loads((files / "summary.json").read_text())["ranks"]]


def share(part, whole):
    return 100 * part / whole if whole else 0.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("strait", type=Path)
    parser.add_argument("--model", choices=SHAPES, default="llama-150m")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--microbatches", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), metavar="NAME",
                        help="of " + ", ".join(METHODS) + "; none is always measured")
    options = parser.parse_args()
    print(f"codecs of {options.model} in bf16 over 4 stages, {options.device}, batch {options.batch} in {options.microbatches} microbatches, "
          f"steps 2 to {options.steps}; in %")
    print(f"{'':24} {'coding / computing':>20}   {'once /':>9}   {'computing':>9}   {'peak memory / none':>21}")
    print(f"{'':24} {'all':>8} {'worst rank':>11}   {'optimizer':>9}   {'/ none':>9}   {'worst rank':>10} {'persistent':>10}")
    with tempfile.TemporaryDirectory(prefix="strait-codec-") as name:
        folder = Path(name)
        write_shard(folder / "tokens.bin", SHAPES[options.model]["vocabulary"])
        plain = plain_memory = None
        for method in dict.fromkeys(["none", *options.methods]):
            ranks = seconds_of(run(options, folder, METHODS[method], True))
            memory = memory_of(run(options, folder, METHODS[method], False))
            plain, plain_memory = plain or ranks, plain_memory or memory

            def total(of, *key):
                return sum(rank[key] for rank in of)

            worst = max(share(rank["codec", True], rank["compute", True]) for rank in ranks)
            peak, persistent = max((share(mine[0] - base[0], base[0]), share(mine[1] - base[1], base[0]))
                                   for mine, base in zip(memory, plain_memory, strict=True))
            print(f"{method:24} {share(total(ranks, 'codec', True), total(ranks, 'compute', True)):8.2f} {worst:11.2f}   "
                  f"{share(total(ranks, 'codec', False), total(ranks, 'compute', False)):9.1f}   "
                  f"{share(total(ranks, 'compute', True), total(plain, 'compute', True)):9.1f}   {peak:+10.2f} {persistent:+10.2f}", flush=True)


if __name__ == "__main__":
    main()
