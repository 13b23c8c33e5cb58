"""What all figures share: the form of a finished one, and the choice of runs and panels."""

from dataclasses import dataclass

import pandas
from matplotlib.figure import Figure

MOST_PANELS = 12


@dataclass(frozen=True)
class Drawn:
    """A figure with the numbers in it: `data` is everything that was drawn (CSV), `table` what a page has room for (LaTeX)."""
    name: str
    title: str
    figure: Figure
    data: pandas.DataFrame
    table: pandas.DataFrame


class NotApplicable(Exception):
    """The comparison has not what a figure needs; the text says what."""


def finished_where_any(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Rows of unfinished runs only where a method on a network has nothing else: half a seed would bend the means of whole ones."""
    if frame.empty:
        return frame
    any_finished = frame.groupby(["method", "network"], sort=False)["finished"].transform("any")
    return frame[frame["finished"] | ~any_finished]


def in_order(sweep, frame: pandas.DataFrame, *more: str) -> pandas.DataFrame:
    """Rows sorted as every legend is: by network, method, then the columns `more`."""
    keys = {"network": {name: i for i, name in enumerate(sweep.networks)}, "method": {name: i for i, name in enumerate(sweep.methods)}}
    columns = [column for column in ("network", "method") if column in frame] + list(more)
    return frame.sort_values(columns, key=lambda column: column.map(keys[column.name]) if column.name in keys else column,
                             kind="stable").reset_index(drop=True)


def present(order: list[str], frame: pandas.DataFrame, column: str) -> list[str]:
    """Those of `order` that are in the frame."""
    there = set(frame[column])
    return [name for name in order if name in there]


def evenly(names: list, most: int = MOST_PANELS) -> list:
    """At most so many of the names, the first and the last among them."""
    if len(names) <= most:
        return names
    return [names[round(i * (len(names) - 1) / (most - 1))] for i in range(most)]


def seeds_text(counts: pandas.Series) -> str:
    """ "3 seeds", "1 to 3 seeds" """
    low, high = int(counts.min()), int(counts.max())
    span = f"{high}" if low == high else f"{low} to {high}"
    return f"{span} seed{'' if high == 1 else 's'}"


def left_out(shown: list, there: list, what: str) -> str:
    """A sentence for the title where not everything found room."""
    return "" if len(shown) == len(there) else f" {len(shown)} of {len(there)} {what} shown."


def is_short(sweep) -> pandas.Series:
    """For each point of sweep.runs: a comparison of fewer steps than the runs beside it have."""
    runs = sweep.runs
    return runs["comparison"] & (runs["steps"] < runs.loc[~runs["comparison"], "steps"].max())


def first_later(steps: int) -> int:
    """The step from which a short run of so many stands for a long one: its last quarter, because windows grow over many steps."""
    return steps - max(1, steps // 4) + 1


def later_steps(sweep, frame: pandas.DataFrame) -> pandas.DataFrame:
    """Without the first step, which opens cold connections; a run of one step keeps it. Of short comparisons the last quarter."""
    if frame.empty:
        return frame
    last = frame.groupby("point", sort=False)["step"].transform("max")
    short = frame["point"].isin(sweep.runs.loc[is_short(sweep), "point"])
    return frame[(frame["step"] >= last.map(first_later).where(short, 2)) | (last == 1)]


def later_steps_text(sweep) -> str:
    return "mean of all steps but the first" + ("; of short comparisons the last quarter" if is_short(sweep).any() else "")
