"""What a surrogate sees of points."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from keras_candle.search.history import Floats
from keras_candle.search.space import SearchSpace
from keras_candle.search.subspaces import Subspace


def features_of(space: SearchSpace, units: ArrayLike, box: Subspace | None = None) -> Floats:
    """Points as columns of numbers.

    Ordered dimensions are one column, categories without an order one for each (0 or 1, over the
    square root of 2, so that two categories are as far apart as the ends of a range), and a
    conditional dimension has one more that says whether it is active; a coordinate that is not is
    .5.

    Args:
        space: that the points belong to.
        units: float [n, d].
        box: in whose widths ordered dimensions are measured, from its lower corner; None: the cube.

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
