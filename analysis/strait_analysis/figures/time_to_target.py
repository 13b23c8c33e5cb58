"""Virtual time to a target loss against the bandwidth of the links, both logarithmic, a panel a target, a line a method. A
target that was not reached stands at the top edge. From `targets` of summary.json."""

import pandas

from ..layout import Sheet, bandwidth_axis, log_ticks
from ..quantities import number, time_unit
from ..statistics import over_seeds
from ..style import COLUMN_MM, GREY, PAGE_MM, SMALL_PT, Look, styled
from .common import Drawn, NotApplicable, in_order
from .over_bandwidth import draw_lines, legend, series_of

KEYS = ["target", "network", "condition", "bandwidth_bps", "method"]
PANEL_MM, ROW_MM = 50.0, 2.1


def numbers(sweep) -> pandas.DataFrame:
    """target, network, condition, bandwidth_bps, method, time_s (mean over the seeds that reached it), lowest, highest, reached
    (seeds), n (seeds)."""
    targets = sweep.targets
    if targets.empty:
        raise NotApplicable("no targets: training.targets lists losses whose virtual time is wanted")
    targets = targets[targets["finished"] | targets["reached"]]
    data = targets.groupby(KEYS, sort=False).agg(reached=("reached", "sum"), n=("reached", "count")).reset_index()
    times = over_seeds(targets, KEYS, "time_s").rename(columns={"mean": "time_s"}).drop(columns="n")
    data = data.merge(times, on=KEYS, how="left")[[*KEYS, "time_s", "lowest", "highest", "reached", "n"]]
    return in_order(sweep, data).sort_values("target", ascending=False, kind="stable").reset_index(drop=True)


@styled
def make(sweep) -> Drawn:
    data = numbers(sweep)
    shown = data[data["bandwidth_bps"].notna() & (data["time_s"] != 0)]  # a target below the initial loss has no place on a logarithm
    if shown.empty or len(shown[["bandwidth_bps", "method"]].drop_duplicates()) < 2:
        raise NotApplicable("one method on one network is no comparison; its times are in the table of runs")
    targets = sorted(shown["target"].unique(), reverse=True)
    look, series = Look(sweep), series_of(sweep, shown)
    seeds = int(data["n"].max())
    spread = f"mean and range of {seeds} seeds" if seeds > 1 else "one seed"
    title = f"Virtual time until the loss is reached, over the bandwidth of the links ({spread})."
    if (shown["reached"] < shown["n"]).any():
        some = shown["reached"].between(1, shown["n"] - 1).any()
        title += " Open markers at the top edge: not reached" + ("; 1/3: one of three seeds did not." if some else ".")
    single = len(targets) == 1
    sheet = Sheet(COLUMN_MM if single else PAGE_MM, title, legend(look, series), len(targets), 2, panel_mm=PANEL_MM, inner_mm=13,
                  panel_titles=True)
    for axes, target in zip(sheet.axes, targets):
        _panel(axes, shown[shown["target"] == target], look, series, sheet.panel_width_mm)
        sheet.name_panel(axes, f"loss {number(target)}")
    said = data.assign(time_s=data["time_s"].astype(object).where(data["reached"] > 0, "not reached"))
    return Drawn("time_to_target", title, sheet.figure, said, said.drop(columns=["condition", "bandwidth_bps"]))


def _panel(axes, data, look: Look, series: list[tuple[str, str]], width_mm: float) -> None:
    bandwidth_axis(axes, data["bandwidth_bps"], width_mm)
    whole = data["reached"] == data["n"]
    reached, missing = data[whole], data[~whole]
    strip = _missing_markers(axes, missing, look, series)
    axes.set_yscale("log")
    axes.set_ylabel("virtual time to target")
    if reached.empty:
        axes.set_yticks([])
        axes.minorticks_off()
        return
    unit = time_unit(reached["highest"].max())
    scaled = reached.assign(**{column: reached[column] / unit.seconds for column in ("time_s", "lowest", "highest")})
    draw_lines(axes, scaled, look, series, "time_s", "lowest", "highest")
    low, high = scaled[["time_s", "lowest"]].where(lambda time: time > 0).min().min(), scaled["highest"].max()
    margin = max(high / low, 3.0) ** 0.08
    axes.set_ylim(low / margin, low / margin * (high / low * margin ** 2) ** (1 / (1 - strip)))
    log_ticks(axes.yaxis, low / margin, high * margin)
    axes.set_ylabel(f"virtual time to target ({unit.name})")


def _missing_markers(axes, missing, look: Look, series: list[tuple[str, str]]) -> float:
    """Open markers in a strip along the top edge, those of one bandwidth below each other. Returns the strip's share of the height."""
    if missing.empty:
        return 0.0
    rows = int(missing.groupby("bandwidth_bps")["method"].count().max())
    strip = (1.0 + ROW_MM * rows) / PANEL_MM
    across = axes.get_xaxis_transform()  # x in bandwidths, y in shares of the height
    axes.plot([0, 1], [1 - strip] * 2, transform=axes.transAxes, color=GREY, linewidth=0.6, linestyle=(0, (2, 2)))
    place = {pair: i for i, pair in enumerate(series)}
    for rate, here in missing.groupby("bandwidth_bps"):
        ordered = sorted(here.itertuples(), key=lambda row: place[row.method, row.condition])
        for down, row in enumerate(ordered):
            y = 1 - (0.5 + ROW_MM * (down + 0.5)) / PANEL_MM
            axes.plot([rate], [y], transform=across, marker=look.marker(row.method), markerfacecolor="white",
                      markeredgecolor=look.colour(row.method), markeredgewidth=0.9, linestyle="", zorder=4)
            if row.reached:
                axes.annotate(f"{row.n - row.reached}/{row.n}", (rate, y), xycoords=across, xytext=(3.5, 0), textcoords="offset points",
                              va="center", fontsize=SMALL_PT - 1, color=look.colour(row.method))
    axes.text(1, 1.01, "top: not reached", transform=axes.transAxes, ha="right", va="bottom", fontsize=SMALL_PT, color=GREY)
    return strip
