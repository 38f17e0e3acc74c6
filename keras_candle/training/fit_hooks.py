"""The interface between `fit` and a callback that makes a training resumable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import keras

from keras_candle.data.array_shard import ArrayShard
from keras_candle.data.data_cursor import DataCursor
from keras_candle.data.inexact_order import inexact_orders
from keras_candle.data.input_data import ARRAYS
from keras_candle.data.keras_adapters import ResumableAdapter
from keras_candle.data.sharded_input import held_out_of, training_source
from keras_candle.engine.single import SingleEngine
from keras_candle.errors import DataError
from keras_candle.keras_private.data import input_arrays
from keras_candle.training.stop_consensus import StopConsensus


class ResumableFit(Protocol):
    """One call of `fit` that can be resumed.

    Attributes:
        start: the data cursor to resume from; None for a new training.
    """

    start: DataCursor | None

    def install_callbacks(self, given: dict[str, Any], stop: StopConsensus | None) -> None:
        """Replace the callbacks in the arguments of `fit` by its own CallbackList.

        Args:
            given: the arguments; x is a data adapter.
            stop: the ranks' consensus on stopping; None for a model that is not scaled.
        """


@runtime_checkable
class FitHook(Protocol):
    """A callback that wraps the call of `fit`."""

    def run_fit(
        self, model: Any, given: dict[str, Any], fit: Callable[[dict[str, Any], ResumableFit], Any]
    ) -> Any:
        """Call fit(given, resumable), unless nothing is left to train.

        Args:
            model: the model.
            given: the arguments of its `fit`, by name.
            fit: trains.

        Returns:
            The value that `fit` returns.
        """


def find_fit_hook(callbacks: Any) -> FitHook | None:
    """Return the first `FitHook` among the callbacks given to `fit`, or None."""
    kept = getattr(callbacks, "callbacks", None)
    if kept is None:
        kept = keras.tree.flatten(callbacks) if callbacks else []
    return next((each for each in kept if isinstance(each, FitHook)), None)


def make_data_resumable(given: dict[str, Any], start: DataCursor | None) -> None:
    """Replace the data in the arguments of one rank's `fit` by a resumable adapter.

    Args:
        given: the arguments of `fit`.
        start: the data cursor to resume from; None for a new training.
    """
    data, held_out = held_out_of(given)
    source = training_source(given, data, start)
    adapter: Any = None
    if source.kind == ARRAYS:
        adapter = source.keras_adapter
        adapter = ArrayShard(
            input_arrays(adapter), adapter.batch_size, source.shuffle, SingleEngine(), start=start
        )
        try:
            adapter.get_tf_dataset()
        except DataError:  # sparse arrays
            adapter = None
    adapter = adapter or ResumableAdapter(source.keras_adapter, start, source.x)
    adapter.doubts = inexact_orders(source, adapter)
    given.update(
        x=adapter,
        y=None,
        sample_weight=None,
        class_weight=None,
        batch_size=None,
        shuffle=False,
        validation_split=0.0,
        validation_data=held_out,
        validation_batch_size=given["validation_batch_size"] or given["batch_size"],
    )
