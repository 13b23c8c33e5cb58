"""One run directory as data frames: `load_run("runs/quickstart").steps`. Files are read when they are first asked for; a run
that is still going on has the rows written so far and no summary."""

import math
from functools import cached_property
from pathlib import Path

import pandas

from .files import InputError, read_json, read_trace

TIMELINE_COLUMNS = ["step", "kind", "phase", "microbatch", "rank", "to", "start_s", "end_s", "bytes"]


class Run:
    """A run directory. Every frame has the columns of docs/metrics.md."""

    def __init__(self, path):
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}: {self.name}, {len(self.steps)} steps{'' if self.finished else ', unfinished'})"

    @cached_property
    def scenario(self) -> dict:
        return read_json(self.path / "scenario.json")

    @cached_property
    def summary(self) -> dict:
        """Empty until the run has ended."""
        return read_json(self.path / "summary.json")

    steps = cached_property(lambda self: read_trace(self.path / "steps.csv"))
    evals = cached_property(lambda self: read_trace(self.path / "evals.csv"))
    ranks = cached_property(lambda self: read_trace(self.path / "ranks.csv"))
    links = cached_property(lambda self: read_trace(self.path / "links.csv"))
    messages = cached_property(lambda self: read_trace(self.path / "messages.csv"))
    diagnostics = cached_property(lambda self: read_trace(self.path / "diagnostics.csv"))

    @property
    def name(self) -> str:
        return self.scenario.get("name", self.path.name)

    @property
    def finished(self) -> bool:
        return bool(self.summary.get("complete", False))

    @cached_property
    def targets(self) -> pandas.DataFrame:
        """target, measured_on, step, time_s, reached: one row a loss of training.targets. time_s is nan where the loss was not
        reached. An unfinished run has rows only for what it has reached: whether it will reach the rest is not known. A run
        without losses has none."""
        rows = [(t["loss"], t["measured_on"], t["step"], t["time_s"]) for t in self.summary.get("targets", []) if t["time_s"] != "unknown"]
        if not self.finished:
            rows = [self._reached_so_far(loss) for loss in self.scenario.get("training", {}).get("targets", [])]
        frame = pandas.DataFrame(rows, columns=["target", "measured_on", "step", "time_s"])
        frame["time_s"] = pandas.to_numeric(frame["time_s"], errors="coerce")  # "not reached"
        frame["reached"] = frame["time_s"].notna()
        return frame if self.finished else frame[frame["reached"]].reset_index(drop=True)

    def _reached_so_far(self, loss: float) -> tuple:
        validation = len(self.evals) > 0
        trace, column = (self.evals, "validation_loss") if validation else (self.steps, "loss")
        below = trace[trace[column] <= loss]
        step, time = (below.iloc[0]["step"], below.iloc[0]["time_s"]) if len(below) else (None, math.nan)
        return loss, "validation" if validation else "training", step, time

    @cached_property
    def timeline(self) -> pandas.DataFrame:
        """timeline.json as a table: step, kind (compute, codec, message), phase (forward, backward, encode, update …), microbatch
        (-1: none), rank (of a message the sender), to (of a message the receiver, else -1), start_s, end_s, bytes.
        Ends of an access link are ranks too: the core is -1."""
        document = read_json(self.path / "timeline.json")
        events = document.get("traceEvents", []) if isinstance(document, dict) else document
        tracks = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
        rows = [_timeline_row(e, tracks[e["pid"], e["tid"]]) for e in events if e["ph"] == "X" and _is_slice(e)]
        return pandas.DataFrame(rows, columns=TIMELINE_COLUMNS)


def _is_slice(event: dict) -> bool:
    """Not one of the instants that tie arrows to ranks."""
    return event["cat"] != "message" or "sent_s" in event["args"]


def _timeline_row(event: dict, track: str) -> tuple:
    phase, _, microbatch = event["name"].partition(" ")
    arguments = event["args"]
    if event["cat"] == "message":
        source, _, destination = track.partition(" to ")
        start, end = arguments["sent_s"], arguments["delivered_s"]
    else:
        source, destination = track.removeprefix("rank "), ""
        start, end = event["ts"] / 1e6, (event["ts"] + event["dur"]) / 1e6
    as_rank = [int(text) if text.isdigit() else -1 for text in (source, destination)]
    return (arguments["step"], event["cat"], phase, int(microbatch or -1), *as_rank, start, end, arguments.get("bytes", 0))


def is_run_directory(path: Path) -> bool:
    return (path / "scenario.json").is_file() and (path / "steps.csv").is_file()


def load_run(path) -> Run:
    """The run in directory `path`. Raises InputError where there is none."""
    run = Run(path)
    if not is_run_directory(run.path):
        found = "it has no scenario.json and steps.csv" if run.path.is_dir() else "no such directory"
        raise InputError(f"{path}: not a run directory: {found}")
    return run
