"""Final validation loss against the measured wire ratio, a point a method, whiskers over seeds, the Pareto front joined: what
compression costs in loss. Neither depends on the network. From summary.json."""

import pandas

from ..layout import Sheet, linear_ticks, log_ticks
from ..quantities import number
from ..statistics import over_seeds, pareto_front
from ..style import COLUMN_MM, GREY, Look, styled
from .common import Drawn, NotApplicable, in_order, seeds_text


def numbers(sweep) -> pandas.DataFrame:
    """method, wire_ratio (mean over seeds), loss (mean), lowest, highest, best_loss (mean of the best of each run), n (seeds),
    on_front."""
    runs = sweep.runs[sweep.runs["finished"] & ~sweep.runs["comparison"]]
    runs = runs.dropna(subset=["final_validation_loss", "wire_ratio"])
    if runs.empty:
        raise NotApplicable("no finished run has both a validation loss and a wire ratio")
    columns = ["final_validation_loss", "best_validation_loss", "wire_ratio"]
    seeds = runs.groupby(["method", "seed"], sort=False)[columns].mean().reset_index()
    data = over_seeds(seeds, ["method"], "final_validation_loss").rename(columns={"mean": "loss"})
    means = seeds.groupby("method", sort=False)[["wire_ratio", "best_validation_loss"]].mean().reset_index()
    data = data.merge(means.rename(columns={"best_validation_loss": "best_loss"}), on="method")
    data["on_front"] = pareto_front(data["wire_ratio"], data["loss"])
    return in_order(sweep, data[["method", "wire_ratio", "loss", "lowest", "highest", "best_loss", "n", "on_front"]])


@styled
def make(sweep) -> Drawn:
    data = numbers(sweep)
    if len(data) < 2:
        raise NotApplicable("one method is no comparison; its loss and wire ratio are in the table of runs")
    look = Look(sweep)
    spread = f"mean and range of {seeds_text(data['n'])}" if data["n"].max() > 1 else "one seed"
    title = f"Final validation loss over the measured wire ratio ({spread}). Dashed line and rings: Pareto front."
    sheet = Sheet(COLUMN_MM, title, [look.entry(m, linestyle="") for m in data["method"]], panel_mm=50)
    axes = sheet.axes[0]
    front = data[data["on_front"]].sort_values("wire_ratio")
    axes.plot(front["wire_ratio"], front["loss"], color=GREY, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1.5)
    axes.plot(front["wire_ratio"], front["loss"], linestyle="", marker="o", markersize=8, markerfacecolor="none",
              markeredgecolor=GREY, markeredgewidth=0.8)
    for row in data.itertuples():
        axes.plot([row.wire_ratio] * 2, [row.lowest, row.highest], color=look.colour(row.method), linewidth=0.9)
        axes.plot([row.wire_ratio], [row.loss], **{**look.style(row.method), "linestyle": ""})
    _axes(axes, data)
    return Drawn("loss_over_wire_ratio", title, sheet.figure, data, data)


def _axes(axes, data) -> None:
    low, high = data["wire_ratio"].min(), data["wire_ratio"].max()
    margin = max(high / low, 2.0) ** 0.08
    axes.set_xscale("log")
    axes.set_xlim(low / margin, high * margin)
    log_ticks(axes.xaxis, low / margin, high * margin)
    axes.xaxis.set_major_formatter(lambda value, _: f"{number(value)}×")
    axes.set_xlabel("wire ratio: bytes of method none over bytes sent")
    bottom, top = data["lowest"].min(), data["highest"].max()
    room = 0.1 * max(top - bottom, 1e-3)
    axes.set_ylim(bottom - room, top + room)
    linear_ticks(axes.yaxis)
    axes.set_ylabel("final validation loss (nats a token)")
