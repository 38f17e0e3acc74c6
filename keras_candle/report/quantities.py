"""Format numbers, durations, sizes and times for people."""

from __future__ import annotations

import itertools
import math
import time

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_DURATIONS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def short(value: float, digits: int = 4) -> str:
    """Format a number with at most `digits` digits.

    Example:
        >>> [short(each) for each in (0.123456, 1234567, 1e-7, 3.0)]
        ['0.1235', '1.235M', '1e-7', '3']
    """
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= 1e15 or 0 < size < 1e-4:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        return f"{_trimmed(mantissa)}e{int(exponent)}"
    for unit, prefix in _PREFIXES:
        if size >= max(unit, 1e4):
            return f"{_trimmed(f'{value / unit:.{digits}g}')}{prefix}"
    return f"{value:.0f}" if size >= 10**digits else _trimmed(f"{value:.{digits}g}")


def exact(value: float) -> str:
    """Format a number for use in a program, without rounding noise.

    Example:
        >>> exact(0.1 + 0.2), exact(25088.0)
        ('0.3', '25088')
    """
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:.7g}"


def duration(seconds: float) -> str:
    """Format a duration.

    Example:
        >>> duration(0.0123), duration(75), duration(7300)
        ('12.3 ms', '1 min 15 s', '2 h 1 min')
    """
    size = abs(seconds)
    if size < 60:
        unit, name = next((each for each in _DURATIONS if size >= each[0]), (1.0, "s"))
        return f"{_trimmed(f'{seconds / unit:.3g}')} {name}"
    rounded = round(seconds)
    for (unit, name), (smaller, smaller_name) in itertools.pairwise(_DURATIONS):
        if rounded >= unit:
            rest = int(rounded % unit // smaller)
            return f"{rounded // unit:.0f} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return f"{rounded} s"


def memory(size_bytes: float) -> str:
    """Format a size in memory.

    Example:
        >>> memory(3.4e8)
        '324 MiB'
    """
    for power, name in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size_bytes >= 1024**power:
            return f"{_trimmed(f'{size_bytes / 1024**power:.3g}')} {name}"
    return f"{size_bytes:.0f} B"


def percent(part: float, digits: int = 0) -> str:
    """Format a part of one as a percentage.

    Example:
        >>> percent(0.62), percent(0.001)
        ('62%', '0.1%')
    """
    value = 100 * part
    if value and abs(value) < 1:
        return f"{_trimmed(f'{value:.1g}')}%"
    return f"{value:.{digits}f}%"


def change(ratio: float) -> str:
    """Format a ratio as a relative change.

    Example:
        >>> change(1.05), change(0.4), change(6.0), change(1.0)
        ('+5%', '-60%', '6 times', 'equal')
    """
    if ratio >= 3:
        return f"{_trimmed(f'{ratio:.3g}')} times"
    difference = 100 * (ratio - 1)
    if abs(difference) < 0.05:
        return "equal"
    digits = 1 if abs(difference) < 10 else 0
    return f"{'+' if difference > 0 else '-'}{_trimmed(f'{abs(difference):.{digits}f}')}%"


def moment(time_s: float) -> str:
    """Format a time in the time zone of the machine that writes the report."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(time_s))
    except (OverflowError, ValueError, OSError):  # out of the calendar's range
        return f"{time_s} s"


def counted(number: int, noun: str) -> str:
    """Format a number with its noun.

    Example:
        >>> counted(1, "epoch"), counted(2, "epoch")
        ('1 epoch', '2 epochs')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _trimmed(text: str) -> str:
    if "e" in text:  # more than its digits
        text = f"{float(text):.0f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
