"""Axes that map values to positions: linear, logarithmic, time and categories, with ticks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from keras_candle.report.quantities import short

_TIME_UNITS = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# Values that span more than this are clearer on a logarithmic axis.
_WIDE = 100.0
# Smaller values are treated as zero on a logarithmic axis.
_LEAST = 1e-140


@dataclass(frozen=True)
class Tick:
    """A tick of an axis: its position, from 0 to 1, and its text."""

    place: float
    text: str


@dataclass(frozen=True)
class Axis:
    """An axis of numbers.

    Attributes:
        low: the value at position 0.
        high: the value at position 1.
        log: whether the axis is logarithmic.
        label: the name of the axis.
        unit: the size of the labels' unit in the values' unit.
        whole: whether only whole numbers have a tick.
    """

    low: float
    high: float
    log: bool = False
    label: str = ""
    unit: float = 1.0
    whole: bool = False

    def place(self, value: float) -> float:
        """Return the position of a value, from 0 to 1; values beyond an end are moved to it."""
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            value = math.log(value) if value > 0 else low
        else:
            low, high = self.low, self.high
        return min(max((value - low) / (high - low), 0.0), 1.0)

    def ticks(self, most: int = 6) -> list[Tick]:
        """Return about `most` ticks at round numbers."""
        if self.log:
            return [Tick(self.place(each), _power(each)) for each in self._powers(most)]
        step = _round_step((self.high - self.low) / self.unit / most, self.whole)
        first = math.ceil(self.low / self.unit / step - 1e-9)
        last = math.floor(self.high / self.unit / step + 1e-9)
        values = [number * step for number in range(first, min(last, first + 50) + 1)]
        return [Tick(self.place(each * self.unit), _tick_text(each, step)) for each in values]

    def _powers(self, most: int) -> list[float]:
        low, high = math.log10(self.low), math.log10(self.high)
        decades = range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)
        found = [10.0**power for power in decades]
        if len(found) > most:
            return found[:: math.ceil(len(found) / most)]
        if len(found) < 3:
            around = range(math.floor(low), math.ceil(high) + 1)
            mantissas = (1, 2, 5) if high - low > 0.5 else range(1, 10)
            marks = [m * 10.0**power for power in around for m in mantissas]
            found = [each for each in marks if self.low * 0.999 <= each <= self.high * 1.001]
        return found


def fitted(values: Iterable[float], label: str = "", *, log: bool | None = None) -> Axis:
    """Return an axis that fits values.

    Args:
        values: the values to show; finite.
        label: the name of the axis.
        log: whether it is logarithmic; by default where positive values span two decades.
    """
    found = sorted(values)
    if not found:
        return Axis(0.0, 1.0, label=label)
    low, high = found[0], found[-1]
    log = low > 0 and high / low > _WIDE if log is None else log and low > 0
    if log:
        low, high = max(low, _LEAST), max(high, _LEAST)
        if high / low < 1.01:
            low, high = low / 1.5, high * 1.5
        room = (high / low) ** 0.03
        return Axis(low / room, high * room, True, label)
    size = max(abs(low), abs(high))
    room = 0.04 * (high - low) if high - low > 1e-9 * size else 0.05 * size or 0.5
    # If all values are on one side of zero, the axis doesn't cross it.
    lowest = 0.0 if low >= 0 > low - room else low - room
    return Axis(lowest, high + room, label=label)


def from_zero(values: Iterable[float], label: str = "") -> Axis:
    """Return a linear axis from 0 for values that are not negative."""
    return Axis(0.0, 1.05 * max(values, default=0.0) or 1.0, label=label)


def of_time(seconds: Iterable[float], label: str = "time") -> Axis:
    """Return a time axis from 0 to the largest of some times, in a unit that fits it."""
    high = max(seconds, default=0.0) or 1.0
    unit, name = next((each for each in _TIME_UNITS if high >= 1.5 * each[0]), (1.0, "seconds"))
    return Axis(0.0, high * 1.01, label=f"{label} ({name})", unit=unit)


def counting(last: int, label: str, first: int = 1) -> Axis:
    """Return an axis of whole numbers."""
    room = 0.02 * max(last - first, 1)
    return Axis(first - room, max(last, first + 1) + room, label=label, whole=True)


def without_outliers(values: Sequence[float], sign: int) -> list[float]:
    """Return the values without those that are far worse than most.

    A single outlier would compress the axis for the rest.

    Args:
        values: finite.
        sign: 1 where less is better, -1 where more is.
    """
    if len(values) < 8:
        return list(values)
    costs = sorted(sign * each for each in values)
    low, high = costs[len(costs) // 4], costs[3 * len(costs) // 4]
    fence = high + 2.5 * (high - low)
    return [each for each in values if sign * each <= fence] if high > low else list(values)


@dataclass(frozen=True)
class Categories:
    """An axis of categories.

    Attributes:
        values: their texts, in order.
        label: the name of the axis.
    """

    values: tuple[str, ...]
    label: str = ""

    def place(self, value: str | float) -> float:
        """Return the position of a value, or of a fractional index, from 0 to 1."""
        number = self.values.index(value) if isinstance(value, str) else value
        return (number + 0.5) / len(self.values)

    def ticks(self) -> list[Tick]:
        """Return a tick for each value, or for some of very many."""
        every = math.ceil(len(self.values) / 14)
        chosen = itertools.islice(self.values, 0, None, every)
        return [Tick(self.place(each), each) for each in chosen]


def _round_step(least: float, whole: bool) -> float:
    power = 10.0 ** math.floor(math.log10(least)) if least > 0 else 1.0
    step = next((m * power for m in (1, 2, 5, 10) if m * power >= least * 0.999), 10 * power)
    return max(1.0, step) if whole else step


def _tick_text(value: float, step: float) -> str:
    """A tick's text with the digits that distinguish it from its neighbours."""
    if value == 0:
        return "0"
    last = math.floor(math.log10(step) + 1e-9)
    if last >= -6 and abs(value) < 1e4:
        return f"{value:.{max(0, -last)}f}"
    return short(value, max(math.floor(math.log10(abs(value)) + 1e-9) - last + 1, 1))


def _power(value: float) -> str:
    exponent = math.floor(math.log10(value) + 1e-9)
    if -3 <= exponent <= 3:
        return f"{value:.{max(0, -exponent)}f}"
    mantissa = round(value / 10.0**exponent)
    power = f"10{str(exponent).translate(_SUPERSCRIPTS)}"
    return power if mantissa == 1 else f"{mantissa}·{power}"
