"""The search space: dimensions of the unit cube, some of them counted, some conditional."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_candle.errors import SearchError

if TYPE_CHECKING:
    from keras_candle.search.subspaces import Subspace

Floats = NDArray[np.float64]
# Finite spaces up to this many points are counted, and listed when few untried points remain.
COUNTED = 1_000_000


@dataclass(frozen=True)
class Dimension:
    """One hyperparameter on the scale of its prior.

    Attributes:
        name: for people.
        size: the number of values; value i is at (i + .5) / size. None: continuous.
        edges: float [values + 1], ascending from 0 to 1, for values that are too many and of too
            different widths to be counted: the dimension is searched as a continuous one, in which
            value i is the range from edge i to edge i + 1.
        ordered: False for categories without an order.
        parents: (index of an earlier dimension, indices of its values) for each condition: the
            dimension is active only where all parents are active and have one of these values.
    """

    name: str
    size: int | None = None
    ordered: bool = True
    parents: tuple[tuple[int, frozenset[int]], ...] = ()
    edges: Floats | None = field(default=None, compare=False, repr=False)

    def middles(self) -> Floats | None:
        """Return float [values], the position of each value; None if continuous."""
        if self.size is not None:
            return np.asarray((np.arange(self.size) + 0.5) / self.size)
        return None if self.edges is None else np.asarray(self.edges[:-1] + self.edges[1:]) / 2


class SearchSpace:
    """A search space: dimensions, and operations on points of their unit cube.

    A point is a float [dimensions] row. It is canonical when the coordinates of dimensions with a
    size are in the middle of their value's cell, and inactive ones are NaN.

    Args:
        dimensions: parents before their children.

    Raises:
        SearchError: when a dimension has no value, or a parent that isn't an earlier counted one.

    Example:
        >>> space = SearchSpace([Dimension("rate"), Dimension("layers", size=4)])
        >>> space.canonical([[0.3, 0.3]]).tolist()
        [[0.3, 0.375]]
    """

    def __init__(self, dimensions: Sequence[Dimension]) -> None:
        self.dimensions = tuple(dimensions)
        for number, each in enumerate(self.dimensions):
            _check(number, each, self.dimensions)
        self._sizes = np.array([each.size or 0 for each in self.dimensions])
        self._counted = self._sizes > 0
        self._conditional = any(each.parents for each in self.dimensions)

    def __len__(self) -> int:
        return len(self.dimensions)

    def values(self, units: ArrayLike) -> NDArray[np.int64]:
        """Return int [n, d], the value index of each counted coordinate; else, and for NaN, 0."""
        points = np.nan_to_num(self._table(units))
        cells = np.clip(points * self._sizes, 0, np.maximum(self._sizes - 1, 0))
        return np.asarray(cells, np.int64)

    def active(self, units: ArrayLike) -> NDArray[np.bool_]:
        """Return bool [n, d], which coordinates are active, given the values of their parents."""
        points = self._table(units)
        result = np.ones(points.shape, bool)
        if not self._conditional:
            return result
        values = self.values(points)
        for number, each in enumerate(self.dimensions):
            for parent, allowed in each.parents:
                result[:, number] &= result[:, parent]
                result[:, number] &= np.isin(values[:, parent], list(allowed))
        return result

    def canonical(self, units: ArrayLike) -> Floats:
        """Return the canonical points of the same trials.

        Args:
            units: float [n, d]. An active coordinate that is NaN becomes 0.5.

        Returns:
            float [n, d].
        """
        points = self._table(units)
        active = self.active(points)
        points = np.clip(np.where(np.isnan(points), 0.5, points), 0.0, 1.0)
        if self._counted.any():
            middle = (self.values(points) + 0.5) / np.maximum(self._sizes, 1)
            points = np.where(self._counted, middle, points)
        return np.where(active, points, np.nan)

    def sample(
        self, count: int, rng: np.random.Generator, subspace: Subspace | None = None
    ) -> Floats:
        """Draw canonical points that fill the space, or a subspace, evenly (scrambled Sobol).

        Args:
            count: the number of points.
            rng: the generator of the scrambling.
            subspace: the subspace to fill; None: the whole space.

        Returns:
            float [count, d]; points may repeat where the space is finite.
        """
        from scipy.stats import qmc

        if not len(self) or count < 1:
            return np.zeros((max(count, 0), len(self)))
        power = int(np.ceil(np.log2(count)))
        points = qmc.Sobol(len(self), scramble=True, seed=rng).random_base2(power)[:count]
        return self.canonical(points if subspace is None else subspace.scale(points))

    @cached_property
    def count(self) -> int | None:
        """The number of distinct trials; None when it is more than a million."""
        total = 1
        for component in self._components():
            rows = self._list(component)
            total *= COUNTED + 1 if rows is None else len(rows)
            if total > COUNTED:
                return None
        return total

    def all_points(self) -> Floats:
        """Return float [count, d], each point of a finite space once.

        Raises:
            SearchError: when `count` is None.
        """
        rows = None if self.count is None else self._list(list(range(len(self))))
        if rows is None:
            raise SearchError(
                f"The space has more than {COUNTED} points, or infinitely many, so they cannot be "
                "listed. Sample it."
            )
        return rows

    def key(self, unit: ArrayLike) -> bytes:
        """Return a key that is equal for points of the same trial."""
        return self.keys(np.asarray(unit, np.float64)[None])[0]

    def keys(self, units: ArrayLike) -> list[bytes]:
        """Return the `key` of each row."""
        points = self.canonical(units)
        for number, each in enumerate(self.dimensions):
            if each.edges is not None:
                cells = np.searchsorted(each.edges[1:-1], points[:, number], side="right")
                points[:, number] = np.where(np.isnan(points[:, number]), np.nan, cells)
        rounded = np.nan_to_num(points, nan=-1.0).round(12)
        return [row.tobytes() for row in rounded]

    def _table(self, units: ArrayLike) -> Floats:
        points = np.asarray(units, np.float64)
        if points.ndim != 2 or points.shape[1] != len(self):
            raise SearchError(
                f"The points have shape {points.shape}, expected [points, {len(self)}]: one "
                "column for each dimension of the space."
            )
        return points

    def _components(self) -> list[list[int]]:
        """The groups of dimensions that are connected by conditions, directly or not."""
        label = list(range(len(self)))
        for number, each in enumerate(self.dimensions):
            for parent, _ in each.parents:
                old, new = label[number], label[parent]
                label = [new if one == old else one for one in label]
        return [[i for i, one in enumerate(label) if one == name] for name in sorted(set(label))]

    def _list(self, numbers: list[int]) -> Floats | None:
        """All points of some dimensions, the rest held fixed; None where they are too many."""
        rows = np.full((1, len(self)), np.nan)
        fixed = [i for i in range(len(self)) if i not in numbers]
        rows[:, fixed] = 0.5 / np.maximum(self._sizes[fixed], 1)
        for number in numbers:
            active = self.active(rows)[:, number]
            if not active.any():
                continue
            middles = self.dimensions[number].middles()
            if middles is None or active.sum() * len(middles) > COUNTED:
                return None
            grown = np.repeat(rows[active], len(middles), axis=0)
            grown[:, number] = np.tile(middles, int(active.sum()))
            rows = np.concatenate([rows[~active], grown])
        return rows


def _check(number: int, each: Dimension, dimensions: tuple[Dimension, ...]) -> None:
    if each.size is not None and each.size < 1:
        raise SearchError(
            f"The dimension {each.name!r} has {each.size} values, expected at least one (or None "
            "for a continuous one)."
        )
    for parent, _ in each.parents:
        if not 0 <= parent < number or dimensions[parent].size is None:
            raise SearchError(
                f"The dimension {each.name!r} (number {number}) has dimension {parent} as a "
                "parent; a parent must come before it and have counted values."
            )
