"""`predict`, divided among the ranks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_candle.engine.base import Engine
from keras_candle.errors import DataError
from keras_candle.training.shared_state import stateful_layers


@dataclass(frozen=True)
class _Facts:
    """A rank's facts for the decision how to predict.

    Attributes:
        rows: the number of rows; None where x is not made of arrays and cannot be divided.
        is_built: whether the model has weights.
        keeps_state: whether a batch's predictions depend on the batch before.
    """

    rows: int | None
    is_built: bool
    keeps_state: bool


def predict_together(
    predict: Callable[..., Any],
    given: dict[str, Any],
    model: Any,
    engine: Engine,
    take_root_state: Callable[[], None],
) -> Any:
    """Predict a part of the rows on each rank, and return all predictions on every rank.

    Args:
        predict: Keras's own method.
        given: its arguments, by name; each rank predicts all rows where x is not made of arrays
            on every rank, or a layer is stateful.
        model: the model.
        engine: connects the ranks.
        take_root_state: gives all ranks, whose models are built, the root's weights.

    Returns:
        Arrays of shape [rows, ...], as on one rank.

    Raises:
        DataError: when the ranks' numbers of rows differ.
    """
    facts = engine.gather_results(
        lambda: _Facts(_rows_of(given), model.built, bool(stateful_layers(model))), DataError
    )
    if any(each.rows is None or each.keeps_state for each in facts):
        return predict(**given)
    numbers = [each.rows for each in facts]
    if len(set(numbers)) > 1:
        listed = "\n".join(f"  rank {rank}: {each} rows" for rank, each in enumerate(numbers))
        raise DataError(f"The ranks differ in the data that predict got:\n{listed}")
    if not model.built:
        predict(**{**given, "x": _part(given["x"], slice(0, 1)), "steps": None, "verbose": 0})
    take_root_state()
    rows = numbers[0]
    bounds = np.linspace(0, rows, engine.size + 1).astype(int)
    # A rank without rows predicts one row and drops it.
    start, end = int(bounds[engine.rank]), int(bounds[engine.rank + 1])
    first = min(start, rows - 1)
    part = _part(given["x"], slice(first, max(end, first + 1)))
    own = predict(**{**given, "x": part, "steps": None})
    own = keras.tree.map_structure(lambda out: np.asarray(out)[: end - start], own)
    parts = engine.gather_objects(own)
    return keras.tree.map_structure(lambda *each: np.concatenate(each), *parts)


def _rows_of(given: dict[str, Any]) -> int | None:
    arrays = keras.tree.flatten(given["x"])
    if not all(hasattr(each, "shape") and hasattr(each, "__getitem__") for each in arrays):
        return None
    rows = arrays[0].shape[0] if arrays and len(arrays[0].shape) else None
    if rows and given["steps"]:
        rows = min(rows, given["steps"] * (given["batch_size"] or 32))
    return int(rows) if rows else None


def _part(x: Any, some: slice) -> Any:
    return keras.tree.map_structure(lambda each: _rows(each, some), x)


def _rows(array: Any, some: slice) -> Any:
    return array.iloc[some] if hasattr(array, "iloc") else array[some]
