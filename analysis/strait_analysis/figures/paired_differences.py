"""Is the difference real? Each method against the reference, seed by seed: the mean paired difference of the final validation loss,
and the ratio of virtual times to a target over the bandwidth, with Student t intervals. With one seed there is none."""

import math

from ..layout import Sheet, bandwidth_axis, linear_ticks, log_ticks, name_rows, names_mm
from ..quantities import number
from ..statistics import CONFIDENCE, paired_differences
from ..style import GREY, PAGE_MM, SMALL_PT, Look, styled
from .common import Drawn, NotApplicable, present
from .over_bandwidth import draw_lines, legend, series_of


def numbers(sweep):
    """The columns of statistics.paired_differences: every pair of methods."""
    data = paired_differences(sweep)
    if data.empty:
        raise NotApplicable("no two methods have finished runs with the same seed")
    return data


@styled
def make(sweep) -> Drawn:
    data = numbers(sweep)
    reference = present(sweep.methods, data, "reference")[0]
    against = data[data["reference"] == reference]
    losses = against[against["quantity"] == "final validation loss"]
    times, quantity = _telling(against[(against["compared"] == "ratio") & (against["n"] > 0) & against["bandwidth_bps"].notna()])
    panels = [frame for frame in (losses, times) if len(frame)]
    if not panels:
        raise NotApplicable(f"no loss and no time that two methods share with {reference}")
    n = int(data["n"].max())
    interval = f"{n} seeds, {CONFIDENCE:.0%} Student t intervals" if n > 1 else "one seed: no interval"
    title = f"Methods against {reference}, paired by seed ({interval})."
    look, methods = Look(sweep), present(sweep.methods, against, "method")
    left = names_mm(methods) if len(losses) else 13.0
    series = series_of(sweep, times) if len(times) else []
    entries = legend(look, series) + [look.entry(method) for method in methods if method not in dict(series)]
    sheet = Sheet(PAGE_MM, title, entries, len(panels), 2, panel_mm=max(34.0, 6.0 * len(methods)), left_mm=left,
                  inner_mm=15, panel_titles=True)
    axes = iter(sheet.axes)
    if len(losses):
        _losses(next(axes), losses, look, methods, sheet)
    if len(times):
        _times(next(axes), times, look, series, sheet, quantity)
    table = against.drop(columns=["condition", "bandwidth_bps", "reference"])
    return Drawn("paired_differences", title, sheet.figure, data, table)


def _telling(times):
    """Of the compared times those to the target that most pairs have reached, of several such the hardest; step times where there
    is no target. And their name."""
    targets = times[times["quantity"] != "mean step time"]
    times = targets if len(targets) else times
    pairs = times.groupby("quantity", sort=False)["n"].sum()
    name = pairs[pairs == pairs.max()].index[-1] if len(pairs) else ""
    return times[times["quantity"] == name], name


def _losses(axes, losses, look: Look, methods: list[str], sheet: Sheet) -> None:
    values = losses.set_index("method").reindex(methods)
    for place, (method, row) in enumerate(values.iterrows()):
        if math.isnan(row["estimate"]):
            continue
        if math.isfinite(row["low"]):
            axes.plot([row["low"], row["high"]], [place, place], color=look.colour(method), linewidth=1.0)
        axes.plot([row["estimate"]], [place], **{**look.style(method), "linestyle": "", "markersize": 5})
        text = f"{number(row['estimate'])}" + (f", n = {int(row['n'])}" if row["n"] > 1 else "")
        axes.annotate(text, (row["estimate"], place), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=SMALL_PT,
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8})
    name_rows(axes, methods)
    axes.axvline(0, color=GREY, linewidth=0.6)
    low = min(0.0, values[["estimate", "low"]].min().min())
    high = max(0.0, values[["estimate", "high"]].max().max())
    room = 0.15 * max(high - low, 1e-6)
    axes.set_xlim(low - room, high + room)
    linear_ticks(axes.xaxis)
    axes.set_xlabel("difference of loss (nats a token; right of 0: worse)")
    sheet.name_panel(axes, "final validation loss")


def _times(axes, times, look: Look, series: list, sheet: Sheet, quantity: str) -> None:
    bandwidth_axis(axes, times["bandwidth_bps"], sheet.panel_width_mm)
    draw_lines(axes, times, look, series, "estimate", "low", "high")
    axes.axhline(1.0, color=GREY, linewidth=0.6)
    low = min(0.8, times[["estimate", "low"]].min().min())
    high = max(1.25, times[["estimate", "high"]].max().max())
    axes.set_yscale("log")
    axes.set_ylim(low / 1.1, high * 1.1)
    log_ticks(axes.yaxis, low / 1.1, high * 1.1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{number(value)}×")
    axes.set_ylabel("time ratio (below 1: faster)")
    sheet.name_panel(axes, quantity)
