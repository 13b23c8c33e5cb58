"""What the points of a comparison are called: which of them are the same method, the same network, the same seed. Two
scenarios are told apart by the keys in which they differ; a label names no more of them than it takes."""

import json
import re

from .quantities import bandwidth, duration, parse_bandwidth, parse_duration

SEEDS = ("seed", "network.seed")
# Keys that do not change what a point is about.
IGNORED = re.compile(r"name$|output\.|training\.targets$|devices\.host_threads$|training\.checkpoint_every$")
NETWORK_KEYS = ["network.model", "network.preset", "network.links.latency"]  # the most telling first


def flatten(document, prefix: str = "") -> dict[str, str]:
    """Dotted path → value as text. Lists count as one value."""
    if not isinstance(document, dict):
        return {prefix: document if isinstance(document, str) else json.dumps(document)}
    flat = {}
    for key, value in document.items():
        flat.update(flatten(value, f"{prefix}.{key}" if prefix else key))
    return flat


def distinguish(bases: list, details: list[dict[str, str]], preferred: list[str] = ()) -> list[dict[str, str]]:
    """Of points that share a base, the fewest details that tell them apart, taken greedily, `preferred` keys first; {} where
    the base says it all. Points with equal details stay equal."""
    chosen = [{} for _ in bases]
    for base in dict.fromkeys(bases):
        members = [i for i, other in enumerate(bases) if other == base]
        keys = sorted({key for i in members for key in details[i]}, key=lambda key: (_rank(key, preferred), key))
        wanted = len({tuple(details[i].get(key, "") for key in keys) for i in members})
        taken, parts = [], 1
        for key in keys:
            if parts == wanted:
                break
            now = len({tuple(details[i].get(other, "") for other in (*taken, key)) for i in members})
            if now > parts:
                taken, parts = [*taken, key], now
        for i in members:
            chosen[i] = {key: details[i].get(key, "") for key in taken}
    return chosen


def _rank(key: str, preferred: list[str]) -> int:
    return preferred.index(key) if key in preferred else len(preferred)


def detail_text(details: dict[str, str]) -> str:
    """ "packet, 20 ms latency, microbatches 8" """
    words = []
    for key, value in details.items():
        last = key.rpartition(".")[2]
        if key in ("network.model", "network.preset"):
            words.append(value or "no preset")
        elif last == "latency":
            words.append(f"{duration(parse_duration(value))} latency")
        else:
            words.append(f"{last.replace('_', ' ')} {value or 'unset'}")
    return ", ".join(words)


def method_text(scenario: dict) -> str:
    """ "none", "subspace 8×", "subspace rank 40"; the axes of the grid that compress, joined by " + "."""
    parts = []
    for axis, options in scenario.get("compression", {}).items():
        text = options.get("method", "none")
        if "rank" in options:
            text += f" rank {options['rank']}"
        elif "ratio" in options:
            text += f" {float(options['ratio']):g}×"
        if text != "none":
            parts.append(text if axis == "pipeline" else f"{axis} {text}")
    return " + ".join(parts) or "none"


def _join(base: str, details: dict[str, str]) -> str:
    return f"{base}, {detail_text(details)}" if details else base


def method_labels(scenarios: list[dict], bases: list[str]) -> list[str]:
    """One label a point. `bases` are names given by the user, or method_text. What else differs between points of one base,
    seeds and network apart, is added to it: first of the compression, then of everything else."""
    flat = [flatten(scenario) for scenario in scenarios]
    pick = lambda keep: [{k: v for k, v in f.items() if keep(k) and not IGNORED.match(k)} for f in flat]
    compression = pick(lambda k: k.startswith("compression."))
    labels = [_join(*pair) for pair in zip(bases, distinguish(bases, compression))]
    rest = pick(lambda k: not k.startswith(("compression.", "network.")) and k not in SEEDS)
    return [_join(*pair) for pair in zip(labels, distinguish(labels, rest))]


def network_labels(scenarios: list[dict]) -> tuple[list[str], list[str]]:
    """For each point its network ("80 Mbps, packet") and the part of it behind the bandwidth ("packet", mostly empty)."""
    bases = [bandwidth(parse_bandwidth(s.get("network", {}).get("links", {}).get("bandwidth"))) for s in scenarios]
    details = [{k: v for k, v in flatten(s).items() if k.startswith("network.") and k not in SEEDS} for s in scenarios]
    conditions = distinguish(bases, details, NETWORK_KEYS)
    return [_join(*pair) for pair in zip(bases, conditions)], [detail_text(c) for c in conditions]


def natural(text: str) -> list:
    """A sorting key that takes numbers inside a text as numbers."""
    return [(0, float(part), "") if part[:1].isdigit() else (1, 0.0, part)
            for part in re.findall(r"\d+(?:\.\d+)?|\D+", text)]
