"""One step as a space-time diagram: a row a rank with what it does, and a slanted line for every message from where and when it was
sent to where and when it arrived. From timeline.json; of the steps in it the last one, whose connections are warm."""

import pandas
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from ..layout import Sheet, linear_ticks, name_rows, text_mm
from ..quantities import duration, time_unit
from ..style import BLUE, GREEN, GREY, ORANGE, PAGE_MM, SKY, SMALL_PT, VERMILION, styled
from .common import Drawn, NotApplicable, evenly, present

MOST_PANELS = 6
# Phase → (group, colour); a group is what the legend names.
GROUPS = {"forward": BLUE, "backward": VERMILION, "codec": SKY, "update": GREEN}
GROUP_OF = {"forward": "forward", "backward": "backward", "backward_weight": "backward", "update": "update", "reduce": "update",
            "other": "update", "synchronise": "update"}
MESSAGES = {"forward": (BLUE, "-"), "backward": (ORANGE, (0, (4, 1.5))), "sync": (GREY, (0, (1, 1)))}


def step_of(run) -> pandas.DataFrame:
    """The slices of the last step in the timeline, times counted from the end of the step before. No rows where there are none."""
    slices = run.timeline
    whole = slices[slices["step"].isin(run.steps["step"])]
    if whole.empty:
        return whole
    last = whole["step"].max()
    before = run.steps.loc[run.steps["step"] == last - 1, "time_s"]
    start = before.iloc[0] if len(before) else 0.0
    return whole[whole["step"] == last].assign(start_s=lambda f: f["start_s"] - start, end_s=lambda f: f["end_s"] - start)


def numbers(sweep) -> pandas.DataFrame:
    """network, method, point and the columns of Run.timeline, on the slowest network, for the first seed of each method."""
    frames = []
    for network in sweep.networks:
        runs = sweep.runs[sweep.runs["network"] == network].sort_values(["comparison", "seed", "network_seed"], kind="stable")
        for row in runs.itertuples():
            if any(frame["method"].iloc[0] == row.method for frame in frames):
                continue
            try:
                slices = step_of(sweep.run(row.point))
            except KeyError:  # failed, or known from its row alone
                continue
            if len(slices):
                slices = slices.reset_index(drop=True)
                for position, name in enumerate(("network", "method", "point")):
                    slices.insert(position, name, getattr(row, name))
                frames.append(slices)
        if frames:
            break
    if not frames:
        raise NotApplicable("no timeline of a finished step: output.timeline_steps says which steps have one")
    return _in_rank_order(sweep, pandas.concat(frames, ignore_index=True))


def _in_rank_order(sweep, data) -> pandas.DataFrame:
    order = {name: i for i, name in enumerate(sweep.methods)}
    return data.sort_values(["method", "start_s", "rank"], key=lambda c: c.map(order) if c.name == "method" else c,
                            kind="stable").reset_index(drop=True)


@styled
def make(sweep) -> Drawn:
    data = numbers(sweep)
    there = present(sweep.methods, data, "method")
    methods = evenly(there, MOST_PANELS)
    steps = sorted(data["step"].unique())
    title = f"Step {' and '.join(map(str, steps))} on {data['network'].iloc[0]}: what the ranks do, and their messages."
    if methods != there:
        title += f" {len(methods)} of {len(there)} methods shown."
    ranks = int(data[["rank", "to"]].max().max()) + 1
    kinds = [kind for kind in MESSAGES if ((data["kind"] == "message") & (data["phase"] == kind)).any()]
    entries = [Patch(color=colour, label=group if group != "codec" else "coding") for group, colour in GROUPS.items()]
    entries += [Line2D([], [], color=MESSAGES[k][0], linestyle=MESSAGES[k][1], linewidth=0.9, label=f"{k} message") for k in kinds]
    sheet = Sheet(PAGE_MM, title, entries, len(methods), 1, panel_mm=min(110.0, max(18.0, 7.5 * ranks)), left_mm=12, panel_titles=True)
    for axes, method in zip(sheet.axes, methods):
        slices = data[data["method"] == method]
        _panel(axes, slices, ranks, sheet.panel_width_mm)
        sheet.name_panel(axes, f"{method}: {duration(slices['end_s'].max())}")
    return Drawn("pipeline_grid", title, sheet.figure, data, _busy(data))


def _busy(data) -> pandas.DataFrame:
    """Seconds of each phase per rank: what of the diagram fits into a table."""
    computes = data[data["kind"] != "message"].assign(busy_s=lambda f: f["end_s"] - f["start_s"])
    return computes.groupby(["method", "rank", "phase"], sort=False)["busy_s"].agg(["count", "sum"]).reset_index().rename(
        columns={"count": "slices", "sum": "busy_s"}).sort_values(["method", "rank"], kind="stable").reset_index(drop=True)


def _panel(axes, slices, ranks: int, width_mm: float) -> None:
    end = slices["end_s"].max()
    unit = time_unit(end)
    axes.set_xlim(0, 1.005 * end / unit.seconds)
    name_rows(axes, [str(rank) if ranks <= 16 or rank % 4 == 0 else "" for rank in range(ranks)])
    height = 0.42
    for kind, (colour, line) in MESSAGES.items():
        messages = slices[(slices["kind"] == "message") & (slices["phase"] == kind)]
        lines = [((m.start_s / unit.seconds, _edge(m.rank, m.to, height)), (m.end_s / unit.seconds, _edge(m.to, m.rank, height)))
                 for m in messages.itertuples() if m.rank >= 0 and m.to >= 0]
        axes.add_collection(LineCollection(lines, colors=colour, linestyles=[line], linewidths=0.5, zorder=2))
    # What lasts less than a hair is drawn as wide as one, or nothing would be seen of it.
    hair = 0.15 / width_mm * end
    for group, colour in GROUPS.items():
        own = slices[(slices["kind"] == "codec")] if group == "codec" else slices[(slices["kind"] == "compute") & (
            slices["phase"].map(GROUP_OF).fillna("update") == group)]
        boxes = [Rectangle((s.start_s / unit.seconds, s.rank - height / 2), max(s.end_s - s.start_s, hair) / unit.seconds, height)
                 for s in own.itertuples()]
        axes.add_collection(PatchCollection(boxes, facecolor=colour, edgecolor="none", zorder=3 if group == "codec" else 3.5))
    widest = text_mm(str(slices["microbatch"].max()), SMALL_PT - 1) + 0.6
    for s in slices[slices["kind"] == "compute"].itertuples():
        if s.microbatch >= 0 and widest < (s.end_s - s.start_s) / end * width_mm:
            axes.text((s.start_s + s.end_s) / 2 / unit.seconds, s.rank, str(s.microbatch), ha="center", va="center",
                      fontsize=SMALL_PT - 1, color="white", zorder=4)
    linear_ticks(axes.xaxis, 8)
    axes.grid(True, axis="x")
    axes.set_xlabel(f"virtual time since the step before ended ({unit.name})")
    axes.set_ylabel("rank")


def _edge(rank: int, other: int, height: float) -> float:
    """A message touches the box of a rank on the side that faces the other."""
    return rank + (height / 2 if other > rank else -height / 2)
