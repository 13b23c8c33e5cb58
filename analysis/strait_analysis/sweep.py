"""A comparison as data frames: `load_sweep("sweeps/bandwidth_ratio").runs` has one row a point, and says of each which method,
network and seed it is. A single run is a comparison of one. Sweeps that still go on and points that failed are welcome."""

import math
from pathlib import Path

import pandas

from . import labels
from .files import InputError
from .points import Point, figures_of, is_target_column, method_order, points_of
from .quantities import parse_bandwidth, parse_duration
from .run import Run

KEYS = ["point", "method", "network", "condition", "bandwidth_bps", "seed", "network_seed", "finished"]


class Sweep:
    """Points and their traces.

    runs     one row a point: point, status ("ok", "unfinished", "not begun" or an error), finished, comparison (a short run made to time a step),
             method, network, condition (what tells networks of one bandwidth apart), bandwidth_bps, latency_s, network_model, seed,
             network_seed, the figures of runs.csv (nan where unknown), bytes_per_step, transfer_s_per_step, path, and a column
             an axis of the sweep
    methods  their names, the uncompressed one first: the order of every legend and table
    palette  the same with those that have not begun: the order of colours
    networks from the slowest to the fastest
    targets  one row a point and target loss: KEYS, target, measured_on, step, time_s (nan: not reached), reached
    """

    def __init__(self, points: list[Point], order: list[str] = ()):
        points, self.notes = _without_repetitions(points)
        self._points = {point.name: point for point in points}
        self.runs = _runs_frame(points)
        usable = self.runs[self.runs["usable"]]
        begun = list(usable["method"].unique())
        named = [*self.runs["method"].unique(), *order]
        waiting = [name for name in dict.fromkeys(named) if not any(_is_named(method, name) for method in begun)]
        plain = {method for method, compressed in zip(self.runs["method"], self.runs["compressed"]) if not compressed}
        plain |= {name for name in waiting if _is_named(name, "none")}
        self.palette = sorted([*begun, *waiting], key=lambda name: _method_rank(name, plain, order))
        self.methods = [name for name in self.palette if name in begun]
        networks = usable.drop_duplicates("network")
        self.networks = sorted(networks["network"], key=lambda name: _network_rank(networks, name))
        self.runs = self.runs.drop(columns=["usable", "compressed"])
        self.reference = next((method for method in self.methods if method in plain), None)
        self.has_plain = bool(plain)

    def __repr__(self) -> str:
        return f"Sweep({len(self.runs)} points, {len(self.methods)} methods, {len(self.networks)} networks)"

    def run(self, point: str) -> Run:
        """The run of a point. Raises KeyError where the point has none: it failed, or its directory is gone."""
        found = self._points[point].run
        if found is None:
            raise KeyError(f"{point} has no run directory: {self._points[point].status}")
        return found

    @property
    def steps(self) -> pandas.DataFrame:
        return self.traces("steps")

    @property
    def evals(self) -> pandas.DataFrame:
        return self.traces("evals")

    @property
    def ranks(self) -> pandas.DataFrame:
        return self.traces("ranks")

    @property
    def targets(self) -> pandas.DataFrame:
        frame = self.traces("targets")
        rows = [row for point in self._points.values() if point.run is None and point.status == "ok" for row in _row_targets(point)]
        written = pandas.DataFrame(rows, columns=["point", "target", "measured_on", "step", "time_s", "reached"])
        keys = self.runs[KEYS]
        frames = [part for part in (frame, keys.merge(written, on="point")) if len(part)]
        return pandas.concat(frames, ignore_index=True) if frames else frame

    def traces(self, name: str, comparisons: bool = False) -> pandas.DataFrame:
        """A frame of all runs ("steps", "evals", "ranks", "links", "messages", "targets") below each other, KEYS in front; with or
        without the short runs that only time a step."""
        frames, empty = [], None
        for row in self.runs.itertuples():
            run = self._points[row.point].run
            if run is None or (row.comparison and not comparisons):
                continue
            frame = getattr(run, name).copy()
            for position, key in enumerate(KEYS):
                frame.insert(position, key, getattr(row, key))
            empty = frame.iloc[:0] if empty is None else empty
            if len(frame):
                frames.append(frame)
        if frames:
            return pandas.concat(frames, ignore_index=True)
        return empty if empty is not None else pandas.DataFrame(columns=KEYS)


def _row_targets(point: Point) -> list[tuple]:
    rows = []
    for name in filter(is_target_column, point.row):
        if point.row[name] in ("", "unknown"):  # it did not ask, or has no losses
            continue
        time = pandas.to_numeric(point.row[name], errors="coerce")
        rows.append((point.name, float(name[len("time_to_"):-len("_s")]), "", None, time, not math.isnan(time)))
    return rows


def _without_repetitions(points: list[Point]) -> tuple[list[Point], list[str]]:
    """Leaves out points whose scenario is that of an earlier one: counted twice they would pass for two seeds."""
    seen, kept, notes = {}, [], []
    for point in points:
        flat = {k: v for k, v in labels.flatten(point.scenario).items() if not labels.IGNORED.match(k)}
        key = tuple(sorted(flat.items()))
        if point.run is not None and key in seen:
            notes.append(f"{point.name} repeats {seen[key]} and is left out")
            continue
        if point.run is not None:
            seen[key] = point.name
        kept.append(point)
    return kept, notes


def _runs_frame(points: list[Point]) -> pandas.DataFrame:
    rows = []
    for point in points:
        scenario, network = point.scenario, point.scenario.get("network", {})
        links = network.get("links", {}) if isinstance(network, dict) else {}
        base = point.method or labels.method_text(scenario)
        row = {"point": point.name, "status": point.status, "finished": _is_finished(point), "comparison": point.comparison,
               "method": base, "network": "", "condition": "", "bandwidth_bps": parse_bandwidth(links.get("bandwidth")),
               "latency_s": parse_duration(links.get("latency")), "network_model": network.get("model", ""),
               "seed": int(scenario.get("seed", 0)), "network_seed": int(network.get("seed", 0)), **figures_of(point),
               "path": str(point.path), "usable": point.status in ("ok", "unfinished"),
               "compressed": not _is_named(labels.method_text(scenario) if "compression" in scenario else base, "none")}
        rows.append({**row, **{axis: value for axis, value in point.axes.items() if axis not in row}})
    frame = pandas.DataFrame(rows)
    _name_methods(frame, points)
    _name_networks(frame, points)
    return frame


def _name_networks(frame: pandas.DataFrame, points: list[Point]) -> None:
    """Points without a run directory are told apart among themselves: of their networks only what the sweep file writes is known."""
    for with_run in (True, False):
        places = [i for i, point in enumerate(points) if (point.run is not None) == with_run]
        for i, name, condition in zip(places, *labels.network_labels([points[i].scenario for i in places])):
            frame.at[i, "network"], frame.at[i, "condition"] = name, condition


def _name_methods(frame: pandas.DataFrame, points: list[Point]) -> None:
    """Extends the names of methods until they tell the trainings apart. A comparison, and a point that is not there, has the name of
    its method alone, or of the one training of that method."""
    full, named = {}, set()
    for with_run in (True, False):
        trained = [i for i, point in enumerate(points)
                   if frame.at[i, "usable"] and not point.comparison and (point.run is not None) == with_run]
        names = labels.method_labels([points[i].scenario for i in trained], [frame.at[i, "method"] for i in trained])
        for i, name in zip(trained, names):
            full.setdefault(frame.at[i, "method"], name)
            frame.at[i, "method"] = name
        named |= set(trained)
    for i in set(range(len(points))) - named:
        frame.at[i, "method"] = full.get(frame.at[i, "method"], frame.at[i, "method"])


def _is_finished(point: Point) -> bool:
    return point.status == "ok" and (point.run is None or point.run.finished)


def _method_rank(name: str, plain: set[str], order: list[str]) -> tuple:
    position = next((i for i, label in enumerate(order) if _is_named(name, label)), len(order))
    return name not in plain, position, labels.natural(name)


def _is_named(method: str, label: str) -> bool:
    """The label itself, or the label with what tells its trainings apart."""
    return method == label or method.startswith(f"{label}, ")


def _network_rank(networks: pandas.DataFrame, name: str) -> tuple:
    rate = networks.loc[networks["network"] == name, "bandwidth_bps"].iloc[0]
    return (math.inf if math.isnan(rate) else rate), labels.natural(name)


def load_sweep(*directories) -> Sweep:
    """The points of sweep and run directories as one comparison. Raises InputError where a directory is neither, and where
    there is no point at all."""
    points, order = [], []
    for directory in directories:
        found = points_of(directory)
        if len(directories) > 1:
            prefix = Path(directory).resolve().name
            for point in found:
                point.name = prefix if point.name == prefix else f"{prefix}/{point.name}"
        points += found
        order += [label for label in method_order(Path(directory)) if label not in order]
    if not points:
        raise InputError(f"{', '.join(map(str, directories))}: no run has begun yet")
    _make_names_unique(points)
    return Sweep(points, order)


def _make_names_unique(points: list[Point]) -> None:
    """Two directories may have the same last name: the later one is numbered."""
    seen = set()
    for point in points:
        name, number = point.name, 2
        while point.name in seen:
            point.name, number = f"{name} ({number})", number + 1
        seen.add(point.name)

