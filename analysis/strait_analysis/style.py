"""How figures look: for print in a column (85 mm) or over the page (175 mm), for eyes that do not tell red from green. Colours
are those of Okabe and Ito (2008); nothing is told by colour alone: methods also have markers and line styles, parts hatches."""

import functools

import matplotlib
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

COLUMN_MM, PAGE_MM = 85.0, 175.0
FONT = "DejaVu Sans"  # comes with matplotlib
TEXT_PT, TITLE_PT, SMALL_PT = 7.0, 8.0, 6.0
MILLIMETRE = 1 / 25.4  # inches

BLACK, BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, YELLOW = (
    "#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
GREY, SILVER, LIGHT = "#808080", "#C4C4C4", "#E3E3E3"
# Yellow lines cannot be seen on white paper.
METHOD_COLOURS = [BLACK, BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY]
METHOD_MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
LINE_STYLES = ["-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1))]

# Part of a step → (what it is called, colour, hatch).
PARTS = {
    "compute_s": ("computing", BLUE, ""),
    "codec_s": ("coding", SKY, "////"),
    "host_s": ("host overhead", SILVER, ""),
    "serialisation_s": ("serialisation", VERMILION, ""),
    "propagation_s": ("propagation", ORANGE, ""),
    "window_s": ("closed window", YELLOW, "...."),
    "queue_s": ("queue", PURPLE, "\\\\\\\\"),
    "recovery_s": ("loss recovery", BLACK, ""),
    "waiting_s": ("waiting for a message", ORANGE, ""),
    "idle_s": ("idle", LIGHT, ""),
}

RC = {
    "font.family": FONT, "font.size": TEXT_PT, "axes.titlesize": TEXT_PT, "axes.labelsize": TEXT_PT,
    "xtick.labelsize": SMALL_PT, "ytick.labelsize": SMALL_PT, "legend.fontsize": TEXT_PT, "legend.frameon": False,
    "axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.minor.width": 0.4, "ytick.minor.width": 0.4,
    "xtick.major.size": 2.5, "ytick.major.size": 2.5, "xtick.minor.size": 1.5, "ytick.minor.size": 1.5,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#D9D9D9", "grid.linewidth": 0.4,
    "axes.axisbelow": True, "lines.linewidth": 1.2, "lines.markersize": 3.6, "hatch.linewidth": 0.4, "axes.unicode_minus": True,
    # Outlines of letters instead of font names: a figure looks the same in every viewer.
    "svg.fonttype": "path", "pdf.fonttype": 42,
    # The same input gives the same bytes.
    "svg.hashsalt": "strait", "savefig.dpi": 300,
}


def styled(function):
    """Makes `function` draw in this style, whatever the user's own settings are, and leaves those as they were."""
    @functools.wraps(function)
    def inner(*arguments, **options):
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(RC)
            return function(*arguments, **options)
    return inner


class Look:
    """Colour, marker and line style of every method: the same in all figures of a comparison."""

    def __init__(self, sweep):
        # Black is the uncompressed method's, also where it is absent.
        self._place = {method: i + (0 if sweep.has_plain else 1) for i, method in enumerate(sweep.palette)}

    def colour(self, method: str) -> str:
        return METHOD_COLOURS[self._place[method] % len(METHOD_COLOURS)]

    def marker(self, method: str) -> str:
        place = self._place[method]
        return METHOD_MARKERS[(place + place // len(METHOD_COLOURS)) % len(METHOD_MARKERS)]

    def line(self, method: str):
        place = self._place[method]
        return LINE_STYLES[(place + place // len(METHOD_COLOURS)) % len(LINE_STYLES)]

    def style(self, method: str) -> dict:
        """Keyword arguments of a line."""
        return {"color": self.colour(method), "marker": self.marker(method), "linestyle": self.line(method),
                "markeredgecolor": "white", "markeredgewidth": 0.4}

    def entry(self, method: str, **changes) -> Line2D:
        return Line2D([], [], **{"label": method, **self.style(method), **changes})


def part_entry(part: str) -> Patch:
    name, colour, hatch = PARTS[part]
    return Patch(facecolor=colour, hatch=hatch, edgecolor="white", linewidth=0.3, label=name)


def stacked_bars(axes, frame, parts: list[str], positions, height: float = 0.72) -> None:
    """Horizontal bars from 0, one a row of `frame`, the columns `parts` behind each other."""
    left = 0.0
    for part in parts:
        _, colour, hatch = PARTS[part]
        values = frame[part].to_numpy()
        axes.barh(positions, values, height, left=left, color=colour, hatch=hatch, edgecolor="white", linewidth=0.3)
        left = left + values
