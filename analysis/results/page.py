"""What the pages of docs/results have in common: how numbers are written, and which part of a page a script replaces."""

import math

from entries import Entry, difference, order
from strait_analysis.files import InputError
from strait_analysis.quantities import duration

END = "<!-- end of what is generated -->"


def markdown(rows: list[list[str]], numbers_from: int = 1) -> str:
    """A table; the first row is its head. Columns from `numbers_from` on stand right."""
    rule = ["---" if i < numbers_from else "---:" for i in range(len(rows[0]))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], rule, *rows[1:]])


def signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def loss_text(entry: Entry) -> str:
    """ "4.488 [4.470, 4.501]": the mean and the band; how many seeds where some have no loss."""
    if not entry.losses:
        return "diverged"
    missing = f" ({len(entry.losses)} of {len(entry.seeds)} seeds)" if len(entry.losses) < len(entry.seeds) else ""
    return f"{entry.loss:.3f} [{entry.band[0]:.3f}, {entry.band[1]:.3f}]{missing}"


def difference_text(entry: Entry, reference: Entry | None) -> str:
    """ "+0.102 ± 0.021": the mean of the paired differences and half of its 95 % interval."""
    if reference is None or entry is reference:
        return ""
    mean, low, high, n = difference(entry, reference)
    if n == 0:
        return "–"
    return signed(mean) + (f" ± {(high - low) / 2:.3f}" if n > 1 else "")


def order_text(entry: Entry, reference: Entry) -> str:
    found = order(entry, reference)
    return f"**{found}**" if found in ("lower", "higher") else found


def time_text(seconds: list[float]) -> str:
    """ "6.4 min"; "6.4 min (2 of 3)" where the other seeds did not get there."""
    reached = [value for value in seconds if math.isfinite(value)]
    if not reached:
        return "–"
    return duration(sum(reached) / len(reached)) + (f" ({len(reached)} of {len(seconds)})" if len(reached) < len(seconds) else "")


def with_generated(page: str, text: str, begin: str) -> str:
    """The page with `text` between the markers `begin` and END. Raises InputError where it does not have each of them once."""
    if page.count(begin) != 1 or page.count(END) != 1 or page.index(begin) > page.index(END):
        raise InputError(f"the page has not the lines {begin} and {END}, once each and in this order")
    return f"{page[:page.index(begin)]}{begin}\n\n{text}\n\n{page[page.index(END):]}"
