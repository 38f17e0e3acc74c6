"""Probe rows: synthetic inputs with which a user's loss or metric is examined."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

# Pairs of labels; the later pairs have the labels that losses and metrics ignore most often.
_LABELS = ((0, 1), (-1, 1), (-100, 1), (255, 0))
_UNKNOWN_DIMENSION = 3


class ProbeCall(NamedTuple):
    """Positional and keyword arguments of a call with probe rows."""

    args: Any
    kwargs: Any


def batches(y_true: Any, y_pred: Any, rows: int) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield targets and predictions like those of a step, with several kinds of labels.

    Args:
        y_true: tensor of targets; only shape and dtype are used.
        y_pred: tensor of predictions; only shape and dtype are used.
        rows: the number of rows.
    """
    random = np.random.default_rng(0)
    for labels in _LABELS:
        yield _labels(y_true, labels, rows, random), _guesses(y_pred, rows, random)


def calls_like(args: Any, kwargs: Any, *rows: int) -> Iterator[list[ProbeCall]]:
    """Yield calls with tensors like those of a call, with several kinds of labels.

    Args:
        args: positional arguments. Where there are several, the first is the labels.
        kwargs: keyword arguments; `y_true` is the labels.
        *rows: the number of rows of each call. A tensor without dimensions has no rows.
    """
    random = np.random.default_rng(0)
    for labels in _LABELS:
        yield [_call_like(args, kwargs, number, labels, random) for number in rows]


def _call_like(
    args: Any, kwargs: Any, rows: int, labels: Any, random: np.random.Generator
) -> ProbeCall:
    def like(value: Any, *, is_label: bool) -> Any:
        return keras.tree.map_structure(lambda each: tensor_like(each, is_label=is_label), value)

    def tensor_like(tensor: Any, *, is_label: bool) -> Any:
        if not (hasattr(tensor, "dtype") and hasattr(tensor, "shape")):
            return tensor
        if is_label or not keras.backend.is_float_dtype(_dtype(tensor)):
            return keras.ops.convert_to_tensor(_labels(tensor, labels, rows, random))
        return keras.ops.convert_to_tensor(_guesses(tensor, rows, random))

    several = len(args) > 1
    return ProbeCall(
        [like(each, is_label=several and place == 0) for place, each in enumerate(args)],
        {name: like(each, is_label=name == "y_true") for name, each in kwargs.items()},
    )


def _labels(tensor: Any, labels: Any, rows: int, random: np.random.Generator) -> NDArray[Any]:
    made = random.choice(labels, size=_shape(tensor, rows))
    made.flat[: len(labels)] = labels[: made.size]
    return np.asarray(made).astype(_dtype(tensor))


def _guesses(tensor: Any, rows: int, random: np.random.Generator) -> NDArray[Any]:
    return np.asarray(random.uniform(0.05, 0.95, _shape(tensor, rows))).astype(_dtype(tensor))


def _shape(tensor: Any, rows: int) -> list[int]:
    shape = [_UNKNOWN_DIMENSION if each is None else int(each) for each in tensor.shape]
    return [rows, *shape[1:]] if shape else []


def _dtype(tensor: Any) -> str:
    return str(keras.backend.standardize_dtype(tensor.dtype))
