"""The scales of hyperparameters, and the text of their values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from keras_candle.report.axes import Axis, Categories, fitted
from keras_candle.report.markup import shortened
from keras_candle.report.quantities import exact
from keras_candle.report.reading import number
from keras_candle.report.trials import Parameter

_LONGEST = 40


def scale_of(parameter: Parameter, values: Iterable[Any]) -> Axis | Categories:
    """Return an axis for the values of a hyperparameter.

    Args:
        parameter: the hyperparameter.
        values: its values in the trials.
    """
    given = list(values)
    found = [number(each) for each in given]
    whole = [each for each in found if each is not None]
    if parameter.choices or len(whole) < len(found):
        texts = dict.fromkeys(value_text(each) for each in [*parameter.choices, *given])
        had = {value_text(each) for each in given}
        return Categories(tuple(each for each in texts if each in had), parameter.name)
    return fitted(whole, parameter.name, log=parameter.log)


def place_of(scale: Axis | Categories, value: Any) -> float | str:
    """Return a value in the form that its axis takes."""
    return value_text(value) if isinstance(scale, Categories) else number(value) or 0.0


def value_text(value: Any) -> str:
    """Format a hyperparameter's value in one line."""
    as_number = number(value)
    if as_number is not None:
        return exact(as_number)
    return shortened(value, _LONGEST)
