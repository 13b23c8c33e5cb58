"""The trainings of a sweep as the results page counts them: an entry for each value of the axis that names methods, with what its seeds have
measured. The seeds are the only spread: neither loss nor bytes depend on the network."""

import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rates import optimizer_of, value_at  # noqa: E402
from strait_analysis.files import InputError  # noqa: E402
from strait_analysis.points import Point, figures_of, is_target_column, points_of  # noqa: E402
from strait_analysis.statistics import mean_interval  # noqa: E402


@dataclass
class Entry:
    label: str  # of the sweep file
    method: str  # "mapl", "mapl vq", "quantize"; the label where the scenario has no method of the pipeline's boundaries
    setting: str  # "8×", "rank 64", "int4", "bf16"; "" for none
    ratio: float  # the wire ratio that was asked for; nan where the scenario asks for none
    optimizer: str
    rate: float
    tokens: set[int]  # that its seeds have trained on
    losses: dict[int, float] = field(default_factory=dict)  # seed → final validation loss, of those that have one
    wire_ratio: float = math.nan  # both directions and all synchronisation
    wire_ratio_forward: float = math.nan
    step_s: dict[str, float] = field(default_factory=dict)  # network (bandwidth or preset) → mean step, virtual seconds, mean over seeds
    times: dict[tuple[str, float], list[float]] = field(default_factory=dict)  # (network, target) → virtual seconds a seed; nan: not reached
    seeds: set[int] = field(default_factory=set)

    @property
    def loss(self) -> float:
        """Mean over the seeds that have one."""
        return sum(self.losses.values()) / len(self.losses) if self.losses else math.nan

    @property
    def band(self) -> tuple[float, float]:
        """The lowest and the highest loss of the seeds."""
        return (min(self.losses.values()), max(self.losses.values())) if self.losses else (math.nan, math.nan)


def entries_of(directory) -> list[Entry]:
    """The entries of a sweep directory, in the order of its file. Raises InputError where a point of it is not finished. A point that
    failed counts as a seed without a loss."""
    found: dict[str, list[Point]] = {}
    for point in points_of(directory):
        if point.status in ("unfinished", "not begun"):
            raise InputError(f"{directory}: {point.name} is {point.status}: the page is made of whole sweeps")
        found.setdefault(point.method, []).append(point)
    if not found:
        raise InputError(f"{directory}: no points")
    entries = [_entry(label, points) for label, points in found.items()]
    tokens = set.union(*(entry.tokens for entry in entries))
    if len(tokens) != 1:
        raise InputError(f"{directory}: losses are compared at equal tokens; there are {sorted(tokens)}")
    return entries


def _entry(label: str, points: list[Point]) -> Entry:
    options = {"method": label, **value_at(points[0].written, "compression.pipeline", {})}
    setting = next((form.format(options[key]) for key, form in (("ratio", "{:g}×"), ("rank", "rank {}"), ("bits", "int{}"), ("format", "{}"))
                    if key in options), "")
    method = options["method"] + (" vq" if "vq" in options else "")
    figures = [figures_of(point) for point in points]
    optimizer, rate = optimizer_of(points[0].written)
    entry = Entry(label, method, setting, float(options.get("ratio", math.nan)), optimizer, rate,
                  tokens={int(f["tokens"]) for f in figures if math.isfinite(f["tokens"])},
                  wire_ratio=_mean(f["wire_ratio"] for f in figures), wire_ratio_forward=_mean(f["wire_ratio_forward"] for f in figures))
    steps: dict[str, list[float]] = {}
    for point, f in zip(points, figures):
        seed, network = int(point.axes["seed"]), network_of(point)
        entry.seeds.add(seed)
        if math.isfinite(f["final_validation_loss"]) and entry.losses.setdefault(seed, f["final_validation_loss"]) != f["final_validation_loss"]:
            raise InputError(f"{point.name}: another loss than on another network: \"{label}\" names two trainings")
        steps.setdefault(network, []).append(f["mean_step_s"])
        for name in filter(is_target_column, point.row):
            times = entry.times.setdefault((network, float(name[len("time_to_"):-len("_s")])), [])
            times.append(float(point.row[name]) if point.row[name] not in ("", "unknown", "not reached") else math.nan)
    entry.step_s = {network: _mean(values) for network, values in steps.items()}
    return entry


def common_target(entries: list[Entry]) -> float:
    """The lowest target that every seed of the uncompressed model has reached with every optimizer: the one at which times are compared.
    Raises InputError where there is none."""
    plain = [entry for entry in entries if entry.method == "none"]
    reached = [{t for (_, t), seconds in entry.times.items() if all(map(math.isfinite, seconds))} for entry in plain]
    if not reached or not set.intersection(*reached):
        raise InputError("no target was reached by every seed of the uncompressed model")
    return min(set.intersection(*reached))


def network_of(point: Point) -> str:
    """The bandwidth of its links, or where the scenario states none the name of its preset."""
    return value_at(point.written, "network.links.bandwidth") or value_at(point.written, "network.preset", "")


def _mean(values) -> float:
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan


def difference(entry: Entry, reference: Entry) -> tuple[float, float, float, int]:
    """(mean, low, high, n) of entry's loss less reference's, paired by seed: low and high are the 95 % Student t interval."""
    return mean_interval([entry.losses[seed] - reference.losses[seed] for seed in sorted(entry.losses) if seed in reference.losses])


def order(entry: Entry, reference: Entry) -> str:
    """ "lower", "higher": the bands of the two losses do not touch; "overlap": no order is claimed; "–": one has no loss."""
    (low, high), (other_low, other_high) = entry.band, reference.band
    if not entry.losses or not reference.losses:
        return "–"
    return "lower" if high < other_low else "higher" if low > other_high else "overlap"


def ratio_class(entry: Entry, classes: list[float]) -> float:
    """The ratio that an entry is compared at: the one that was asked for, else of `classes` the nearest to what was measured, in
    logarithm, within a factor of 1.25: the bytes are then equal to a quarter. nan where none is so near."""
    if not math.isnan(entry.ratio) or not math.isfinite(entry.wire_ratio) or not classes:
        return entry.ratio
    nearest = min(classes, key=lambda ratio: abs(math.log(ratio / entry.wire_ratio)))
    return nearest if abs(math.log(nearest / entry.wire_ratio)) <= math.log(1.25) else math.nan
