"""What the points of a comparison are called: which of them are the same method, the same network, the same seed. Two
scenarios are told apart by the keys in which they differ; a label names no more of them than it takes."""

import json
import re

from .quantities import bandwidth, duration, parse_bandwidth, parse_duration

SEEDS = ("seed", "network.seed")
# Keys that do not change what a point is about.
IGNORED = re.compile(r"name$|output\.|training\.(targets|checkpoint_every|keep_checkpoints)$|devices\.host_threads$")
NETWORK_KEYS = ["network.model", "network.preset", "network.links.latency"]  # the most telling first
LONGEST_VALUE = 24  # letters of a value in a name


def flatten(document, prefix: str = "") -> dict[str, str]:
    """Dotted path → value as text. Lists count as one value."""
    if not isinstance(document, dict):
        return {prefix: document if isinstance(document, str) else json.dumps(document)}
    flat = {}
    for key, value in document.items():
        flat.update(flatten(value, f"{prefix}.{key}" if prefix else key))
    return flat


def named_devices(scenario: dict) -> dict:
    """The scenario with machines that `strait calibrate` measured by their names, as cards are."""
    devices = dict(scenario.get("devices", {}))
    if isinstance(devices.get("timing"), dict):
        devices["timing"] = {k: v.get("name", "") if k == "device" and isinstance(v, dict) else v for k, v in devices["timing"].items()}
    return {**scenario, "devices": devices} if devices else scenario


def distinguish(bases: list, details: list[dict[str, str]], preferred: list[str] = ()) -> list[dict[str, str]]:
    """Of points that share a base, the fewest details that tell them apart, taken greedily, `preferred` keys first; {} where
    the base says it all. Points with equal details stay equal. Long values are shortened, different ones to different texts."""
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
        short = {key: _shortened(key, [details[i].get(key, "") for i in members]) for key in taken}
        for i in members:
            chosen[i] = {key: short[key][details[i].get(key, "")] for key in taken}
    return chosen


def _rank(key: str, preferred: list[str]) -> int:
    return preferred.index(key) if key in preferred else len(preferred)


def _shortened(key: str, values: list[str]) -> dict[str, str]:
    """For each value a text of at most some twenty letters that no other has."""
    texts = {}
    for value in dict.fromkeys(values):
        text = value
        if key == "training.phases" and value:
            text = "at " + ", ".join(str(phase["at"]) for phase in json.loads(value))
        if len(text) > LONGEST_VALUE:
            text = "…" + text[1 - LONGEST_VALUE:] if "/" in text else text[:LONGEST_VALUE - 1] + "…"
        same = sum(other == text or other.startswith(f"{text} #") for other in texts.values())
        texts[value] = f"{text} #{same + 1}" if same else text
    return texts


def detail_text(details: dict[str, str]) -> str:
    """ "packet, 20 ms latency, microbatches 8"; what is not set is not said."""
    words = []
    for key, value in details.items():
        last = key.rpartition(".")[2]
        if not value:
            continue
        if key in ("network.model", "network.preset"):
            words.append(value)
        elif last == "latency":
            words.append(f"{duration(parse_duration(value))} latency")
        else:
            words.append(f"{last.replace('_', ' ')} {value}")
    return ", ".join(words)


def _codec_text(options: dict) -> str:
    text = options.get("method", "none") + (" vq" if options.get("vq") else "")
    for key, form in (("rank", "rank {}"), ("keep", "keep {}"), ("columns", "{} columns"), ("ratio", "{:g}×"), ("format", "{}"),
                      ("bits", "int{}")):
        if options.get(key) is not None:
            return f"{text} {form.format(float(options[key]) if key == 'ratio' else options[key])}"
    return text


def method_text(scenario: dict) -> str:
    """ "none", "subspace 8×", "subspace rank 40", "none, gradients cast fp16"; the axes of the grid that compress, joined by " + ", as in
    "mapl rank 64 + mos"; what phases change, joined by " > ", as in "none > mos"."""
    compression = json.loads(json.dumps(scenario.get("compression", {})))
    texts = [_compression_text(compression)]
    for phase in scenario.get("training", {}).get("phases") or []:
        for path, value in sorted(phase.get("set", {}).items(), key=lambda item: not item[0].endswith(".method")):
            _change(compression, path.split("."), value)
        texts.append(_compression_text(compression))
    return " > ".join(text for text, before in zip(texts, [None, *texts]) if text != before)


def _change(compression: dict, path: list[str], value) -> None:
    """What a phase's `set` makes of the compression; another method forgets the options of the one before."""
    if path[0] != "compression":
        return
    *parents, last = path[1:]
    node = compression
    for key in parents:
        node = node.setdefault(key, {})
    if last == "method" and node.get("method") != value:
        node.clear()
    node[last] = value


def _compression_text(compression: dict) -> str:
    parts = []
    for axis, options in compression.items():
        if not isinstance(options, dict):
            continue  # what is said of the whole model, as "match"
        text = _codec_text(options)
        backward = options.get("backward") or {}
        if backward and _codec_text(backward) != text:
            text += f", gradients {_codec_text(backward)}"
        if text != "none":
            parts.append(text if axis == "pipeline" or options.get("method") == "mos" else f"{axis} {text}")
    return " + ".join(parts) or "none"


def _join(base: str, details: dict[str, str]) -> str:
    text = detail_text(details)
    return f"{base}, {text}" if text else base


def method_labels(scenarios: list[dict], bases: list[str]) -> list[str]:
    """One label a point. `bases` are names given by the user, or method_text. What else differs between points of one base,
    seeds and network apart, is added to it: first of the compression, then of everything else."""
    flat = [flatten(named_devices(scenario)) for scenario in scenarios]
    pick = lambda keep: [{k: v for k, v in f.items() if keep(k) and not IGNORED.match(k)} for f in flat]
    compression = pick(lambda k: k.startswith("compression."))
    labels = [_join(*pair) for pair in zip(bases, distinguish(bases, compression))]
    rest = pick(lambda k: not k.startswith(("compression.", "network.")) and k not in SEEDS)
    return [_join(*pair) for pair in zip(labels, distinguish(labels, rest))]


def network_labels(scenarios: list[dict]) -> tuple[list[str], list[str]]:
    """For each point its network ("80 Mbps, packet") and the part of it behind the bandwidth ("packet", mostly empty). A preset
    that is not resolved stands for its bandwidth."""
    networks = [s.get("network", {}) for s in scenarios]
    bases = [n["preset"] if "preset" in n and "bandwidth" not in n.get("links", {}) else bandwidth(parse_bandwidth(n.get("links", {}).get("bandwidth")))
             for n in networks]
    details = [{k: v for k, v in flatten(s).items() if k.startswith("network.") and k not in SEEDS} for s in scenarios]
    conditions = distinguish(bases, details, NETWORK_KEYS)
    return [_join(*pair) for pair in zip(bases, conditions)], [detail_text(c) for c in conditions]


def natural(text: str) -> list:
    """A sorting key that takes numbers inside a text as numbers."""
    return [(0, float(part), "") if part[:1].isdigit() else (1, 0.0, part)
            for part in re.findall(r"\d+(?:\.\d+)?|\D+", text)]
