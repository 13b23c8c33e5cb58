"""What a step's time is made of: the critical path in its eight parts, stacked, a bar a method, a panel a network. From
steps.csv, mean over all steps but the first and over seeds; the parts add up to the step."""

import pandas

from ..files import STEP_PARTS
from ..layout import Sheet, linear_ticks, name_rows, names_mm
from ..quantities import duration, time_unit
from ..style import COLUMN_MM, PAGE_MM, SMALL_PT, part_entry, stacked_bars, styled
from .common import Drawn, NotApplicable, evenly, finished_where_any, in_order, later_steps, later_steps_text, left_out, present


def numbers(sweep) -> pandas.DataFrame:
    """network, bandwidth_bps, method, compute_s … recovery_s, step_s, steps (steps in the mean), n (runs)."""
    steps = finished_where_any(later_steps(sweep, sweep.traces("steps", comparisons=True)))
    if steps.empty:
        raise NotApplicable("no run has finished a step")
    keys = ["network", "bandwidth_bps", "method"]
    runs = steps.groupby([*keys, "point"], sort=False)[[*STEP_PARTS, "step_s"]].mean()
    data = runs.groupby(keys, sort=False, dropna=False).mean().reset_index()
    counts = steps.groupby(keys, sort=False, dropna=False).agg(steps=("step", "count"), n=("point", "nunique")).reset_index()
    return in_order(sweep, data.merge(counts, on=keys))


@styled
def make(sweep) -> Drawn:
    data = numbers(sweep)
    there = present(sweep.networks, data, "network")
    networks = evenly(there)
    title = f"What a step's time is made of: the parts of its critical path ({later_steps_text(sweep)}).{left_out(networks, there, 'networks')}"
    parts = [part for part in STEP_PARTS if (data[part] > 0.003 * data["step_s"]).any()]  # the others could not be seen
    methods = present(sweep.methods, data, "method")
    single = len(networks) == 1
    left = names_mm(methods)
    sheet = Sheet(COLUMN_MM if single else PAGE_MM, title, [part_entry(part) for part in parts], len(networks), 1 if single else 2,
                  panel_mm=3.0 + 5.0 * len(methods), left_mm=left, inner_mm=left, panel_titles=True)
    for axes, network in zip(sheet.axes, networks):
        here = data[data["network"] == network].set_index("method").reindex(methods)
        unit = time_unit(here["step_s"].max())
        stacked_bars(axes, here[parts].fillna(0.0) / unit.seconds, parts, range(len(methods)))
        name_rows(axes, methods)
        longest = here["step_s"].max() / unit.seconds
        axes.set_xlim(0, longest * 1.17)  # room for the figure behind the bar
        for row, seconds in enumerate(here["step_s"]):
            text = "no run" if pandas.isna(seconds) else duration(seconds)
            axes.text((0 if pandas.isna(seconds) else seconds / unit.seconds) + 0.01 * longest, row, text, va="center", fontsize=SMALL_PT)
        linear_ticks(axes.xaxis, 4)
        axes.set_xlabel(f"time of a step ({unit.name})")
        sheet.name_panel(axes, network)
    return Drawn("step_attribution", title, sheet.figure, data, data.drop(columns=["bandwidth_bps", "steps"]))
