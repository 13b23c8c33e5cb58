"""Validation loss against virtual time, a panel a network, a line a method: the mean over seeds in a band from the lowest to the
highest. From evals.csv; from the losses in steps.csv where nothing was evaluated."""

import math

import numpy

from ..layout import Sheet, linear_ticks, log_ticks
from ..quantities import time_unit
from ..statistics import over_seeds
from ..style import COLUMN_MM, PAGE_MM, Look, styled
from .common import Drawn, NotApplicable, evenly, finished_where_any, in_order, left_out, present, seeds_text

KEYS = ["network", "bandwidth_bps", "method", "finished", "step"]


def numbers(sweep):
    """What is drawn: network, bandwidth_bps, method, finished, step, tokens, time_s, loss (mean), lowest, highest, n; and whether
    the loss is the validation loss."""
    for trace, column, validation in ((sweep.evals, "validation_loss", True), (sweep.steps, "loss", False)):
        finite = numpy.isfinite(trace[column].astype(float)) if column in trace else numpy.zeros(0)  # one that diverges ends in inf
        if finite.any():
            frame = finished_where_any(trace[finite])
            data = over_seeds(frame, KEYS, column).rename(columns={"mean": "loss"})
            places = frame.groupby(KEYS, sort=False, dropna=False)[["tokens", "time_s"]].mean().reset_index()
            data = data.merge(places, on=KEYS)[[*KEYS, "tokens", "time_s", "loss", "lowest", "highest", "n"]]
            return in_order(sweep, data, "step"), validation
    raise NotApplicable("no run has a loss: the meta backend computes none")


@styled
def make(sweep) -> Drawn:
    data, validation = numbers(sweep)
    there = present(sweep.networks, data, "network")
    networks = evenly(there)
    what = "Validation loss" if validation else "Training loss"
    seeds = seeds_text(data["n"])
    spread = f"mean and range of {seeds}" if data["n"].max() > 1 else "one seed, no range"
    unfinished = "" if data["finished"].all() else " Some runs are unfinished."
    title = f"{what} over virtual time ({spread}).{left_out(networks, there, 'networks')}{unfinished}"
    look, methods = Look(sweep), present(sweep.methods, data, "method")
    single = len(networks) == 1
    sheet = Sheet(COLUMN_MM if single else PAGE_MM, title, [look.entry(m) for m in methods], len(networks), 3,
                  panel_mm=48 if single else 40, inner_mm=11, panel_titles=True)
    low, high = data["lowest"].min(), data["highest"].max()
    for i, (axes, network) in enumerate(zip(sheet.axes, networks)):
        _panel(axes, data[data["network"] == network], look, methods)
        axes.set_ylim(low - 0.04 * (high - low) - 1e-9, high + 0.04 * (high - low) + 1e-9)
        linear_ticks(axes.yaxis)
        sheet.name_panel(axes, network)
        if sheet.starts_row(i):
            axes.set_ylabel(f"{what.lower()} (nats a token)")
    last = data.groupby(["network", "method"], sort=False).tail(1)
    return Drawn("loss_over_time", title, sheet.figure, data, last.drop(columns=["bandwidth_bps", "finished"]))


def _panel(axes, data, look: Look, methods: list[str]) -> None:
    ends = data.groupby("method")["time_s"].max()
    unit = time_unit(ends.max())
    # The start cannot stand on a logarithmic axis; there all lines are together.
    logarithmic = ends.max() > 12 * ends.min() > 0
    for place, method in enumerate(methods):
        line = data[(data["method"] == method) & (data["time_s"] > 0 if logarithmic else True)]
        time = line["time_s"] / unit.seconds
        # At most seven markers a line, beside those of the others.
        every = max(1, math.ceil(len(line) / 7))
        axes.plot(time, line["loss"], markevery=(place % every, every), clip_on=False, **look.style(method))
        if line["n"].max() > 1:
            axes.fill_between(time, line["lowest"], line["highest"], color=look.colour(method), alpha=0.2, linewidth=0)
    if logarithmic:
        axes.set_xscale("log")
        log_ticks(axes.xaxis, *axes.get_xlim())
    else:
        axes.set_xlim(left=0)
        linear_ticks(axes.xaxis)
    axes.set_xlabel(f"virtual time ({unit.name})")
