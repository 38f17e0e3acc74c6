"""Map Keras Tuner's hyperparameters to points of a unit cube, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras_tuner.engine import hyperparameters as kinds

from keras_candle.keras_private.keras_tuner import copy_space, stepped_values
from keras_candle.search.space import COUNTED, Dimension, Floats, SearchSpace

# An Int on a logarithmic scale has cells of many widths. Up to this many values each is a cell of
# its own; with more, neighbours are alike and the scale matters more than the cells: the surrogate
# sees a continuous dimension, in which all points of one value are one trial.
_FEW_VALUES, _MANY_VALUES = 32, 1000
_BELOW_ONE = 1 - 1e-9
# The prefix of the values that Keras Tuner's own Hyperband adds to a trial's.
RESERVED = "tuner/"


@dataclass(frozen=True)
class _Axis:
    """One free hyperparameter: a dimension, and its values where they are counted.

    The values divide the dimension into equal cells, or into those between the edges.
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
        hyperparameters: a `keras_tuner.HyperParameters`; later additions to it are not seen.

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
        """Whether it depends on a fixed hyperparameter whose value never activates it."""
        for condition in hp.conditions:
            number = self._parent(condition.name, hp.conditions)
            if number >= 0 and number not in self._axes:
                parent = self._all[number]
                only = parent.value if isinstance(parent, kinds.Fixed) else parent.default
                if only not in condition.values:
                    return True
        return False

    def _parent(self, name: str, conditions: Sequence[Any]) -> int:
        """The index of the hyperparameter that a condition names; one name may have many scopes."""
        same = [i for i, each in enumerate(self._all) if each.name == name]
        inside = [i for i in same if all(each in conditions for each in self._all[i].conditions)]
        return (inside or same or [-1])[-1]

    def values_of(self, unit: Floats) -> dict[str, Any]:
        """Return the values of the active hyperparameters at a point, as Keras Tuner has them.

        Args:
            unit: float [dimensions]; NaN is allowed where a hyperparameter is not active.

        Returns:
            Name to value, all of them built-in Python types.
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
        """Return the point of a trial.

        Args:
            values: name to value of the active hyperparameters. An active one that is missing was
                found after the trial; its default is used.

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
    """Return a `keras_tuner.HyperParameters` of the same space with new values."""
    return copy_space(hyperparameters, values)


def with_defaults(hyperparameters: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Return the values, with the defaults of active hyperparameters that are missing."""
    whole = dict(values)
    for each in hyperparameters.space:
        if all(condition.is_active(whole) for condition in each.conditions):
            whole.setdefault(each.name, each.default)
    return whole


def _values_of(hp: Any, *, counted: bool) -> Sequence[Any] | None:
    if isinstance(hp, kinds.Fixed):
        return (hp.value,)
    if isinstance(hp, kinds.Boolean | kinds.Choice):
        # A repeated value counts once.
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
    """The borders between the values of an Int on its scale; None: all cells are equal."""
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
    # A number that was rounded in a file, or is from another version of the space: the nearest one.
    return int(np.argmin([abs(float(each) - float(value)) for each in values]))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _title(hp: Any) -> str:
    """Its name, with its conditions if any: one name may have several conditional scopes."""
    if not hp.conditions:
        return str(hp.name)
    under = " and ".join(f"{each.name} in {each.values}" for each in hp.conditions)
    return f"{hp.name} ({under})"
