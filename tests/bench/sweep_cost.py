"""What a sweep costs beside its trainings, and how fast replays are: prints

  * (a sweep of 5 bandwidths x 2 methods) / (its 2 trainings), both with the same number of processes at once, for `fluid` and
    `packet`: in host time, and in processor time, which other users of the machine disturb less;
  * simulated steps per host second of a replay of the quickstart's grid over `ideal`, `fluid` and `packet`, start included.

  python3 tests/bench/sweep_cost.py [--strait build/sim/cli/strait] [--steps 200] [--models fluid packet] [--json FILE]

The model, the grid and the messages are the quickstart's; the tokens are made up here, so nothing is fetched. On an idle machine.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from train_vs_torch import write_shard

ROOT = Path(__file__).resolve().parents[2]
BANDWIDTHS = ["80Mbps", "300Mbps", "1Gbps", "16Gbps", "100Gbps"]
METHODS = [{"label": "none", "set": {"compression.pipeline": {"method": "none"}}},
           {"label": "subspace", "set": {"compression.pipeline": {"method": "subspace", "ratio": 8}}}]


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        shard = folder / "tokens.bin"
        write_shard(shard, 2048)
        self.base = {
            "name": "sweep_cost", "seed": 1, "model": {"preset": "llama-1m", "vocabulary": 2048}, "data": {"corpus": [str(shard)], "format": "llmc"},
            "training": {"steps": options.steps, "batch": 64, "microbatches": 8, "optimizer": {"lr": 3e-3}},
            "parallel": {"pipeline": 4, "schedule": "gpipe"}, "network": {"model": "fluid", "preset": "home-80m"},
            "devices": {"backend": "cpu", "timing": {"device": "A10G"}}, "output": {"messages": "none"}}

    def command(self, *arguments):
        return [str(self.options.strait), *map(str, arguments)]

    def seconds(self, *commands):
        """Host and processor seconds of commands that run at once, with a cache of their own that is empty."""
        with tempfile.TemporaryDirectory(dir=self.folder) as cache:
            start, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
            processes = [subprocess.Popen(c, cwd=self.folder, env=dict(os.environ, STRAIT_CACHE=cache), stdout=subprocess.DEVNULL,
                                          stdin=subprocess.DEVNULL) for c in commands]
            if any([p.wait() for p in processes]):
                sys.exit(f"failed: {commands}")
            now = resource.getrusage(resource.RUSAGE_CHILDREN)
            return time.monotonic() - start, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime

    def write(self, name, content):
        (self.folder / name).write_text(json.dumps(content))
        return self.folder / name

    def trainings(self, jobs):
        """The two trainings by themselves, as the sweep runs them: both at once where there are two processes."""
        commands = []
        for i, method in enumerate(METHODS):
            scenario = json.loads(json.dumps(self.base))
            scenario["compression"] = {"pipeline": method["set"]["compression.pipeline"]}
            scenario["devices"]["host_threads"] = max(1, jobs // 2)
            commands.append(self.command("run", self.write(f"training{i}.json", scenario), "--record-only", "--quiet",
                                         "--out", self.folder / f"training{i}"))
        if jobs == 1:
            return [sum(parts) for parts in zip(*(self.seconds(command) for command in commands))]
        return self.seconds(*commands)

    def sweep(self, model, jobs):
        self.base["network"]["model"] = model
        sweep = self.write(f"sweep_{model}.json",
                           {"base": self.base, "axes": {"method": METHODS, "network.links.bandwidth": BANDWIDTHS}})
        return self.seconds(self.command("sweep", sweep, "--jobs", jobs, "--quiet", "--out", self.folder / f"sweep_{model}"))

    def replay(self, model, steps):
        """Steps per second over a record of `steps` steps; the meta backend writes the same messages."""
        scenario = json.loads(json.dumps(self.base))
        scenario["training"]["steps"] = steps
        scenario["devices"]["backend"] = "meta"
        scenario["network"]["model"] = model
        scenario["compression"] = {"pipeline": METHODS[1]["set"]["compression.pipeline"]}
        run = self.folder / f"replay_{model}"
        self.seconds(self.command("run", self.write(f"replay_{model}.json", scenario), "--record-only", "--quiet", "--out", run))
        best = min(self.seconds(self.command("replay", run, "--quiet"))[0] for _ in range(3))
        return steps / best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strait", type=Path, default=ROOT / "build/sim/cli/strait")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--models", nargs="*", default=["fluid", "packet"], choices=["ideal", "fluid", "packet"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.strait = options.strait.resolve()
    result = {"steps": options.steps, "jobs": options.jobs, "sweeps": [], "replays": []}
    with tempfile.TemporaryDirectory(prefix="strait-bench-") as folder:
        bench = Bench(options, Path(folder))
        if options.models:
            trainings, trainings_cpu = bench.trainings(options.jobs)
            print(f"2 trainings of {options.steps} steps: {trainings:.1f} s with {options.jobs} at once", flush=True)
            result |= {"trainings_s": trainings, "trainings_cpu_s": trainings_cpu}
        for model in options.models:
            seconds, cpu = bench.sweep(model, options.jobs)
            row = {"model": model, "seconds": seconds, "ratio": seconds / trainings, "cpu_ratio": cpu / trainings_cpu}
            result["sweeps"].append(row)
            print(f"sweep of 10 points over {model}: {seconds:.1f} s, {row['ratio']:.2f} x its trainings "
                  f"({row['cpu_ratio']:.2f} x in processor time)", flush=True)
        for model, steps in (("ideal", 5000), ("fluid", 5000), ("packet", 20)):
            rate = bench.replay(model, steps)
            result["replays"].append({"model": model, "steps_per_s": rate})
            print(f"replay over {model}: {rate:.0f} steps/s, {1e3 / rate:.3g} ms a step", flush=True)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
