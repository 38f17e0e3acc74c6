"""`predict` by all ranks together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_candle.engine.base import Engine
from keras_candle.training.agreement import together


def predict_together(predict: Callable[..., Any], given: dict[str, Any], engine: Engine) -> Any:
    """Each rank predicts a part of the rows, and every rank gets all of them.

    Args:
        predict: Keras's own.
        given: its arguments, by name; x that is not made of arrays is predicted by each rank as a
            whole, since nobody knows beforehand where its parts would begin.
        engine: connects the ranks.

    Returns:
        What one rank would return: arrays of shape [rows, ...].

    Raises:
        DataError: when the ranks' numbers of rows differ.
    """
    arrays = keras.tree.flatten(given["x"])
    if not all(hasattr(each, "shape") and hasattr(each, "__getitem__") for each in arrays):
        return predict(**given)
    rows = int(arrays[0].shape[0])
    if given["steps"]:
        batch_size = given["batch_size"] or 32
        rows = min(rows, given["steps"] * batch_size)
    together(lambda: [f"{rows} rows"], engine, "the data that predict got")
    bounds = np.linspace(0, rows, engine.size + 1).astype(int)
    # A rank without rows predicts one, and gives none of it.
    start, end = int(bounds[engine.rank]), int(bounds[engine.rank + 1])
    some = slice(min(start, rows - 1), max(end, min(start, rows - 1) + 1))
    part = keras.tree.map_structure(lambda x: _rows(x, some), given["x"])
    own = predict(**{**given, "x": part, "steps": None})
    own = keras.tree.map_structure(lambda out: np.asarray(out)[: end - start], own)
    parts = engine.gather_objects(own)
    return keras.tree.map_structure(lambda *each: np.concatenate(each), *parts)


def _rows(array: Any, some: slice) -> Any:
    return array.iloc[some] if hasattr(array, "iloc") else array[some]
