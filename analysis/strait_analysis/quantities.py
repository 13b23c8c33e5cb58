"""Numbers with units: reads them as scenarios write them ("80Mbps", "20ms") and writes them for axes, labels and tables.
Inside the package every bandwidth is in bits per second and every time in seconds."""

import math
import re
from typing import NamedTuple

BANDWIDTHS = {"bps": 1.0, "kbps": 1e3, "Mbps": 1e6, "Gbps": 1e9, "Tbps": 1e12}
DURATIONS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
QUANTITY = re.compile(r"\s*([0-9.]+(?:[eE][-+]?[0-9]+)?) ?([A-Za-zµμ]+)\s*")


def _parse(text, units: dict[str, float]) -> float:
    match = QUANTITY.fullmatch(text) if isinstance(text, str) else None
    scale = units.get(match[2].replace("µ", "u").replace("μ", "u")) if match else None
    return math.nan if scale is None else float(match[1]) * scale


def parse_bandwidth(text) -> float:
    """Bits per second of "80Mbps"; nan for what is no bandwidth."""
    return _parse(text, BANDWIDTHS)


def parse_duration(text) -> float:
    """Seconds of "20ms"; nan for what is no duration."""
    return _parse(text, DURATIONS)


def number(value: float, digits: int = 3) -> str:
    """A number for a label or a table: `digits` significant digits, no exponent between 1e-3 and 1e7."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if -4 < exponent < 7:
        text = f"{value:,.{max(0, digits - 1 - exponent)}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        text = f"{value:.{digits - 1}e}"
    return text.replace("-", "−")


def bandwidth(bits_per_second: float) -> str:
    """ "80 Mbps" """
    if not math.isfinite(bits_per_second):
        return "unknown bandwidth"
    for unit, scale in reversed(BANDWIDTHS.items()):
        if bits_per_second >= scale:
            return f"{number(bits_per_second / scale, 4)} {unit}"
    return f"{number(bits_per_second)} bps"


class TimeUnit(NamedTuple):
    seconds: float
    name: str


TIME_UNITS = [TimeUnit(86400.0, "days"), TimeUnit(3600.0, "h"), TimeUnit(60.0, "min"), TimeUnit(1.0, "s"),
              TimeUnit(1e-3, "ms"), TimeUnit(1e-6, "µs")]


def time_unit(largest: float) -> TimeUnit:
    """The unit in which times up to `largest` seconds read best: the largest one that leaves at least 3 of it."""
    for unit in TIME_UNITS:
        if largest >= 3 * unit.seconds:
            return unit
    return TIME_UNITS[-1] if 0 < largest < 3e-6 else TimeUnit(1.0, "s")


def duration(seconds: float, digits: int = 3) -> str:
    """ "384 ms", "2.01 s", "6.4 min" """
    if seconds is None or not math.isfinite(seconds):
        return "–"
    unit = next((unit for unit in TIME_UNITS if seconds >= (1 if unit.seconds <= 1 else 2) * unit.seconds), TIME_UNITS[-1])
    return f"{number(seconds / unit.seconds, digits)} {unit.name if seconds else 's'}"
