"""Where things stand on a figure: a title over its whole width, the legend under it, then a grid of panels, all placed in
millimetres from measured text, so that nothing overlaps and nothing is cut, however long the names of methods are."""

import math
from functools import lru_cache

import numpy
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ft2font import LOAD_NO_HINTING
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from . import quantities
from .style import FONT, MILLIMETRE, SMALL_PT, TEXT_PT, TITLE_PT

MM_PER_POINT = 25.4 / 72
LEGEND_ROW_MM, HANDLE_MM, GAP_MM = 3.6, 7.0, 3.0
RIGHT_MM = 5.0  # half of a tick label at the end of an axis
LONGEST_NAME_MM = 45.0  # of a row; what is longer is shortened


@lru_cache(maxsize=1)
def _font():
    return get_font(findfont(FontProperties(family=FONT)))


def text_mm(text: str, size: float) -> float:
    """Width of a line of text."""
    font = _font()
    font.set_size(size, 72)
    font.set_text(text, 0.0, flags=LOAD_NO_HINTING)
    return font.get_width_height()[0] / 64 * MM_PER_POINT  # in 64ths of a point


def wrapped(text: str, size: float, width_mm: float) -> list[str]:
    """The text in lines that fit; a word that does not fit has a line of its own."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_mm(longer, size) > width_mm:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def shortened(text: str, size: float, room_mm: float) -> str:
    """The text if it fits, else its beginning and its end around three dots."""
    result, kept = text, len(text)
    while kept > 4 and text_mm(result, size) > room_mm:
        kept -= 1
        result = text[:kept - kept // 2].rstrip(" ,") + "…" + text[len(text) - kept // 2:].lstrip(" ,")
    return result


def _legend_columns(labels: list[str], width_mm: float) -> int:
    """The most columns that fit; a legend is filled column by column, as evenly as can be."""
    texts = [text_mm(label, TEXT_PT) for label in labels]
    for columns in range(len(labels), 1, -1):
        widths = [part.max() for part in numpy.array_split(texts, columns)]
        if sum(widths) + columns * HANDLE_MM + (columns - 1) * GAP_MM <= width_mm:
            return columns
    return 1


class Sheet:
    """A figure with `count` panels in rows of `columns`. left_mm is the room for the tick labels and the label of a row's first
    panel, inner_mm that of the others; bottom_mm the room under each panel. `axes` has the panels, row by row."""

    def __init__(self, width_mm: float, title: str, legend: list, count: int = 1, columns: int = 1, panel_mm: float = 44.0,
                 left_mm: float = 14.0, inner_mm: float = 9.0, bottom_mm: float = 9.0, panel_titles: bool = False):
        columns = min(columns, count)
        rows = math.ceil(count / columns)
        lines = wrapped(title, TITLE_PT, width_mm - 4)
        for entry in legend:
            entry.set_label(shortened(entry.get_label(), TEXT_PT, width_mm - 6 - HANDLE_MM))
        across = _legend_columns([entry.get_label() for entry in legend], width_mm - 4) if legend else 1
        title_mm = 2.5 + 3.7 * len(lines)
        legend_mm = 1.0 + LEGEND_ROW_MM * math.ceil(len(legend) / across) if legend else 0.0
        above_mm = 6.0 if panel_titles else 2.5
        height_mm = title_mm + legend_mm + rows * (above_mm + panel_mm + bottom_mm) + 1.0
        self.width_mm, self.height_mm = width_mm, height_mm
        self.figure = Figure(figsize=(width_mm * MILLIMETRE, height_mm * MILLIMETRE))
        self.figure.text(2 / width_mm, 1 - 2 / height_mm, "\n".join(lines), fontsize=TITLE_PT, va="top", ha="left", linespacing=1.25)
        if legend:
            em_mm = TEXT_PT * MM_PER_POINT
            self.figure.legend(handles=legend, loc="upper left", ncol=across, borderpad=0, borderaxespad=0,
                               bbox_to_anchor=(2 / width_mm, 1 - (title_mm + 1) / height_mm), handlelength=5.5 / em_mm,
                               handletextpad=1.5 / em_mm, columnspacing=GAP_MM / em_mm, labelspacing=0.4)
        panel_width = (width_mm - left_mm - (columns - 1) * inner_mm - RIGHT_MM) / columns
        self.axes = []
        for i in range(count):
            row, column = divmod(i, columns)
            x = left_mm + column * (panel_width + inner_mm)
            y = height_mm - title_mm - legend_mm - (row + 1) * (above_mm + panel_mm) - row * bottom_mm
            self.axes.append(self.figure.add_axes([x / width_mm, y / height_mm, panel_width / width_mm, panel_mm / height_mm]))
        self.panel_width_mm = panel_width
        self.columns = columns

    def starts_row(self, panel: int) -> bool:
        return panel % self.columns == 0

    def name_panel(self, axes, text: str) -> None:
        """A title left above a panel, shortened if it does not fit."""
        axes.set_title(shortened(text, TEXT_PT, self.panel_width_mm + 3), loc="left", pad=3)


def names_mm(names) -> float:
    """Room for tick labels left of an axis."""
    return 3.0 + min(LONGEST_NAME_MM, max(text_mm(name, SMALL_PT) for name in names))


def name_rows(axes, names: list[str]) -> None:
    """Horizontal bars' names, the first on top."""
    axes.set_yticks(range(len(names)), [shortened(name, SMALL_PT, LONGEST_NAME_MM) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")


def log_ticks(axis, low: float, high: float) -> None:
    """Ticks of a logarithmic axis between low and high, at least two with labels, written as plain numbers."""
    decades = math.log10(high / low)
    steps = (1.0,) if decades > 3.2 else (1.0, 2.0, 5.0) if decades > 0.8 else (1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
    within = lambda subs: FixedLocator([t for t in LogLocator(subs=subs, numticks=100).tick_values(low, high) if low <= t <= high])
    axis.set_major_locator(within(steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: quantities.number(value)))
    axis.set_minor_locator(within(range(1, 10)) if decades > 3.2 else NullLocator())
    axis.set_minor_formatter(NullFormatter())


def linear_ticks(axis, most: int = 5) -> None:
    axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: quantities.number(value, 4)))


def bandwidth_axis(axes, values, width_mm: float) -> None:
    """A logarithmic axis with the bandwidths that were measured as its ticks; labels that would touch are left out."""
    values = sorted(set(values))
    low, high = values[0] / 1.35, values[-1] * 1.35
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(values))
    axes.xaxis.set_minor_locator(NullLocator())
    labels, free_from = [], -math.inf
    for value in values:
        text = quantities.bandwidth(value)
        half = text_mm(text, SMALL_PT) / 2
        centre = math.log(value / low) / math.log(high / low) * width_mm
        fits = centre - half > free_from
        labels.append(text if fits else "")
        free_from = centre + half + 1.0 if fits else free_from
    axes.set_xticklabels(labels)
    axes.set_xlabel("link bandwidth")
