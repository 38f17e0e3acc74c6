"""Encode points of a search space as the feature columns of a surrogate."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from keras_candle.search.history import Floats
from keras_candle.search.space import SearchSpace
from keras_candle.search.subspaces import Subspace


def features_of(space: SearchSpace, units: ArrayLike, box: Subspace | None = None) -> Floats:
    """Encode points as feature columns.

    An ordered dimension is one column. Categories without an order are one column each (0 or 1,
    over the square root of 2, so that two categories are as far apart as the ends of a range). A
    conditional dimension has one more column, 1 where it is active; an inactive coordinate is .5.

    Args:
        space: the search space of the points.
        units: float [n, d].
        box: its lower corner and widths scale the ordered dimensions; None: the unit cube.

    Returns:
        float [n, f], f >= d.
    """
    points = space.canonical(units)
    missing = np.isnan(points)
    measured = points if box is None else (points - box.lower) / (box.upper - box.lower)
    measured = np.where(missing, 0.5, measured)
    columns = []
    for number, each in enumerate(space.dimensions):
        if each.ordered or each.size is None or each.size == 2:
            columns.append(measured[:, number])
        else:
            index = (np.where(missing[:, number], 0.5, points[:, number]) * each.size).astype(int)
            hot = (index[:, None] == np.arange(each.size)) & ~missing[:, number, None]
            columns.extend(hot.T / np.sqrt(2))
        if each.parents:
            columns.append((~missing[:, number]).astype(float))
    return np.stack(columns, axis=1) if columns else np.zeros((len(points), 0))
