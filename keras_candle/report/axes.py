"""Axes that map values to positions: linear, logarithmic, time and categories, with ticks."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from keras_candle.report.formats import exact, short, shortened, width_of
from keras_candle.report.reading import number
from keras_candle.report.trials import Parameter

_TIME_UNITS = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
Tick = tuple[float, str]  # its position on an axis, from 0 to 1, and its text
# Smaller values are treated as zero on a logarithmic axis.
_LEAST = 1e-140


@dataclass(frozen=True)
class Axis:
    """An axis of numbers, from `low` at position 0 to `high` at position 1."""

    low: float
    high: float
    log: bool = False
    label: str = ""
    unit: float = 1.0  # of the labels, in the values' unit
    whole: bool = False  # only whole numbers have a tick

    def place(self, value: Any) -> float:
        """Return the position of a value, from 0 to 1; values beyond an end are moved to it."""
        low, high = self.low, self.high
        found = value if type(value) is float else number(value) or 0.0
        if self.log:
            low, high = math.log(low), math.log(high)
            found = math.log(found) if found > 0 else low
        return min(max((found - low) / (high - low), 0.0), 1.0)

    def ticks(self, most: int = 6) -> list[Tick]:
        """Return about `most` ticks at round numbers."""
        if self.log:
            return [(self.place(each), short(each)) for each in self._powers(most)]
        step = _round_step((self.high - self.low) / self.unit / most, self.whole)
        first = math.ceil(self.low / self.unit / step - 1e-9)
        last = math.floor(self.high / self.unit / step + 1e-9)
        values = [place * step for place in range(first, min(last, first + 50) + 1)]
        return [(self.place(each * self.unit), _tick_text(each, step)) for each in values]

    def _powers(self, most: int) -> list[float]:
        low, high = math.log10(self.low), math.log10(self.high)
        found = [10.0**p for p in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)]
        if len(found) >= 3:
            return found[:: math.ceil(len(found) / most)]
        mantissas = (1, 2, 5) if high - low > 0.5 else range(1, 10)
        powers = range(math.floor(low), math.ceil(high) + 1)
        marks = [m * 10.0**power for power in powers for m in mantissas]
        return [each for each in marks if self.low * 0.999 <= each <= self.high * 1.001]


@dataclass(frozen=True)
class Categories:
    """An axis of categories: their texts, in order."""

    values: tuple[str, ...]
    label: str = ""

    def place(self, value: Any) -> float:
        """Return the position of a category, or of a fractional index, from 0 to 1."""
        index = value if isinstance(value, float) else self.values.index(value)
        return (index + 0.5) / len(self.values)

    def ticks(self, most: int = 14) -> list[Tick]:
        """Return a tick for each category, or for every n-th of very many."""
        every = math.ceil(len(self.values) / most)
        return [(self.place(each), each) for each in self.values[::every]]


AnyAxis = Axis | Categories


def fitted(values: Iterable[float], label: str = "", *, log: bool | None = None) -> Axis:
    """Return an axis that fits finite values; logarithmic where positive ones span two decades."""
    found = list(values) or [0.0, 1.0]
    low, high = min(found), max(found)
    if low > 0 and (high / low > 100.0 if log is None else log):
        low, high = max(low, _LEAST), max(high, _LEAST)
        room = (high / low) ** 0.03 if high / low > 1.01 else 1.5
        return Axis(low / room, high * room, True, label)
    size = max(abs(low), abs(high))
    room = 0.04 * (high - low) if high - low > 1e-9 * size else 0.05 * size or 0.5
    # If all values are on one side of zero, the axis doesn't cross it.
    lowest = 0.0 if low >= 0 > low - room else low - room
    return Axis(lowest, high + room, label=label)


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
    """Return values without those far worse than most; the sign is 1 where less is better."""
    costs = sorted(sign * each for each in values) or [0.0]
    low, high = costs[len(costs) // 4], costs[3 * len(costs) // 4]
    few = len(costs) < 8 or high == low
    return [each for each in values if few or sign * each <= high + 2.5 * (high - low)]


def axis_of(parameter: Parameter, values: Iterable[Any]) -> AnyAxis:
    """Return an axis for the values that a hyperparameter has in the trials."""
    given = list(values)
    found = [each for each in map(number, given) if each is not None]
    if not parameter.choices and len(found) == len(given):
        return fitted(found, parameter.name, log=parameter.log)
    texts, had = ([value_text(v) for v in each] for each in ((*parameter.choices, *given), given))
    return Categories(tuple(t for t in dict.fromkeys(texts) if t in had), parameter.name)


def value_text(value: Any) -> str:
    """Format a hyperparameter's value in one line."""
    as_number = number(value)
    return shortened(value, 40) if as_number is None else exact(as_number)


def spaced_ticks(ticks: Sequence[Tick], room: float) -> list[Tick]:
    """Return every n-th tick, so that their texts don't touch on an axis of a length."""
    widest = max((width_of(shortened(text, 12)) + 10 for _, text in ticks), default=0.0)
    gap = min((after - place for (place, _), (after, _) in itertools.pairwise(ticks)), default=1.0)
    return list(ticks[:: max(math.ceil(widest / (gap * room)), 1)])


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
