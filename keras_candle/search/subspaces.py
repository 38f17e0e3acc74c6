"""Cut a search space into overlapping boxes (HyperSpace: Young et al., JPDC 2020)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_candle.errors import SearchError
from keras_candle.search.space import Floats, SearchSpace

_BELOW_ONE = 1 - 1e-12
Values = tuple[int, ...]


@dataclass(frozen=True)
class Subspace:
    """A box of the unit cube.

    Attributes:
        index: its index in the result of `decompose`.
        lower: float [d], the lower corner.
        upper: float [d], the upper corner; for counted dimensions both are borders of cells.
        allowed: for each dimension that is a category without an order, its allowed values; None
            for each other dimension.
        sizes: the number of values of each dimension, 0 for continuous ones.
    """

    index: int
    lower: Floats
    upper: Floats
    allowed: tuple[Values | None, ...]
    sizes: tuple[int, ...]

    def contains(self, units: ArrayLike) -> NDArray[np.bool_]:
        """Return bool [n], which points are inside; inactive coordinates don't matter.

        Args:
            units: float [n, d].
        """
        points = np.asarray(units, np.float64)
        inside = (points >= self.lower) & (points <= self.upper)
        for number, values in enumerate(self.allowed):
            if values is not None:
                cells = np.floor(np.nan_to_num(points[:, number]) * self.sizes[number])
                inside[:, number] = np.isin(cells, values)
        return np.asarray((inside | np.isnan(points)).all(axis=1))

    def scale(self, points: Floats) -> Floats:
        """Map points of the unit cube, float [n, d], into the box."""
        # Stay below the upper border, which for a counted dimension belongs to the next cell.
        scaled = self.lower + points * (self.upper - self.lower) * _BELOW_ONE
        for number, values in enumerate(self.allowed):
            if values is not None:
                place = (points[:, number] * _BELOW_ONE * len(values)).astype(int)
                scaled[:, number] = (np.array(values)[place] + 0.5) / self.sizes[number]
        return scaled

    def values(self, number: int) -> Values:
        """Return the indices of a counted dimension's values in the box."""
        known = self.allowed[number]
        if known is not None:
            return known
        size = self.sizes[number]
        first, last = round(self.lower[number] * size), round(self.upper[number] * size)
        return tuple(range(first, last))

    def widths(self) -> Floats:
        """Return float [d], the part of each dimension that the box covers."""
        widths = self.upper - self.lower
        for number, values in enumerate(self.allowed):
            if values is not None:
                widths[number] = len(values) / self.sizes[number]
        return widths


def whole_space(space: SearchSpace) -> Subspace:
    """Return the whole space as a subspace."""
    allowed = tuple(
        None if each.ordered or each.size is None else tuple(range(each.size))
        for each in space.dimensions
    )
    sizes = tuple(each.size or 0 for each in space.dimensions)
    return Subspace(0, np.zeros(len(space)), np.ones(len(space)), allowed, sizes)


def decompose(
    space: SearchSpace,
    count: int,
    overlap: float = 0.25,
    importance: ArrayLike | None = None,
    seed: int = 0,
) -> tuple[Subspace, ...]:
    """Cut the space into overlapping boxes that together cover it.

    Each cut halves a box (or parts it 2 to 1, for 3 boxes) along the dimension whose width, times
    its importance, is largest; so the important ones are cut first, and more often. A conditional
    dimension is cut only inside boxes where it is certainly active. On a finite space with fewer
    points than boxes some boxes are equal.

    Args:
        space: the space to cut, on the scale of the priors: a logarithmic one is halved in decades.
        count: the number of boxes.
        overlap: the part of a box that both its halves share, from 0 up to, not including, 1.
        importance: float [d], not negative; None: all equal.
        seed: of the order in which categories without an order are divided.

    Returns:
        `count` subspaces, the same for the same arguments.

    Raises:
        SearchError: when an argument is out of range.

    Example:
        >>> from keras_candle.search.space import Dimension
        >>> space = SearchSpace([Dimension("rate")])
        >>> [(float(box.lower[0]), float(box.upper[0])) for box in decompose(space, 2)]
        [(0.0, 0.625), (0.375, 1.0)]
    """
    if count < 1 or not 0 <= overlap < 1:
        raise SearchError(
            f"decompose got count={count} and overlap={overlap}, expected at least one subspace "
            "and an overlap from 0 up to, not including, 1."
        )
    weights = np.ones(len(space)) if importance is None else np.asarray(importance, np.float64)
    if weights.shape != (len(space),) or not (weights >= 0).all():
        raise SearchError(
            f"decompose got the importance {weights.tolist()}, expected one number for each of "
            f"the {len(space)} dimensions, none of them negative."
        )
    boxes = _boxes(space, count, overlap, weights, seed)
    same = {(*box.lower, *box.upper, box.allowed) for box in boxes}
    if len(same) < count:
        # The overlap made two boxes equal; without an overlap they cannot be.
        boxes = _boxes(space, count, 0.0, weights, seed)
    return tuple(replace(box, index=index) for index, box in enumerate(boxes))


def _boxes(
    space: SearchSpace, count: int, overlap: float, weights: Floats, seed: int
) -> list[Subspace]:
    boxes = [(whole_space(space), count)]
    done: list[Subspace] = []
    while boxes:
        box, number = boxes.pop(0)
        if number == 1:
            done.append(box)
            continue
        more = (number + 1) // 2
        parts = cut(space, box, overlap, weights, seed, more / number) or (box, box)
        # Values can't always be halved: the larger part gets more boxes.
        left, right = (float(part.widths().prod()) for part in parts)
        more = min(max(round(number * left / (left + right)), 1), number - 1)
        boxes += [(parts[0], more), (parts[1], number - more)]
    return done


def cut(
    space: SearchSpace,
    box: Subspace,
    overlap: float,
    importance: Floats,
    seed: int = 0,
    share: float = 0.5,
) -> tuple[Subspace, Subspace] | None:
    """Cut a box into two overlapping parts.

    Args:
        space: the search space of the box.
        box: the box to cut.
        overlap: the part of the box that both share.
        importance: float [d], as for `decompose`.
        seed: of the order in which categories without an order are divided.
        share: the middle of the overlap, as a part of the box.

    Returns:
        Both parts, with the index of the box; None where no dimension can be cut.
    """
    weights = np.where(_divisible(space, box), (importance + 1e-9) * box.widths(), -1.0)
    if not len(weights) or weights.max() < 0:
        return None
    # Widths that differ only by rounding are equal: the first of them is cut.
    number = int(np.argmax(weights >= weights.max() * (1 - 1e-9)))
    if box.sizes[number]:
        return _cut_values(box, number, overlap, share, seed)
    width = box.upper[number] - box.lower[number]
    part = min(overlap, 2 * min(share, 1 - share)) / 2
    left, right = box.upper.copy(), box.lower.copy()
    left[number] = box.lower[number] + (share + part) * width
    right[number] = box.lower[number] + (share - part) * width
    return replace(box, upper=left), replace(box, lower=right)


def _divisible(space: SearchSpace, box: Subspace) -> NDArray[np.bool_]:
    result = np.ones(len(space), bool)
    certain = np.ones(len(space), bool)
    for number, each in enumerate(space.dimensions):
        for parent, active in each.parents:
            certain[number] &= certain[parent] and set(box.values(parent)) <= active
        result[number] = each.size is None or len(box.values(number)) > 1
    return result & certain


def _cut_values(
    box: Subspace, number: int, overlap: float, share: float, seed: int
) -> tuple[Subspace, Subspace]:
    values = list(box.values(number))
    allowed = box.allowed[number]
    if allowed is not None:
        np.random.default_rng([seed, number]).shuffle(values)
    count = len(values)
    middle = min(max(round(share * count), 1), count - 1)
    shared = round(overlap * count)
    # Both parts stay smaller than the box.
    first = min(middle + (shared + 1) // 2, count - 1)
    second = max(middle - shared // 2, 1)
    left, right = values[:first], values[second:]
    if allowed is None:
        size = box.sizes[number]
        upper, lower = box.upper.copy(), box.lower.copy()
        upper[number], lower[number] = (left[-1] + 1) / size, right[0] / size
        return replace(box, upper=upper), replace(box, lower=lower)
    return _with(box, number, left), _with(box, number, right)


def _with(box: Subspace, number: int, values: list[int]) -> Subspace:
    allowed = list(box.allowed)
    allowed[number] = tuple(sorted(values))
    return replace(box, allowed=tuple(allowed))
