"""How every rank spends a step: computing, coding, waiting for a message under way, idle; in shares of the step, a bar a rank.
Stragglers and bubbles show here. From ranks.csv, mean over all steps but the first and over seeds."""

import pandas

from ..layout import Sheet, name_rows
from ..quantities import duration
from ..style import COLUMN_MM, PAGE_MM, part_entry, stacked_bars, styled
from .common import MOST_PANELS, Drawn, NotApplicable, evenly, finished_where_any, in_order, later_steps, later_steps_text, present

PARTS = ["compute_s", "codec_s", "waiting_s", "idle_s"]


def numbers(sweep) -> pandas.DataFrame:
    """network, method, rank, compute_s, codec_s, waiting_s, idle_s, step_s (their sum), n (runs)."""
    ranks = finished_where_any(later_steps(sweep, sweep.traces("ranks", comparisons=True)))
    if ranks.empty:
        raise NotApplicable("no run has finished a step")
    keys = ["network", "method", "rank"]
    runs = ranks.groupby([*keys, "point"], sort=False)[PARTS].mean()
    data = runs.groupby(keys, sort=False).mean().assign(step_s=lambda frame: frame[PARTS].sum(axis=1)).reset_index()
    counts = ranks.groupby(keys, sort=False).agg(n=("point", "nunique")).reset_index()
    return in_order(sweep, data.merge(counts, on=keys), "rank")


def _panels(sweep, data) -> tuple[list[tuple[str, str]], int, str]:
    """(network, method) of each panel, how many stand beside each other, and what to say of those left out. Networks stand beside
    each other; of more than three the slowest and the fastest show the range."""
    pairs = set(zip(data["network"], data["method"]))
    networks = present(sweep.networks, data, "network")
    if len(networks) > 3:
        networks = [networks[0], networks[-1]]
    methods = evenly(present(sweep.methods, data, "method"), MOST_PANELS // len(networks))
    shown = [(network, method) for method in methods for network in networks if (network, method) in pairs]
    whole = len(shown) == len(networks) * len(methods)
    note = "" if len(shown) == len(pairs) else f" {len(shown)} of {len(pairs)} pairs of method and network shown: the ends of the range."
    return shown, len(networks) if whole and len(networks) > 1 else 3, note


@styled
def make(sweep) -> Drawn:
    data = numbers(sweep)
    panels, columns, note = _panels(sweep, data)
    title = f"How the ranks spend a step ({later_steps_text(sweep)}).{note}"
    most = int(data.groupby(["network", "method"])["rank"].count().max())
    single = len(panels) == 1
    sheet = Sheet(COLUMN_MM if single else PAGE_MM, title, [part_entry(part) for part in PARTS], len(panels), columns,
                  panel_mm=min(90.0, max(14.0, 3.0 + 3.4 * most)), left_mm=12, inner_mm=8, panel_titles=True)
    for i, (axes, (network, method)) in enumerate(zip(sheet.axes, panels)):
        here = data[(data["network"] == network) & (data["method"] == method)]
        shares = here[PARTS].div(here["step_s"], axis=0) * 100
        stacked_bars(axes, shares, PARTS, range(len(here)), 0.8)
        every = 1 if most <= 16 else 4
        name_rows(axes, [str(rank) if place % every == 0 else "" for place, rank in enumerate(here["rank"])])
        axes.set_xlim(0, 100)
        axes.set_xticks([0, 25, 50, 75, 100])
        sheet.name_panel(axes, f"{method}, {network}: {duration(here['step_s'].mean())}")
        axes.set_xlabel("share of the step (%)")
        if sheet.starts_row(i):
            axes.set_ylabel("rank")
    return Drawn("rank_time", title, sheet.figure, data, data)
