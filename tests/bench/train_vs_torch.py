"""Training speed of the engine beside PyTorch's: the same model, batch, precision and token shard in both, one after the
other in turn on an idle machine, as ratios with their spread. How to get a PyTorch: README.md in this folder.

  STRAIT_TORCH_PYTHON=/path/to/python python3 tests/bench/train_vs_torch.py [--models llama-1m llama-7m] [--json FILE]
  ... --device cuda --models llama-150m llama-500m llama-1b --precisions bf16 --batch 32 --microbatches 8 --pipeline 1 4 --no-eager

The engine's figure is tokens / host.training_s of summary.json and so includes its start; PyTorch's excludes its warm-up.
"of peak" is the model's FLOPs per second over what one-thread matrix products reach, times the cores (bench_ops' roofline):
how far any implementation could still go. On a GPU it is over the data sheet's dense peak of an H100 or H200 SXM (989 TFLOP/s in
bf16, 67 in fp32): the usual model FLOPs utilisation, on other cards meaningless. Memory is what the engine plans (parameters,
gradients, moments, frames, scratch) and what PyTorch has allocated at most.
"""

import argparse
import array
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEER = Path(__file__).resolve().parent / "peers" / "torch_llama.py"
SHAPES = {  # the engine's presets, written out so that both sides train the same
    "llama-1m": dict(layers=4, width=128, heads=4, kv_heads=4, ffn_width=352, vocabulary=2048, context=128),
    "llama-7m": dict(layers=6, width=256, heads=8, kv_heads=8, ffn_width=704, vocabulary=4096, context=256),
    "llama-20m": dict(layers=8, width=384, heads=6, kv_heads=6, ffn_width=1024, vocabulary=8192, context=256),
    "llama-150m": dict(layers=8, width=1024, heads=16, kv_heads=16, ffn_width=2048, vocabulary=32000, context=2048),
    "llama-500m": dict(layers=16, width=1536, heads=12, kv_heads=12, ffn_width=3456, vocabulary=32000, context=2048),
    "llama-1b": dict(layers=16, width=2048, heads=16, kv_heads=16, ffn_width=6144, vocabulary=32000, context=2048),
}
HOPPER_PEAKS = {"bf16": 989e12, "fp32": 67e12}
SHARD_TOKENS = 1 << 20
MOST_BUSY, MOST_STEAL = 0.05, 0.01  # of all cores, over a second in which nothing of ours runs


def flops_per_token(shape):
    """Of training: forward and twice that backward; causal attention sees half of the positions on average."""
    width, kv_width = shape["width"], shape["width"] // shape["heads"] * shape["kv_heads"]
    layer = 2 * width * (width + kv_width) + 3 * width * shape["ffn_width"] + width * shape["context"]
    return 6 * (shape["layers"] * layer + width * shape["vocabulary"])


def matrix_peaks(bench_ops):
    """FLOP/s of all cores for each precision, as the op benchmark measures them on one; {} if it is not built."""
    if not os.access(bench_ops, os.X_OK):
        return {}
    output = subprocess.run([bench_ops, "--benchmark_filter=^$"], capture_output=True, text=True).stdout
    found = re.search(r"roofline: ([\d.]+) GFLOP/s f32, ([\d.]+) GFLOP/s bf16", output)
    if not found:
        sys.exit(f"{bench_ops} printed no roofline:\n{output}")
    return {name: float(value) * 1e9 * os.cpu_count() for name, value in zip(("fp32", "bf16"), found.groups())}


def processor_times():
    """Seconds of all cores: (busy with anything, stolen by the host, all)."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(fields) - fields[3] - fields[4], fields[7], sum(fields)


def wait_until_idle(patience_s):
    """Waits at most `patience_s` for a second without work of others: None then, else what the last second looked like."""
    end = time.monotonic() + patience_s
    while True:
        before = processor_times()
        time.sleep(1)
        busy, steal, total = (after - start for after, start in zip(processor_times(), before))
        text = f"{100 * busy / total:.0f} % busy, {100 * steal / total:.0f} % stolen, load {os.getloadavg()[0]:.2f}"
        if busy <= MOST_BUSY * total and steal <= MOST_STEAL * total:
            return None
        if time.monotonic() > end:
            return text


def write_shard(path, vocabulary):
    """A shard in which every second token follows from the one before: a model that learns shows it in its loss."""
    generator = random.Random(1)
    tokens = array.array("H")
    while len(tokens) < SHARD_TOKENS:
        token = min(int(generator.paretovariate(0.7)), vocabulary - 1)
        tokens.extend((token, (7 * token + 1) % vocabulary))
    header = array.array("i", [20240520, 1, len(tokens)] + [0] * 253)
    if sys.byteorder != "little":
        tokens.byteswap()
        header.byteswap()
    path.write_bytes(header.tobytes() + tokens.tobytes())


class Strait:
    def __init__(self, options, folder, model, precision, shard, stages):
        self.options, self.folder, self.steps = options, folder, 8
        self.label, self.memory = "strait" if stages == 1 else f"strait, {stages} stages", None
        self.scenario = {
            "name": f"{model} {precision}", "seed": 1, "model": SHAPES[model] | {"rope_theta": 10000, "norm_eps": 1e-5},
            "data": {"corpus": [str(shard)], "format": "llmc"},
            "training": {"batch": options.batch, "microbatches": options.microbatches},
            "parallel": {"pipeline": stages},
            "network": {"model": "ideal"}, "devices": {"backend": options.device, "precision": precision},
            "output": {"messages": "none"}}

    def train(self):
        self.scenario["training"]["steps"] = self.steps
        with tempfile.TemporaryDirectory(dir=self.folder) as out:
            scenario = Path(out) / "scenario.json"
            scenario.write_text(json.dumps(self.scenario))
            run = Path(out) / "run"
            result = subprocess.run([self.options.strait, "run", scenario, "--out", run, "--quiet", "--no-cache"],
                                    capture_output=True, text=True)
            if result.returncode != 0:
                sys.exit(f"strait run failed:\n{result.stderr}")
            summary = json.loads((run / "summary.json").read_text())
        return summary["tokens"], summary["host"]["training_s"], summary["final_loss"]

    def plan(self):
        """Bytes of memory of all ranks, as `strait show` plans them; None where they cannot be found there."""
        self.scenario["training"]["steps"] = self.steps
        with tempfile.TemporaryDirectory(dir=self.folder) as out:
            scenario = Path(out) / "scenario.json"
            scenario.write_text(json.dumps(self.scenario))
            shown = subprocess.run([self.options.strait, "show", scenario], capture_output=True, text=True)
        found = re.search(r"^memory +([\d.]+) (B|kB|MB|GB|TB) for all ranks", shown.stdout, re.MULTILINE)
        return float(found[1]) * 1000 ** ["B", "kB", "MB", "GB", "TB"].index(found[2]) if found else None

    def read(self):
        self.memory = self.memory or self.plan()
        if self.steps == 8:  # the first time: how many steps fill a reading
            tokens, seconds, _ = self.train()
            self.steps = max(9, int(8 * self.options.seconds / seconds))
        tokens, seconds, loss = self.train()
        return tokens / seconds, loss


class Torch:
    def __init__(self, options, python, model, precision, shard, compiled, coretype, name):
        self.label, self.memory = f"{name}{', compiled' if compiled else ''}{', ' + coretype if coretype else ''}", None
        self.command = [python, str(PEER), "--shape", json.dumps(SHAPES[model]), "--tokens", str(shard),
                        "--batch", str(options.batch), "--precision", precision, "--seconds", str(options.seconds),
                        "--repeats", "1", "--openblas-coretype", coretype, "--device", options.device] + ["--compile"] * compiled

    def read(self):
        result = subprocess.run(self.command, capture_output=True, text=True)
        if result.returncode != 0:
            sys.exit(f"the peer failed: {' '.join(self.command)}\n{result.stderr}")
        reading = json.loads(result.stdout.splitlines()[-1])
        self.memory = reading["device_bytes"]
        return reading["tokens_per_second"], reading["last_loss"]


def find_peers():
    """(interpreter, name, has torch.compile, uses OpenBLAS) of every interpreter in STRAIT_TORCH_PYTHON."""
    question = ("import torch; print(torch.__version__, hasattr(torch, 'compile'), not torch.backends.mkl.is_available())")
    peers = []
    for python in filter(None, os.environ.get("STRAIT_TORCH_PYTHON", "").split(":")):
        answer = subprocess.run([python, "-c", question], capture_output=True, text=True)
        if answer.returncode != 0:
            sys.exit(f"{python} of STRAIT_TORCH_PYTHON has no PyTorch:\n{answer.stderr}")
        version, compiles, openblas = answer.stdout.split()
        peers.append((python, f"torch {version.partition('+')[0]}", compiles == "True", openblas == "True"))
    if not peers:
        sys.exit("STRAIT_TORCH_PYTHON names no interpreter with PyTorch (several: with colons); see tests/bench/README.md")
    return peers


def contenders(options, folder, peers, model, precision, shard):
    found = [Strait(options, folder, model, precision, shard, stages) for stages in options.pipeline]
    for python, name, compiles, openblas in peers:
        can_compile = compiles and not options.no_compile
        for compiled in [False] * (not (options.no_eager and can_compile)) + [True] * can_compile:
            for coretype in ["", "SkylakeX"] if openblas and options.device == "cpu" else [""]:
                found.append(Torch(options, python, model, precision, shard, compiled, coretype, name))
    return found


def report(model, precision, runners, readings, peaks):
    ours = readings[runners[0].label]
    print(f"\n{model}, {precision}")
    for runner in runners:
        values = readings[runner.label]
        line = f"  {runner.label:32} {statistics.median(values):9.0f} tokens/s  ({min(values):.0f} to {max(values):.0f})"
        if precision in peaks:
            share = statistics.median(values) * flops_per_token(SHAPES[model]) / peaks[precision]
            line += f"  {100 * share:3.0f} % of peak"
        if runner.memory:
            line += f"  {runner.memory / 1e9:6.2f} GB"
        if values is not ours:
            line += (f"   strait is {statistics.median(ours) / statistics.median(values):.2f}x"
                     f"  ({min(ours) / max(values):.2f} to {max(ours) / min(values):.2f})")
        print(line, flush=True)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    build = Path(os.environ.get("STRAIT_BUILD_DIR", ROOT / "build"))
    parser.add_argument("--strait", default=build / "sim/cli/strait", type=Path, help="the program (default: %(default)s)")
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=["llama-1m", "llama-7m", "llama-20m"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--batch", type=int, default=8, help="sequences per step, on both sides")
    parser.add_argument("--pipeline", type=int, nargs="+", default=[1], help="pipeline stages of the engine, a contender each")
    parser.add_argument("--microbatches", type=int, default=1, help="of the engine")
    parser.add_argument("--seconds", type=float, default=10, help="length of a reading")
    parser.add_argument("--repeats", type=int, default=3, help="readings of each contender")
    parser.add_argument("--no-eager", action="store_true", help="PyTorch with torch.compile alone, where it has that")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--even-if-busy", action="store_true", help="measure on a machine that is not idle, and say so")
    parser.add_argument("--json", type=Path, help="write all readings there")
    options = parser.parse_args()
    if not os.access(options.strait, os.X_OK):
        sys.exit(f"{options.strait} is not there; build it (./strait build) or name it with --strait")
    options.strait = options.strait.resolve()
    return options


def main():
    options = parse_options()
    peers = find_peers()
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"],
                            capture_output=True, text=True).stdout.strip() or "unknown"
    processor = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                      if line.startswith("model name")), platform.machine())
    print(f"{processor}, {os.cpu_count()} cores; commit {commit}; batch {options.batch}; {' '.join(sys.argv)}", flush=True)
    if options.device == "cuda":
        peaks = HOPPER_PEAKS
        print(subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
                             capture_output=True, text=True).stdout.strip())
    else:
        peaks = matrix_peaks(options.strait.parents[2] / "tests/bench/ops/bench_ops")
    for precision, peak in peaks.items():
        print(f"matrix products, {precision}: {peak / 1e9:.0f} GFLOP/s {'dense peak' if options.device == 'cuda' else 'on all cores'}")
    results, busy = [], []
    with tempfile.TemporaryDirectory(prefix="strait-bench-") as folder:
        for model in options.models:
            shard = Path(folder) / f"{model}.bin"
            write_shard(shard, SHAPES[model]["vocabulary"])
            for precision in options.precisions:
                runners = contenders(options, Path(folder), peers, model, precision, shard)
                readings = {runner.label: [] for runner in runners}
                losses = {}
                for _ in range(options.repeats):
                    for runner in runners:
                        work = wait_until_idle(0 if options.even_if_busy else 60)
                        if work and not options.even_if_busy:
                            sys.exit(f"the machine is not idle ({work}), so readings would mean nothing; --even-if-busy "
                                     "measures all the same")
                        busy.extend([work] if work else [])
                        value, losses[runner.label] = runner.read()
                        readings[runner.label].append(value)
                        print(f"  {model}, {precision}, {runner.label}: {value:.0f} tokens/s", flush=True)
                report(model, precision, runners, readings, peaks)
                results.append({"model": model, "precision": precision, "tokens_per_second": readings, "last_loss": losses})
    if busy:
        print(f"\nNOT IDLE before {len(busy)} of the readings (the last: {busy[-1]}): these figures are no evidence.")
    if options.json:
        document = {"machine": processor, "cores": os.cpu_count(), "commit": commit, "command": sys.argv, "not_idle": busy,
                    "matrix_peaks": peaks,
                    "results": results}
        options.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
