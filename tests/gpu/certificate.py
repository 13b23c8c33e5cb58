"""Two processes, the same training, the same bits? Trains 20 steps of a model over 4 stages on a device, lets `strait verify` train
them again in another process, and compares every step's loss, gradient norm, messages and the final parameters by their hashes.

  python3 tests/gpu/certificate.py PATH_OF_STRAIT [--model llama-150m] [--batch 64] [--backend cuda]

The batch is large on purpose: an order of sums that changes shows there and may hide in a small one. fp32, which a GPU computes ten
times slower, gets a fifth of the steps and a quarter of the batch. Tokens are made up here.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))
from train_vs_torch import SHAPES, write_shard  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("strait", type=Path)
    parser.add_argument("--model", choices=SHAPES, default="llama-150m")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--backend", choices=["cuda", "cpu"], default="cuda")
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory(prefix="strait-certificate-") as name:
        folder = Path(name)
        shard = folder / "tokens.bin"
        write_shard(shard, SHAPES[options.model]["vocabulary"])
        for method in ({"method": "none"}, {"method": "subspace", "ratio": 4}):
            for precision in ("bf16", "fp32"):
                few = precision == "fp32"
                steps, batch = (max(2, options.steps // 5), max(8, options.batch // 4)) if few else (options.steps, options.batch)
                scenario = {
                    "name": "certificate", "seed": 1, "model": SHAPES[options.model],
                    "data": {"corpus": [str(shard)], "format": "llmc"},
                    "training": {"steps": steps, "batch": batch, "microbatches": 8, "optimizer": {"lr": 1e-3}},
                    "parallel": {"pipeline": 4, "schedule": "1f1b"}, "compression": {"pipeline": method},
                    "network": {"model": "ideal"}, "devices": {"backend": options.backend, "precision": precision}}
                (folder / "scenario.json").write_text(json.dumps(scenario))
                run = folder / f"{method['method']}-{precision}"
                for arguments in (["run", folder / "scenario.json", "--out", run, "--no-cache", "--quiet"], ["verify", run]):
                    done = subprocess.run([options.strait, *arguments], capture_output=True, text=True)
                    if done.returncode != 0:
                        break
                failed |= done.returncode != 0
                label = f"{options.model}, {method['method']}, {precision}, {steps} steps of {batch} sequences"
                print(f"{label:60} {'the same bits' if done.returncode == 0 else 'FAILED'}", flush=True)
                if done.returncode != 0:
                    print(done.stdout + done.stderr)
    sys.exit(failed)


if __name__ == "__main__":
    main()
