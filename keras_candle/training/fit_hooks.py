"""Where a training that is made durable differs from another: what `fit` asks of its callback."""

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


class Durable(Protocol):
    """One training.

    Attributes:
        start: where it goes on in its data; None where it begins.
    """

    start: DataCursor | None

    def arrange(self, given: dict[str, Any], stop: StopConsensus | None) -> None:
        """Put a CallbackList of its own into the arguments of `fit`, whose data are an adapter.

        Args:
            given: the arguments.
            stop: the ranks' consensus on stopping; None for a model that is not scaled.
        """


@runtime_checkable
class AroundFit(Protocol):
    """A callback that `fit` is called by."""

    def run_fit(
        self, model: Any, given: dict[str, Any], fit: Callable[[dict[str, Any], Durable], Any]
    ) -> Any:
        """Call fit(given, durable), or not where there is nothing left to train.

        Args:
            model: the model.
            given: the arguments of its `fit`, by name.
            fit: trains.

        Returns:
            What `fit` returns.
        """


def around_fit(callbacks: Any) -> AroundFit | None:
    """The callback of the arguments of `fit` that it is to be called by."""
    kept = getattr(callbacks, "callbacks", None)
    if kept is None:
        kept = keras.tree.flatten(callbacks) if callbacks else []
    return next((each for each in kept if isinstance(each, AroundFit)), None)


def take_own_data(given: dict[str, Any], start: DataCursor | None) -> None:
    """Put an adapter that can go on anywhere in the place of the data of one rank's `fit`.

    Args:
        given: the arguments of `fit`.
        start: where it goes on in the data; None for one that begins.
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
        except DataError:  # sparse ones
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
