"""Keras Tuner's hyperparameters as a unit cube, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras_tuner.engine import hyperparameters as kinds

from keras_candle.keras_private.keras_tuner import copy_space, stepped_values
from keras_candle.search.history import Floats
from keras_candle.search.space import COUNTED, Dimension, SearchSpace

# An Int on a logarithmic scale has cells of many widths. Up to so many values each is a cell of its
# own; with more, neighbours are alike and the scale matters more than the cells: the surrogate sees
# a continuous dimension, of which all that means one value is one trial.
_FEW_VALUES, _MANY_VALUES = 32, 1000
_BELOW_ONE = 1 - 1e-9
# What Keras Tuner's own Hyperband writes among the values of a trial.
RESERVED = "tuner/"
# The trial whose weights one begins with.
INHERITS = "tuner/inherits"


@dataclass(frozen=True)
class _Axis:
    """One free hyperparameter: a dimension, and its values where they are counted.

    The values have equal parts of the dimension, or those between the edges.
    """

    hyperparameter: Any
    values: Sequence[Any] | None
    edges: Floats | None = None

    def unit_of(self, value: Any) -> float:
        if self.values is None:
            return min(max(float(self.hyperparameter.value_to_prob(value)), 0.0), _BELOW_ONE)
        index = _index_of(value, self.values)
        if self.edges is not None:
            return float(self.edges[index] + self.edges[index + 1]) / 2
        return (index + 0.5) / len(self.values)

    def value_of(self, unit: float) -> Any:
        if self.values is None:
            # Keras Tuner's own Int gives max_value + 1 at 1.
            return self.hyperparameter.prob_to_value(min(max(unit, 0.0), _BELOW_ONE))
        if self.edges is not None:
            return self.values[int(np.searchsorted(self.edges[1:-1], unit, side="right"))]
        return self.values[min(int(unit * len(self.values)), len(self.values) - 1)]


class UnitCube:
    """The free hyperparameters of a search, each a dimension from 0 to 1 on the scale of its prior.

    Args:
        hyperparameters: a `keras_tuner.HyperParameters`, of which what is known now is taken.

    Attributes:
        space: the `SearchSpace` of the dimensions, in the order in which they were made.
    """

    def __init__(self, hyperparameters: Any) -> None:
        self._all = [each for each in hyperparameters.space if not each.name.startswith(RESERVED)]
        parents = {each.name for hp in self._all for each in hp.conditions}
        self._axes: dict[int, _Axis] = {}
        self._places: dict[int, int] = {}
        dimensions: list[Dimension] = []
        for number, hp in enumerate(self._all):
            values = _values_of(hp, counted=hp.name in parents)
            if (values is not None and len(values) < 2) or self._is_never_active(hp):
                continue
            edges = None if values is None else _edges_of(hp, values, counted=hp.name in parents)
            self._axes[number] = _Axis(hp, values, edges)
            self._places[number] = len(dimensions)
            ordered = not isinstance(hp, kinds.Boolean) and getattr(hp, "ordered", True)
            size = None if values is None or edges is not None else len(values)
            dimensions.append(Dimension(_title(hp), size, ordered, self._parents_of(hp), edges))
        self.space = SearchSpace(dimensions)

    def _parents_of(self, hp: Any) -> tuple[tuple[int, frozenset[int]], ...]:
        found = []
        for condition in hp.conditions:
            number = self._parent(condition.name, hp.conditions)
            axis = self._axes.get(number)
            if axis is not None and axis.values is not None:
                active = {i for i, value in enumerate(axis.values) if value in condition.values}
                found.append((self._places[number], frozenset(active)))
        return tuple(found)

    def _is_never_active(self, hp: Any) -> bool:
        """Whether it hangs on a hyperparameter that has one value only, which is another one."""
        for condition in hp.conditions:
            number = self._parent(condition.name, hp.conditions)
            if number >= 0 and number not in self._axes:
                parent = self._all[number]
                only = parent.value if isinstance(parent, kinds.Fixed) else parent.default
                if only not in condition.values:
                    return True
        return False

    def _parent(self, name: str, conditions: Sequence[Any]) -> int:
        """Which hyperparameter of a name a condition means: one name may stand under several."""
        same = [i for i, each in enumerate(self._all) if each.name == name]
        inside = [i for i in same if all(each in conditions for each in self._all[i].conditions)]
        return (inside or same or [-1])[-1]

    def values_of(self, unit: Floats) -> dict[str, Any]:
        """What Keras Tuner calls the values of a trial: of active hyperparameters only.

        Args:
            unit: float [dimensions]; what is not active may be NaN.

        Returns:
            Name to value, all of them Python's own types.
        """
        values: dict[str, Any] = {}
        for number, hp in enumerate(self._all):
            if not all(condition.is_active(values) for condition in hp.conditions):
                continue
            axis = self._axes.get(number)
            if axis is None:
                values[hp.name] = hp.value if isinstance(hp, kinds.Fixed) else hp.default
                continue
            place = unit[self._places[number]]
            values[hp.name] = (
                hp.default if math.isnan(place) else _plain(axis.value_of(float(place)))
            )
        return values

    def unit_of(self, values: dict[str, Any]) -> Floats:
        """The point of a trial.

        Args:
            values: name to value of the active hyperparameters. One that is active and missing
                was found after the trial: it had its default.

        Returns:
            float [dimensions], NaN where a hyperparameter is not active.
        """
        unit = np.full(len(self._axes), np.nan)
        known = dict(values)
        for number, hp in enumerate(self._all):
            if not all(condition.is_active(known) for condition in hp.conditions):
                continue
            known.setdefault(hp.name, hp.default)
            axis = self._axes.get(number)
            if axis is not None:
                unit[self._places[number]] = axis.unit_of(known[hp.name])
        return unit


def with_values(hyperparameters: Any, values: dict[str, Any]) -> Any:
    """A `keras_tuner.HyperParameters` of the same space that holds other values."""
    return copy_space(hyperparameters, values)


def with_defaults(hyperparameters: Any, values: dict[str, Any]) -> dict[str, Any]:
    """The values, and the default of what is active and was found after they were proposed."""
    whole = dict(values)
    for each in hyperparameters.space:
        if all(condition.is_active(whole) for condition in each.conditions):
            whole.setdefault(each.name, each.default)
    return whole


def _values_of(hp: Any, *, counted: bool) -> Sequence[Any] | None:
    if isinstance(hp, kinds.Fixed):
        return (hp.value,)
    if isinstance(hp, kinds.Boolean | kinds.Choice):
        # A value that is named twice is one.
        return (False, True) if isinstance(hp, kinds.Boolean) else tuple(dict.fromkeys(hp.values))
    if hp.min_value == hp.max_value:
        return (hp.default,)
    if hp.step is not None:
        number = int if isinstance(hp, kinds.Int) else float
        return tuple(map(number, stepped_values(hp)))
    if isinstance(hp, kinds.Int):
        values = range(hp.min_value, hp.max_value + 1)
        if counted or len(values) <= (_MANY_VALUES if hp.sampling == "linear" else COUNTED):
            return values
    return None


def _edges_of(hp: Any, values: Sequence[Any], *, counted: bool) -> Floats | None:
    """Where on its scale each value of an Int ends and the next begins; None: all are alike."""
    if counted or not isinstance(values, range) or hp.sampling == "linear":
        return None
    if len(values) <= _FEW_VALUES:
        return None
    low, above = hp.min_value, hp.max_value + 1  # as Keras Tuner's own Int
    numbers = np.arange(low, above + 1, dtype=float)
    edges: Floats
    if hp.sampling == "log":
        edges = np.log(numbers / low) / np.log(above / low)
    else:
        edges = 1 - np.log((above + low - numbers) / low) / np.log(above / low)
    edges[[0, -1]] = 0.0, 1.0
    return edges


def _index_of(value: Any, values: Sequence[Any]) -> int:
    if value in values:
        return values.index(value)
    # A number that went through a file or another version of the space: the nearest one.
    return int(np.argmin([abs(float(each) - float(value)) for each in values]))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _title(hp: Any) -> str:
    """Its name, with the conditions where there are some: a name may stand under several."""
    if not hp.conditions:
        return str(hp.name)
    under = " and ".join(f"{each.name} in {each.values}" for each in hp.conditions)
    return f"{hp.name} ({under})"
