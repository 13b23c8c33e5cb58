"""The points that a comparison consists of, found in sweep and run directories. A sweep's points are those of its plan.json, with
their rows of runs.csv as far as there are any; a run's are itself, its replays, and the comparisons of its closing table."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from .files import InputError, read_json, read_rows
from .run import Run, is_run_directory

FIGURES = ["steps", "tokens", "final_loss", "final_validation_loss", "best_validation_loss", "time_s", "mean_step_s", "tokens_per_s",
           "wire_ratio_forward", "wire_ratio_backward", "wire_ratio", "bytes_forward", "bytes_backward", "bytes_sync"]
# Known from summaries alone: over all messages, per step.
TRAFFIC = ["bytes_per_step", "transfer_s_per_step"]
NO_AXES = {"point", "status", "path", "seed", *FIGURES}
# Field → the fields beside it that it makes void.
REPLACES = {"preset": ["links", "transport"], "method": ["rank", "ratio"], "rank": ["ratio"], "ratio": ["rank"]}


@dataclass
class Point:
    name: str
    path: Path
    run: Run | None  # None where there is no run directory to read, or where the point failed
    status: str = "ok"  # "ok", "unfinished", "not begun", or the error of a point that failed
    axes: dict[str, str] = field(default_factory=dict)
    row: dict[str, str] = field(default_factory=dict)  # of runs.csv
    method: str = ""  # the user's name for it
    comparison: bool = False  # made beside a run: says how long a step takes, not how training goes
    written: dict = field(default_factory=dict)  # its scenario as far as the sweep file writes it

    @property
    def scenario(self) -> dict:
        """Resolved; where there is no run, as written."""
        return self.run.scenario if self.run else self.written


def points_of(directory) -> list[Point]:
    """The points in a sweep or run directory. Raises InputError where it is neither."""
    path = Path(directory)
    if not path.is_dir():
        raise InputError(f"{directory}: no such directory")
    if any((path / name).exists() for name in ("runs.csv", "sweep.json", "plan.json")):
        return _sweep_points(path)
    if is_run_directory(path):
        return _run_points(path)
    raise InputError(f"{directory}: neither a run directory (scenario.json, steps.csv) nor a sweep directory (sweep.json, runs.csv)")


def _status(run: Run) -> str:
    return "ok" if run.finished else "unfinished"


def _run_points(path: Path) -> list[Point]:
    run = Run(path)
    points = [Point(path.resolve().name, path, run, _status(run))]
    for folder in sorted([*(path / "compare").glob("*"), *(path / "replays").glob("*")]):
        if is_run_directory(folder):
            other = Run(folder)
            points.append(Point(str(folder.relative_to(path)), folder, other, _status(other), comparison=_only_timed(other, run)))
    return points


def _only_timed(other: Run, run: Run) -> bool:
    """Whether a run was made to time a step beside `run`: on the backend that computes nothing, or for fewer steps."""
    steps, backend = (lambda r: r.scenario.get("training", {}).get("steps", 0)), (lambda r: r.scenario.get("devices", {}).get("backend"))
    return steps(other) < steps(run) or backend(other) != backend(run)


def _sweep_points(path: Path) -> list[Point]:
    rows = read_rows(path / "runs.csv")
    if len(rows) and not {"point", "status", "path"} <= set(rows.columns):
        raise InputError(f"{path / 'runs.csv'}: no table of runs: columns point, status and path are needed; "
                         f"found: {', '.join(rows.columns)}")
    axes = [name for name in rows.columns if name not in NO_AXES and not is_target_column(name)]
    written = {row["point"]: row for row in rows.to_dict("records")}
    points = []
    for planned in read_json(path / "plan.json").get("points", []):
        row = written.pop(planned["name"], None)
        points.append(_row_point(path, row, axes) if row else _planned_point(path, planned))
    points += [_row_point(path, row, axes) for row in written.values()]
    document = read_json(path / "sweep.json")
    labels = method_axes(path, list(dict.fromkeys(axis for point in points for axis in point.axes)))
    for point in points:
        point.method = ", ".join(point.axes[name] for name in labels if name in point.axes)
        point.written = written_scenario(document, point.axes)
    return points


def _row_point(sweep: Path, row: dict[str, str], axes: list[str]) -> Point:
    folder = sweep / row["path"]
    usable = row["status"] == "ok" and row["path"] != "" and is_run_directory(folder)
    named = {name: row[name] for name in axes}
    if row.get("seed", ""):
        named["seed"] = row["seed"]
    return Point(row["point"], folder, Run(folder) if usable else None, row["status"], named, row)


def _planned_point(sweep: Path, planned: dict) -> Point:
    """A point that has no row yet."""
    folder = sweep / planned["directory"]
    run = Run(folder) if is_run_directory(folder) else None
    return Point(planned["name"], folder, run, _status(run) if run else "not begun", planned["axes"])


def written_scenario(document: dict, axes: dict[str, str]) -> dict:
    """The scenario of a point as the sweep file writes it: its base, and over it what each axis sets. Defaults are not filled in."""
    base = document.get("base", {})
    scenario = json.loads(json.dumps(base)) if isinstance(base, dict) else {}
    assignments = {}
    for axis, label in axes.items():
        values = document.get("axes", {}).get(axis, [])
        named = [value["set"] for value in values if isinstance(value, dict) and value.get("label") == label]
        assignments.update(named[0] if named else {axis: _decoded(label)})
    # What replaces the fields beside it comes first, as with --set.
    for path in sorted(assignments, key=lambda path: path.rpartition(".")[2] not in ("preset", "method")):
        _assign(scenario, path.split("."), assignments[path])
    return scenario


def _decoded(text: str):
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text  # a text is written without quotes


def _assign(node: dict, path: list[str], value) -> None:
    *parents, last = path
    for key in parents:
        node[key] = node[key] if isinstance(node.get(key), dict) else {}
        node = node[key]
    for replaced in REPLACES.get(last, []):
        node.pop(replaced, None)
    if value is None:
        node.pop(last, None)
    else:
        node[last] = value


def method_axes(sweep: Path, axes: list[str]) -> list[str]:
    """The labelled axes of a sweep that set compression: their labels are the names of the methods."""
    document = read_json(sweep / "sweep.json").get("axes", {})
    found = [name for name in axes if any(_sets_compression(value) for value in document.get(name, []))]
    return found or [name for name in axes if name == "method"]


def _sets_compression(value) -> bool:
    return isinstance(value, dict) and any(key.startswith("compression") for key in value.get("set", {}))


def method_order(sweep: Path) -> list[str]:
    """The names of methods in the order of the sweep file; empty where no single axis names them."""
    document = read_json(sweep / "sweep.json").get("axes", {})
    found = [values for values in document.values() if any(_sets_compression(value) for value in values)]
    return [value["label"] for value in found[0] if "label" in value] if len(found) == 1 else []


def is_target_column(name: str) -> bool:
    return name.startswith("time_to_") and name.endswith("_s")


def figures_of(point: Point) -> dict[str, float]:
    """The figures of a point: from its summary, from its traces while it is unfinished, from its row where that is all there is;
    nan where nothing says. A failed point has none."""
    names = [*FIGURES, *TRAFFIC]
    if point.run is None:
        found = {name: _number(point.row.get(name)) for name in FIGURES} if point.status == "ok" else {}
    elif point.run.summary:
        found = _from_summary(point.run)
    else:
        found = _from_traces(point.run)
    return {name: found.get(name, math.nan) for name in names}


def _number(value) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):  # null, "", "not reached"
        return math.nan


def _from_summary(run: Run) -> dict[str, float]:
    summary, wire = run.summary, run.summary["wire"]
    crossing = wire["pipeline"] if wire["pipeline"]["combined"]["messages"] else wire["context"]
    ratios = {name: _number(crossing[kind]["wire_ratio"]) for name, kind in
              (("wire_ratio_forward", "forward"), ("wire_ratio_backward", "backward"), ("wire_ratio", "combined"))}
    if crossing is wire["context"]:  # as in runs.csv: the shards' sum of gradients is no part of it
        dense, sent = (sum(_number(crossing[kind][key]) for kind in ("forward", "backward")) for key in ("dense_bytes", "bytes"))
        ratios["wire_ratio"] = dense / sent if sent else math.nan
    steps, total = summary["steps"], wire["all"]["combined"]
    per_step = {name: _number(total[key]) / steps if steps else math.nan
                for name, key in (("bytes_per_step", "bytes"), ("transfer_s_per_step", "transfer_s"))}
    plain = {name: _number(summary.get(name)) for name in FIGURES if name in summary}
    best = run.evals["validation_loss"].min()
    return {"best_validation_loss": _number(best), **plain, **ratios, **per_step,
            **{f"bytes_{kind}": _number(summary["bytes"][kind]) for kind in ("forward", "backward", "sync")}}


def _from_traces(run: Run) -> dict[str, float]:
    if run.steps.empty:
        return {}
    last, steps = run.steps.iloc[-1], len(run.steps)
    validation = run.evals["validation_loss"]
    return {"steps": steps, "tokens": last["tokens"], "final_loss": last["loss"], "time_s": last["time_s"],
            "final_validation_loss": validation.iloc[-1] if len(validation) else math.nan, "best_validation_loss": validation.min(),
            "mean_step_s": last["time_s"] / steps, "tokens_per_s": last["tokens"] / last["time_s"] if last["time_s"] else math.nan,
            **{name: run.steps[name].sum() for name in ("bytes_forward", "bytes_backward", "bytes_sync")}}

