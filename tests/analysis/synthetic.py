"""A small sweep directory whose numbers are known by formula: 2 methods, 2 bandwidths, 3 seeds, 4 steps on 2 ranks. Written as the
programs write theirs (docs/metrics.md, docs/sweep.md), without running them."""

import csv
import json
from pathlib import Path

METHODS = {"none": 1.0, "subspace 4x": 4.0}
BANDWIDTHS = {"80Mbps": 80e6, "1Gbps": 1e9}
SEEDS = (1, 2, 3)
STEPS, RANKS, TOKENS = 4, 2, 512
TARGETS = (5.0, 4.05)
PARTS = ["compute_s", "codec_s", "host_s", "serialisation_s", "propagation_s", "window_s", "queue_s", "recovery_s"]


def step_seconds(method: str, bandwidth: str, step: int) -> float:
    """Twice as long in the first step, whose connections are cold."""
    return {"none": {"80Mbps": 8.0, "1Gbps": 1.0}, "subspace 4x": {"80Mbps": 2.0, "1Gbps": 0.5}}[method][bandwidth] * (2 if step == 1 else 1)


def loss(method: str, seed: int, step: int) -> float:
    """Ends at 4.00 + seed / 100, compressed 0.1 above that and, by the seed, up to 0.002 more or less: pairs differ by 0.098, 0.1, 0.102."""
    return 6.0 - step / 2 + seed / 100 + (0.1 + 0.002 * (seed - 2) if method != "none" and step > 0 else 0.0)


def end_of(method: str, bandwidth: str, step: int) -> float:
    return sum(step_seconds(method, bandwidth, s) for s in range(1, step + 1))


def write_csv(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def scenario(method: str, bandwidth: str, seed: int) -> dict:
    pipeline = {"method": "none", "wire": "fp32"} if method == "none" else {"method": "subspace", "wire": "fp32", "ratio": 4.0}
    return {"name": "synthetic", "seed": seed, "training": {"steps": STEPS, "targets": list(TARGETS)}, "compression": {"pipeline": pipeline},
            "network": {"model": "fluid", "seed": 0, "links": {"bandwidth": bandwidth, "latency": "20ms"}},
            "devices": {"host_threads": seed}}


def step_row(method: str, bandwidth: str, seed: int, step: int) -> dict:
    seconds = step_seconds(method, bandwidth, step)
    parts = dict.fromkeys(PARTS, 0.0) | {"compute_s": 0.25 * seconds, "serialisation_s": 0.5 * seconds, "window_s": 0.25 * seconds}
    half = int(500_000 / METHODS[method])
    return {"step": step, "tokens": step * TOKENS, "loss": loss(method, seed, step) + 0.05, "grad_norm": 1.0, "learning_rate": 0.001,
            "time_s": end_of(method, bandwidth, step), "step_s": seconds, **parts, "bytes_forward": half, "bytes_backward": half, "bytes_sync": 0}


def rank_rows(method: str, bandwidth: str, step: int) -> list[dict]:
    seconds = step_seconds(method, bandwidth, step)
    return [{"step": step, "rank": rank, "compute_s": 0.25 * seconds, "codec_s": 0.0, "waiting_s": (0.25 + 0.25 * rank) * seconds,
             "idle_s": (0.5 - 0.25 * rank) * seconds, "bytes_sent": 1, "bytes_received": 1} for rank in range(RANKS)]


def summary(method: str, bandwidth: str, seed: int) -> dict:
    ratio, end = METHODS[method], end_of(method, bandwidth, STEPS)
    sent, transfer = int(1_000_000 * STEPS / ratio), 0.5 * end
    traffic = {"messages": 8, "bytes": sent, "bytes_sync": 0, "dense_bytes": 1_000_000 * STEPS, "wire_ratio": ratio, "transfer_s": transfer}
    crossing = dict.fromkeys(("forward", "backward", "sync", "combined"), traffic)
    reached = {target: next((s for s in (0, 2, 4) if loss(method, seed, s) <= target), None) for target in TARGETS}
    return {"name": "synthetic", "complete": True, "steps": STEPS, "tokens": STEPS * TOKENS, "final_loss": loss(method, seed, STEPS) + 0.05,
            "final_validation_loss": loss(method, seed, STEPS), "best_validation_loss": loss(method, seed, STEPS), "time_s": end,
            "mean_step_s": end / STEPS, "tokens_per_s": STEPS * TOKENS / end, "bytes": {"forward": sent // 2, "backward": sent // 2, "sync": 0},
            "wire": {"boundaries": [], "pipeline": crossing, "context": crossing, "data": crossing, "all": crossing}, "reference": None,
            "targets": [{"loss": t, "measured_on": "validation", "step": s, "time_s": "not reached" if s is None else end_of(method, bandwidth, s)}
                        for t, s in reached.items()]}


def timeline(method: str, bandwidth: str) -> dict:
    """Of step 2: each rank computes one microbatch, one message goes down."""
    start = end_of(method, bandwidth, 1) * 1e6
    names = [{"ph": "M", "pid": 1, "tid": rank, "name": "thread_name", "args": {"name": f"rank {rank}"}} for rank in range(RANKS)]
    names.append({"ph": "M", "pid": 2, "tid": 1, "name": "thread_name", "args": {"name": "0 to 1"}})
    computes = [{"ph": "X", "pid": 1, "tid": rank, "ts": start + rank * 4e5, "dur": 1e5, "name": "forward 0", "cat": "compute",
                 "args": {"step": 2, "queue": 0}} for rank in range(RANKS)]
    message = {"ph": "X", "pid": 2, "tid": 1, "ts": start + 2e5, "dur": 1e5, "name": "forward 0", "cat": "message",
               "args": {"step": 2, "bytes": 100, "sent_s": start / 1e6 + 0.1, "delivered_s": start / 1e6 + 0.3}}
    instant = {"ph": "X", "pid": 1, "tid": 0, "ts": start + 1e5, "dur": 0.001, "name": "send forward 0 to 1", "cat": "message",
               "args": {"step": 2, "bytes": 100}}
    return {"displayTimeUnit": "ms", "traceEvents": [*names, *computes, message, instant]}


def write_run(folder: Path, method: str, bandwidth: str, seed: int, finished: bool = True, steps: int = STEPS) -> None:
    folder.mkdir(parents=True)
    (folder / "scenario.json").write_text(json.dumps(scenario(method, bandwidth, seed)))
    write_csv(folder / "steps.csv", [step_row(method, bandwidth, seed, step) for step in range(1, steps + 1)])
    write_csv(folder / "ranks.csv", [row for step in range(1, steps + 1) for row in rank_rows(method, bandwidth, step)])
    write_csv(folder / "evals.csv", [{"step": step, "tokens": step * TOKENS, "time_s": end_of(method, bandwidth, step),
                                      "validation_loss": loss(method, seed, step), "perplexity": 1.0} for step in range(0, steps + 1, 2)])
    if finished:
        (folder / "timeline.json").write_text(json.dumps(timeline(method, bandwidth)))
        (folder / "summary.json").write_text(json.dumps(summary(method, bandwidth, seed)))


def write_sweep(folder: Path) -> list[dict]:
    """All points finished. The rows of its runs.csv."""
    rows, points = [], []
    for method in METHODS:
        for bandwidth in BANDWIDTHS:
            for seed in SEEDS:
                name = f"{method.replace(' ', '-')}_{bandwidth}_{seed}"
                write_run(folder / "runs" / name, method, bandwidth, seed)
                s = summary(method, bandwidth, seed)
                axes = {"method": method, "network.links.bandwidth": bandwidth, "seed": str(seed)}
                points.append({"name": name, "axes": axes, "training": "0", "scenario_hash": "", "directory": f"runs/{name}"})
                rows.append({"point": name, **axes, "status": "ok", **{key: s[key] for key in ("steps", "tokens", "final_loss", "final_validation_loss",
                             "best_validation_loss", "time_s")}, **{f"time_to_{t['loss']:g}_s": t["time_s"] for t in s["targets"]},
                             **{key: s[key] for key in ("tokens_per_s", "mean_step_s")}, **dict.fromkeys(("wire_ratio_forward", "wire_ratio_backward",
                             "wire_ratio"), METHODS[method]), **{f"bytes_{key}": value for key, value in s["bytes"].items()}, "path": f"runs/{name}"})
    write_csv(folder / "runs.csv", rows)
    (folder / "plan.json").write_text(json.dumps({"name": "synthetic", "trainings": [], "points": points}))
    values = [{"label": "none", "set": {"compression.pipeline": {"method": "none"}}},
              {"label": "subspace 4x", "set": {"compression.pipeline": {"method": "subspace", "ratio": 4}}}]
    (folder / "sweep.json").write_text(json.dumps({"base": {}, "axes": {"method": values, "network.links.bandwidth": list(BANDWIDTHS),
                                                                        "seed": list(SEEDS)}}))
    return rows
