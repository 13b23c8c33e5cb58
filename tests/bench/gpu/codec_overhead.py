"""What compressing costs a stage: trains a model over 4 stages with `subspace` in bf16, times it by the clock of what computes it, and
prints coding over computing, for each rank and in all, of the last step.

  python3 tests/bench/gpu/codec_overhead.py PATH_OF_STRAIT [--model llama-150m] [--device cuda] [--batch 32] [--ratio 4]
"""
import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from train_vs_torch import SHAPES, write_shard  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("strait", type=Path)
    parser.add_argument("--model", choices=SHAPES, default="llama-150m")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--ratio", type=float, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="strait-codec-") as name:
        folder = Path(name)
        write_shard(folder / "tokens.bin", SHAPES[options.model]["vocabulary"])
        scenario = {
            "name": "codec", "seed": 1, "model": SHAPES[options.model], "data": {"corpus": [str(folder / "tokens.bin")], "format": "llmc"},
            "training": {"steps": 6, "batch": options.batch, "microbatches": 8}, "parallel": {"pipeline": 4},
            "compression": {"pipeline": {"method": "subspace", "ratio": options.ratio}}, "network": {"model": "ideal"},
            "devices": {"backend": options.device, "precision": "bf16", "timing": "measured"}}
        (folder / "scenario.json").write_text(json.dumps(scenario))
        done = subprocess.run([options.strait, "run", folder / "scenario.json", "--out", folder / "run", "--quiet", "--no-cache"],
                              capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(done.stdout + done.stderr)
        with open(folder / "run/ranks.csv", newline="") as file:
            rows = list(csv.DictReader(file))
    last = [row for row in rows if row["step"] == rows[-1]["step"]]
    print(f"codec of {options.model}, subspace {options.ratio:g}x, bf16, batch {options.batch}, 4 stages, {options.device}")
    for row in last:
        compute, codec = float(row["compute_s"]), float(row["codec_s"])
        print(f"  rank {row['rank']}: computing {1e3 * compute:.2f} ms, coding {1e3 * codec:.3f} ms, {100 * codec / compute:.2f} %")
    compute, codec = (sum(float(row[key]) for row in last) for key in ("compute_s", "codec_s"))
    print(f"  all:    {100 * codec / compute:.2f} %")


if __name__ == "__main__":
    main()
