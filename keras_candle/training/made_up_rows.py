"""Rows made up to find out what a user's loss or metric does with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

# Labels of two kinds; the first ones are what losses and metrics leave out most often.
_LABELS = ((0, 1), (-1, 1), (-100, 1), (255, 0))
_UNKNOWN_DIMENSION = 3


def batches(y_true: Any, y_pred: Any, rows: int) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Targets and predictions like those of a step, with other values.

    Args:
        y_true: tensor of targets, of which the shape and the dtype count.
        y_pred: tensor of predictions, of which the shape and the dtype count.
        rows: how many.
    """
    random = np.random.default_rng(0)
    for labels in _LABELS:
        shapes = [(rows, *_shape(each)[1:]) for each in (y_true, y_pred)]
        truth = random.choice(labels, size=shapes[0])
        truth.flat[: len(labels)] = labels[: truth.size]
        guess = random.uniform(0.05, 0.95, size=shapes[1])
        yield truth.astype(_dtype(y_true)), guess.astype(_dtype(y_pred))


def _shape(tensor: Any) -> list[int]:
    return [_UNKNOWN_DIMENSION if each is None else int(each) for each in tensor.shape]


def _dtype(tensor: Any) -> str:
    return str(keras.backend.standardize_dtype(tensor.dtype))
