"""Where compression stops paying: how many times fewer bytes a method sends than the uncompressed one on the same network, how many
times shorter its transfers are together, and how many times shorter its step. From summary.json, per step, all steps; of runs of
different length from the last quarter of the shorter one, since windows grow over many steps."""

import math

import numpy
import pandas
from matplotlib.lines import Line2D

from ..layout import Sheet, bandwidth_axis, log_ticks, name_rows, names_mm
from ..quantities import number
from ..style import COLUMN_MM, GREY, PAGE_MM, SMALL_PT, Look, styled
from .common import Drawn, NotApplicable, evenly, first_later, in_order, left_out

RATIOS = {"bytes_ratio": ("bytes", "D", (0, (1, 1))), "transfer_time_ratio": ("transfer times", "s", (0, (4, 1.5))),
          "step_time_ratio": ("step times", "o", "-")}
SOURCES = {"bytes_ratio": "bytes_per_step", "transfer_time_ratio": "transfer_s_per_step", "step_time_ratio": "mean_step_s"}


def numbers(sweep) -> pandas.DataFrame:
    """network, condition, bandwidth_bps, method, reference, bytes_ratio, transfer_time_ratio, step_time_ratio (reference over
    method, geometric means over seeds), n (seeds)."""
    runs = sweep.runs[sweep.runs["finished"] & (sweep.runs[list(SOURCES.values())] > 0).all(axis=1)]
    if sweep.reference is None or sweep.reference not in set(runs["method"]):
        return _from_summaries(sweep)
    plain = runs[runs["method"] == sweep.reference]
    rest = runs[runs["method"] != sweep.reference]
    # A comparison is made with the seed of its run.
    pairs = rest.merge(plain, on=["network", "seed", "network_seed"], suffixes=("", "_reference"))
    if pairs.empty:
        raise NotApplicable(f"no compressed run has a partner without compression ({sweep.reference}) on its network, with its seed")
    for i in pairs.index[pairs["steps"] != pairs["steps_reference"]]:
        own, other = sweep.run(pairs.at[i, "point"]), sweep.run(pairs.at[i, "point_reference"])
        for name, values in _warm_figures(own, other).items():
            pairs.at[i, name], pairs.at[i, f"{name}_reference"] = values
    for ratio, source in SOURCES.items():
        pairs[ratio] = numpy.log(pairs[f"{source}_reference"] / pairs[source])
    return _means(sweep, pairs.assign(reference=sweep.reference))


def _warm_figures(*runs) -> dict[str, list[float]]:
    """mean_step_s and transfer_s_per_step of runs of different length, over the last quarter of the shorter one. The latter nan where
    messages.csv does not list them all."""
    last = min(int(run.steps["step"].max()) for run in runs)
    later = range(first_later(last), last + 1)
    steps = [run.steps[run.steps["step"].isin(later)]["step_s"].mean() for run in runs]
    messages = [run.messages[run.messages["step"].isin(later)] for run in runs]
    listed = all(set(frame["step"]) == set(later) for frame in messages)
    transfers = [(frame["delivered_s"] - frame["sent_s"]).sum() / len(later) if listed else math.nan for frame in messages]
    return {"mean_step_s": steps, "transfer_s_per_step": transfers}


def _from_summaries(sweep) -> pandas.DataFrame:
    """The ratios to a reference that the simulator was given (`strait-sim --reference`)."""
    rows = []
    for row in sweep.runs[sweep.runs["finished"] & sweep.runs["bytes_per_step"].notna()].itertuples():  # those with a summary
        found = sweep.run(row.point).summary.get("reference")
        if found and all(found[ratio] for ratio in RATIOS):
            rows.append({"network": row.network, "condition": row.condition, "bandwidth_bps": row.bandwidth_bps, "method": row.method,
                         "point": row.point, "reference": found["name"] or "reference",
                         **{ratio: numpy.log(found[ratio]) for ratio in RATIOS}})
    if not rows:
        raise NotApplicable("no run without compression to compare with, on the same network and with the same seed")
    return _means(sweep, pandas.DataFrame(rows))


def _means(sweep, pairs) -> pandas.DataFrame:
    keys = ["network", "condition", "bandwidth_bps", "method", "reference"]
    groups = pairs.groupby(keys, sort=False, dropna=False)
    data = numpy.exp(groups[list(RATIOS)].mean()).reset_index().merge(groups.agg(n=("point", "count")).reset_index(), on=keys)
    return in_order(sweep, data)


@styled
def make(sweep) -> Drawn:
    data = numbers(sweep)
    look = Look(sweep)
    parts = "fewer bytes, shorter transfers and" if data["transfer_time_ratio"].notna().any() else "fewer bytes and"
    title = f"How many times {parts} shorter steps than with {data['reference'].iloc[0]}."
    entries = [Line2D([], [], label=name, marker=marker, linestyle=line, color=GREY, markeredgecolor="white", markeredgewidth=0.4)
               for ratio, (name, marker, line) in RATIOS.items() if data[ratio].notna().any()]
    several = data.groupby("method")["bandwidth_bps"].nunique().max() > 1
    sheet = _over_bandwidth(sweep, data, look, title, entries) if several else _rows(sweep, data, look, title, entries)
    return Drawn("ratios", title, sheet.figure, data, data.drop(columns=["condition", "bandwidth_bps"]))


def _limits(data) -> tuple[float, float]:
    low, high = min(1.0, data[list(RATIOS)].min().min()), max(1.25, data[list(RATIOS)].max().max())
    return low / (high / low) ** 0.05, high * (high / low) ** 0.08


def _over_bandwidth(sweep, data, look: Look, title: str, entries: list) -> Sheet:
    """A panel a method and condition: three lines over the bandwidth."""
    there = sorted(set(zip(data["method"], data["condition"])), key=lambda pair: (sweep.methods.index(pair[0]), pair[1]))
    panels = evenly(there)
    columns = 3 if len(panels) > 4 or len(panels) == 3 else 2
    sheet = Sheet(COLUMN_MM if len(panels) == 1 else PAGE_MM, title + left_out(panels, there, "methods"), entries, len(panels),
                  columns, panel_mm=42, inner_mm=11, panel_titles=True)
    low, high = _limits(data)
    for i, (axes, (method, condition)) in enumerate(zip(sheet.axes, panels)):
        line = data[(data["method"] == method) & (data["condition"] == condition)].sort_values("bandwidth_bps")
        bandwidth_axis(axes, data["bandwidth_bps"], sheet.panel_width_mm)
        axes.axhline(1.0, color=GREY, linewidth=0.6)
        for ratio, (_, marker, style) in RATIOS.items():
            axes.plot(line["bandwidth_bps"], line[ratio], color=look.colour(method), marker=marker, linestyle=style,
                      markeredgecolor="white", markeredgewidth=0.4)
        axes.set_yscale("log")
        axes.set_ylim(low, high)
        log_ticks(axes.yaxis, low, high)
        axes.yaxis.set_major_formatter(lambda value, _: f"{number(value)}×")
        sheet.name_panel(axes, f"{method} ({condition})" if condition else method)
        if sheet.starts_row(i):
            axes.set_ylabel("ratio to no compression")
    return sheet


def _rows(sweep, data, look: Look, title: str, entries: list) -> Sheet:
    """One bandwidth a method: a row each, its three ratios beside each other."""
    names = [f"{row.method}, {row.network}" for row in data.itertuples()]
    sheet = Sheet(COLUMN_MM, title, entries, panel_mm=8.0 + 7.0 * len(names), left_mm=names_mm(names))
    axes = sheet.axes[0]
    for place, row in enumerate(data.itertuples()):
        values = {ratio: getattr(row, ratio) for ratio in RATIOS if not math.isnan(getattr(row, ratio))}
        axes.plot([min(values.values()), max(values.values())], [place, place], color=look.colour(row.method), linewidth=0.8)
        for ratio, value in values.items():
            marker = RATIOS[ratio][1]
            axes.plot([value], [place], color=look.colour(row.method), marker=marker, linestyle="", markeredgecolor="white",
                      markeredgewidth=0.4, markersize=5)
            axes.annotate(f"{number(value)}×", (value, place), xytext=(0, 4), textcoords="offset points", ha="center", fontsize=SMALL_PT)
    name_rows(axes, names)
    low, high = _limits(data)
    axes.set_xscale("log")
    axes.set_xlim(low, high * 1.05)
    log_ticks(axes.xaxis, low, high)
    axes.xaxis.set_major_formatter(lambda value, _: f"{number(value)}×")
    axes.axvline(1.0, color=GREY, linewidth=0.6)
    axes.set_xlabel("ratio to no compression")
    return sheet
