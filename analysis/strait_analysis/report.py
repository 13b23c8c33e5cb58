"""Draws everything that a comparison has the data for: a figure with its numbers each, the table of runs, index.html. The same
input gives the same bytes; every file appears whole, under a temporary name until it is."""

import io
import os
from dataclasses import dataclass, field
from pathlib import Path

import pandas

from .figures import FIGURES, Drawn, NotApplicable
from .page import figure_html, page
from .style import styled
from .sweep import Sweep
from .tables import csv_text, latex_text

FORMATS = ("svg", "png", "pdf")
# What a file would otherwise say about when it was made.
METADATA = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None, "Creator": None}}
RUN_COLUMNS = ["point", "status", "method", "network", "seed", "network_seed", "steps", "tokens", "final_loss", "final_validation_loss",
               "best_validation_loss", "time_s", "mean_step_s", "tokens_per_s", "wire_ratio"]


@dataclass
class Report:
    drawn: list[Drawn] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)  # name, reason


@styled
def image_bytes(figure, image_format: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=image_format, metadata=METADATA[image_format])
    return buffer.getvalue()


def write_file(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_numbers(out: Path, name: str, title: str, data: pandas.DataFrame, table: pandas.DataFrame) -> None:
    write_file(out / f"{name}.csv", csv_text(data).encode())
    write_file(out / f"{name}.tex", latex_text(table, title).encode())


def runs_table(sweep: Sweep) -> pandas.DataFrame:
    """A row a point: what it is, its final figures, and a column a target with the time to it, or "not reached"."""
    runs = sweep.runs[RUN_COLUMNS].copy()
    targets = sweep.targets
    for target in sorted(targets["target"].unique(), reverse=True) if len(targets) else []:
        rows = targets[targets["target"] == target]
        times = {row.point: row.time_s if row.reached else "not reached" for row in rows.itertuples()}
        runs[f"time_to_{target:g}_s"] = runs["point"].map(times)
    for column in ("steps", "tokens"):  # whole where known
        runs[column] = [value if pandas.isna(value) else int(value) for value in runs[column]]
    if not runs["network_seed"].any():
        runs = runs.drop(columns="network_seed")
    return runs.dropna(axis="columns", how="all").assign(path=sweep.runs["path"])


def write_report(sweep: Sweep, out, image_format: str = "svg", heading: str = "Strait") -> Report:
    """Draws into the directory `out`, which is made where needed. Raises OSError where it cannot be written."""
    out, report, figures = Path(out), Report(), []
    out.mkdir(parents=True, exist_ok=True)
    for name, make in FIGURES.items():
        try:
            drawn = make(sweep)
        except NotApplicable as reason:
            report.missing.append((name, str(reason)))
            continue
        write_file(out / f"{name}.{image_format}", image_bytes(drawn.figure, image_format))
        write_numbers(out, name, drawn.title, drawn.data, drawn.table)
        figures.append(figure_html(name, drawn.title, f"{name}.{image_format}"))
        report.drawn.append(drawn)
    runs = runs_table(sweep)
    write_numbers(out, "all_runs", "All runs.", runs, runs.drop(columns="path"))
    write_file(out / "index.html", page(heading, figures, report.missing, [*sweep.notes, states_text(sweep)], runs).encode())
    return report


def states_text(sweep: Sweep) -> str:
    """ "75 points: 70 finished, 3 unfinished, 2 failed." """
    counts = sweep.runs["status"].map(lambda s: s if s in ("unfinished", "not begun") else "finished" if s == "ok" else "failed")
    counts = counts.value_counts()
    states = [f"{counts[state]} {state}" for state in ("finished", "unfinished", "not begun", "failed") if counts.get(state, 0)]
    return f"{len(sweep.runs)} point{'' if len(sweep.runs) == 1 else 's'}: {', '.join(states)}."
