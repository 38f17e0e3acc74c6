"""Combine the ranks' arrays: sums, means, extremes, or the root's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_candle.engine.base import Engine
from keras_candle.errors import CandleError

REDUCTIONS = ("sum", "mean", "min", "max", "root")


def check_reductions(function: str, reductions: Mapping[str, str]) -> dict[str, str]:
    """Return the reductions of a registration as a dict, if all are valid.

    Args:
        function: the name of the public function that got them.
        reductions: from names of variables to reductions.

    Raises:
        CandleError: when one is unknown.
    """
    for name, reduction in reductions.items():
        if reduction not in REDUCTIONS:
            raise CandleError(
                f"{function} got {reduction!r} for the variable {name!r}, expected "
                f"one of {', '.join(map(repr, REDUCTIONS))}."
            )
    return dict(reductions)


def reduce_arrays(
    arrays: Sequence[NDArray[Any]], reductions: Sequence[str], engine: Engine
) -> list[NDArray[Any]]:
    """Combine arrays over the ranks, with one collective for each kind of reduction.

    Args:
        arrays: this rank's arrays.
        reductions: the reduction of each array, the same on all ranks.
        engine: connects the ranks.

    Returns:
        Arrays of the same shapes and dtypes.
    """
    whole = list(arrays)
    for reduction in REDUCTIONS:
        some = [i for i, each in enumerate(reductions) if each == reduction]
        if not some:
            continue
        flat = np.concatenate([np.ravel(arrays[i]).astype(np.float64) for i in some])
        flat = engine.broadcast(flat) if reduction == "root" else engine.allreduce(flat, reduction)
        start = 0
        for i in some:
            part = flat[start : start + arrays[i].size].reshape(arrays[i].shape)
            whole[i] = part.astype(arrays[i].dtype)
            start += arrays[i].size
    return whole


def combine_arrays(of_ranks: Sequence[NDArray[Any]], reduction: str) -> NDArray[Any]:
    """Combine the values of one array on several ranks, without an engine.

    Example:
        >>> combine_arrays([np.array(1), np.array(2)], "sum")
        array(3)
    """
    if reduction == "root":
        return np.asarray(of_ranks[0])
    combine: dict[str, Any] = {"sum": np.sum, "mean": np.mean, "min": np.min, "max": np.max}
    stacked = np.stack([np.asarray(each, np.float64) for each in of_ranks])
    return np.asarray(combine[reduction](stacked, axis=0)).astype(np.asarray(of_ranks[0]).dtype)
