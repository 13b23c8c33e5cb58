"""The two figures of docs/results/methods.md: loss over the measured wire ratio, and virtual time to a target over it. A method has one colour
and marker in both, and a line through its ratios."""

import math
from types import SimpleNamespace

from matplotlib.ticker import FixedLocator, NullLocator

from entries import Entry
from strait_analysis.layout import Sheet, linear_ticks, log_ticks
from strait_analysis.quantities import number, time_unit
from strait_analysis.style import GREY, LIGHT, METHOD_COLOURS, PAGE_MM, Look, styled

# In the order of the legend and of tables: the published methods first.
ROW_MM = 2.1  # of an open marker
TIME_PANEL_MM = 46.0
METHODS = ["none", "subspace", "resbm", "mapl", "frozen", "topk", "lowrank", "column_mask", "quantize", "cast", "mapl vq"]
OPTIMIZERS = {"adamw": "AdamW", "muon": "Muon"}


def _look(methods: list[str]) -> Look:
    order = [*METHODS, *(method for method in methods if method not in METHODS)]
    order.insert(len(METHOD_COLOURS), "")  # the place whose colour is black again, which is the uncompressed model's alone
    return Look(SimpleNamespace(palette=order, has_plain=True))


def _present(entries: list[Entry]) -> list[str]:
    there = list(dict.fromkeys(entry.method for entry in entries))
    return sorted(there, key=lambda method: METHODS.index(method) if method in METHODS else len(METHODS))


def _ratio_axis(axes, entries: list[Entry]) -> None:
    ratios = [entry.wire_ratio for entry in entries if math.isfinite(entry.wire_ratio)]
    low, high = min(ratios) / 1.15, max(ratios) * 1.15
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator([2.0**k for k in range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{number(value)}×")
    axes.set_xlabel("measured wire ratio")


@styled
def loss_over_ratio(entries: list[Entry]):
    """A matplotlib figure: a panel an optimizer, points are means over seeds, whiskers the band; the band of `none` is shaded."""
    optimizers = [name for name in OPTIMIZERS if any(entry.optimizer == name for entry in entries)]
    known = [entry for entry in entries if entry.losses]
    look, methods = _look([entry.method for entry in entries]), _present(known)
    title = "Final validation loss at equal tokens over the measured wire ratio: mean and range of the seeds. Shaded: without compression."
    sheet = Sheet(PAGE_MM, title, [look.entry(method) for method in methods], len(optimizers), 2, panel_mm=62, inner_mm=13, panel_titles=True)
    low, high = min(entry.band[0] for entry in known), max(entry.band[1] for entry in known)
    for panel, (axes, optimizer) in enumerate(zip(sheet.axes, optimizers)):
        here = [entry for entry in known if entry.optimizer == optimizer]
        for plain in (entry for entry in here if entry.method == "none"):
            axes.axhspan(*plain.band, color=LIGHT, zorder=0)
        for method in methods:
            line = sorted((entry for entry in here if entry.method == method), key=lambda entry: entry.wire_ratio)
            style = look.style(method)
            axes.plot([entry.wire_ratio for entry in line], [entry.loss for entry in line], **style)
            for entry in line:
                axes.plot([entry.wire_ratio] * 2, entry.band, color=style["color"], linewidth=0.8)
        _ratio_axis(axes, known)
        room = 0.05 * max(high - low, 1e-3)
        axes.set_ylim(low - room, high + room)
        linear_ticks(axes.yaxis)
        if sheet.starts_row(panel):
            axes.set_ylabel("final validation loss (nats a token)")
        sheet.name_panel(axes, OPTIMIZERS[optimizer])
    return sheet.figure


@styled
def time_over_ratio(entries: list[Entry], target: float, networks: list[str]):
    """A matplotlib figure: a panel a network and optimizer, points are means over seeds, whiskers their range; entries of which a seed did not
    reach the target are open markers along the top."""
    optimizers = [name for name in OPTIMIZERS if any(entry.optimizer == name for entry in entries)]
    look, methods = _look([entry.method for entry in entries]), _present(entries)
    title = f"Virtual time until the validation loss is {number(target)}, over the measured wire ratio. Open markers on top: a seed did not get there."
    sheet = Sheet(PAGE_MM, title, [look.entry(method) for method in methods], len(optimizers) * len(networks), len(networks), panel_mm=TIME_PANEL_MM,
                  inner_mm=13, panel_titles=True)
    panels = [(optimizer, network) for optimizer in optimizers for network in networks]
    for axes, (optimizer, network) in zip(sheet.axes, panels):
        here = [entry for entry in entries if entry.optimizer == optimizer and math.isfinite(entry.wire_ratio)]
        _time_panel(axes, here, look, methods, (network, target))
        _ratio_axis(axes, entries)
        sheet.name_panel(axes, f"{network}, {OPTIMIZERS[optimizer]}")
    return sheet.figure


def _time_panel(axes, entries: list[Entry], look: Look, methods: list[str], key: tuple[str, float]) -> None:
    times = {entry.label: entry.times.get(key, []) for entry in entries}
    whole = [entry for entry in entries if times[entry.label] and all(seconds > 0 for seconds in times[entry.label])]
    strip = _missing_markers(axes, [entry for entry in entries if entry not in whole], look)
    axes.set_yscale("log")
    if not whole:
        axes.set_yticks([])
        axes.minorticks_off()
        return
    unit = time_unit(max(max(times[entry.label]) for entry in whole))
    scaled = {entry.label: [seconds / unit.seconds for seconds in times[entry.label]] for entry in whole}
    longest, shortest = (pick(pick(values) for values in scaled.values()) for pick in (max, min))
    for method in methods:
        line = sorted((entry for entry in whole if entry.method == method), key=lambda entry: entry.wire_ratio)
        style = look.style(method)
        axes.plot([e.wire_ratio for e in line], [sum(scaled[e.label]) / len(scaled[e.label]) for e in line], **style)
        for entry in line:
            axes.plot([entry.wire_ratio] * 2, [min(scaled[entry.label]), max(scaled[entry.label])], color=style["color"], linewidth=0.8)
    margin = max(longest / shortest, 2.0) ** 0.08
    low, high = shortest / margin, longest * margin
    axes.set_ylim(low, low * (high / low) ** (1 / (1 - strip)))
    log_ticks(axes.yaxis, low, high)
    axes.set_ylabel(f"virtual time ({unit.name})")


def _missing_markers(axes, entries: list[Entry], look: Look) -> float:
    """Open markers in a strip along the top edge, those of about one ratio below each other. Returns the strip's share of the height."""
    columns: dict[int, list[Entry]] = {}
    for entry in entries:
        columns.setdefault(round(math.log2(entry.wire_ratio)), []).append(entry)
    if not columns:
        return 0.0
    strip = (1.0 + ROW_MM * max(map(len, columns.values()))) / TIME_PANEL_MM
    axes.plot([0, 1], [1 - strip] * 2, transform=axes.transAxes, color=GREY, linewidth=0.6, linestyle=(0, (2, 2)))
    for column in columns.values():
        for down, entry in enumerate(column):
            axes.plot([entry.wire_ratio], [1 - (0.5 + ROW_MM * (down + 0.5)) / TIME_PANEL_MM], transform=axes.get_xaxis_transform(), linestyle="",
                      marker=look.marker(entry.method), markerfacecolor="white", markeredgecolor=look.colour(entry.method), markeredgewidth=0.9)
    return strip
