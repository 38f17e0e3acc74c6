"""Format numbers, durations, sizes and times for people, and fit text into a line."""

import itertools
import math
import time
import unicodedata

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_DURATIONS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def short(value: float, digits: int = 4) -> str:
    """Format a number with at most `digits` digits."""
    size = abs(value)
    if not math.isfinite(value):
        return str(value)
    if size >= 1e15 or 0 < size < 1e-4:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        return f"{_trimmed(mantissa)}e{int(exponent)}"
    for unit, prefix in _PREFIXES:
        if size >= max(unit, 1e4):
            return f"{_trimmed(f'{value / unit:.{digits}g}')}{prefix}"
    return f"{value:.0f}" if size >= 10**digits else _trimmed(f"{value:.{digits}g}")


def exact(value: float) -> str:
    """Format a number for use in a program, without rounding noise."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:.7g}"


def duration(seconds: float) -> str:
    """Format a duration, from microseconds to days."""
    size, rounded = abs(seconds), round(seconds)
    if size < 60:
        unit, name = next((each for each in _DURATIONS if size >= each[0]), (1.0, "s"))
        return f"{_trimmed(f'{seconds / unit:.3g}')} {name}"
    for (unit, name), (smaller, smaller_name) in itertools.pairwise(_DURATIONS):
        if rounded >= unit:
            rest = int(rounded % unit // smaller)
            return f"{rounded // unit:.0f} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return f"{rounded} s"


def memory(size_bytes: float) -> str:
    """Format a size in memory."""
    power = min(int(math.log(max(size_bytes, 1.0), 1024)), 4)
    number = _trimmed(f"{size_bytes / 1024**power:.3g}")
    return f"{number} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def percent(part: float, digits: int = 0) -> str:
    """Format a part of one as a percentage."""
    value = 100 * part
    return f"{_trimmed(f'{value:.1g}')}%" if 0 < abs(value) < 1 else f"{value:.{digits}f}%"


def moment(time_s: float) -> str:
    """Format a time in the time zone of the machine that writes the report."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(time_s))
    except (OverflowError, ValueError, OSError):  # out of the calendar's range
        return f"{time_s} s"


def counted(number: int, noun: str) -> str:
    """Format a number with its noun: 1 epoch, 2 epochs."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shortened(text: object, most: int) -> str:
    """Return a value's text in one line of at most `most` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def width_of(text: str) -> float:
    """Estimate the width of a line in a sans-serif font of size 12."""
    return sum(13.0 if unicodedata.east_asian_width(each) in "WF" else 7.6 for each in text)


def _trimmed(text: str) -> str:
    text = f"{float(text):.0f}" if "e" in text else text  # more than its digits
    return text.rstrip("0").rstrip(".") if "." in text else text
