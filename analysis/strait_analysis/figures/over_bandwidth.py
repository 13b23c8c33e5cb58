"""Lines over the bandwidth of the links, one a method and condition, with whiskers: what several figures have in common."""

import math

from ..style import LINE_STYLES, Look


def series_of(sweep, data) -> list[tuple[str, str]]:
    """(method, condition): the lines of a figure, in the order of its legend. A condition is what tells networks of one
    bandwidth apart; mostly there is none."""
    pairs = data[["method", "condition"]].drop_duplicates().itertuples(index=False)
    return sorted(map(tuple, pairs), key=lambda pair: (sweep.methods.index(pair[0]), pair[1]))


def legend(look: Look, series: list[tuple[str, str]]) -> list:
    return [look.entry(method, label=f"{method} ({condition})" if condition else method, **_style(look, method, condition, series))
            for method, condition in series]


def _style(look: Look, method: str, condition: str, series: list[tuple[str, str]]) -> dict:
    """A method keeps its colour and marker; where there are conditions, they have the line styles."""
    conditions = sorted({other for _, other in series})
    if len(conditions) == 1:
        return look.style(method)
    return {**look.style(method), "linestyle": LINE_STYLES[conditions.index(condition) % len(LINE_STYLES)]}


def beside(values, place: int, count: int):
    """Bandwidths moved a little, so that whiskers of one bandwidth stand side by side."""
    return values * min(1.05, 1.3 ** (1 / count)) ** (place - (count - 1) / 2)


def draw_lines(axes, data, look: Look, series: list[tuple[str, str]], middle: str, low: str, high: str) -> None:
    """Lines through `middle`, whiskers from `low` to `high`; nan in either means no whisker."""
    for place, (method, condition) in enumerate(series):
        line = data[(data["method"] == method) & (data["condition"] == condition)].sort_values("bandwidth_bps")
        x = beside(line["bandwidth_bps"], place, len(series))
        style = _style(look, method, condition, series)
        axes.plot(x, line[middle], **style)
        for at, bottom, top in zip(x, line[low], line[high]):
            if math.isfinite(bottom) and math.isfinite(top) and top > bottom:
                axes.plot([at, at], [bottom, top], color=style["color"], linewidth=0.8, zorder=1.5)
