"""One call of `fit`: its arguments, and the callback that wraps it and makes it resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import keras

from keras_candle.data.array_shard import ArrayShard
from keras_candle.data.data_cursor import DataCursor
from keras_candle.data.input_data import ARRAYS
from keras_candle.data.keras_adapters import ResumableAdapter
from keras_candle.data.sharded_input import held_out_of, inexact_orders, training_source
from keras_candle.engine.consensus import StopConsensus
from keras_candle.engine.single import SingleEngine
from keras_candle.errors import DataError
from keras_candle.keras_private.data import input_arrays


class FitCall(Mapping[str, Any]):
    """The arguments of one call of `fit`, by name; a wrapper returns a changed copy.

    Args:
        arguments: all that `keras.Model.fit` takes, defaults included.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._arguments = dict(arguments)

    def __getitem__(self, name: str) -> Any:
        return self._arguments[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arguments)

    def __len__(self) -> int:
        return len(self._arguments)

    def changed(self, **arguments: Any) -> FitCall:
        """Return the call with new values of some arguments.

        Raises:
            KeyError: for a name that is not an argument of `fit`.
        """
        unknown = sorted(arguments.keys() - self._arguments.keys())
        if unknown:
            raise KeyError(f"fit has no argument {unknown[0]!r}")
        return FitCall({**self._arguments, **arguments})


class ResumableFit(Protocol):
    """One call of `fit` that can be resumed.

    Attributes:
        start: the data cursor to resume from; None for a new training.
    """

    start: DataCursor | None

    def before_fit(self, call: FitCall, stop: StopConsensus | None) -> FitCall:
        """Return the call with its own CallbackList instead of the callbacks.

        Args:
            call: the arguments; x is a data adapter.
            stop: the ranks' consensus on stopping; None for a model that is not scaled.
        """


@runtime_checkable
class FitWrapper(Protocol):
    """A callback that wraps the call of `fit`."""

    def run_fit(
        self, model: Any, call: FitCall, fit: Callable[[FitCall, ResumableFit], Any]
    ) -> Any:
        """Call fit(call, resumable), unless nothing is left to train.

        Args:
            model: the model.
            call: the arguments of its `fit`.
            fit: trains.

        Returns:
            The value that `fit` returns.
        """


def find_fit_wrapper(callbacks: Any) -> FitWrapper | None:
    """Return the first `FitWrapper` among the callbacks given to `fit`, or None."""
    return next((each for each in listed(callbacks) if isinstance(each, FitWrapper)), None)


def listed(callbacks: Any) -> list[Any]:
    """Return the callbacks given to `fit`, None, one, a list or a CallbackList, as a list."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return list(callbacks.callbacks)
    return list(keras.tree.flatten(callbacks)) if callbacks else []


def make_data_resumable(call: FitCall, start: DataCursor | None) -> FitCall:
    """Return the call of one rank's `fit` with its data in a resumable adapter.

    Args:
        call: the arguments of `fit`.
        start: the data cursor to resume from; None for a new training.
    """
    data, held_out = held_out_of(call)
    source = training_source(call, data, start)
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
    return call.changed(
        x=adapter,
        y=None,
        sample_weight=None,
        class_weight=None,
        batch_size=None,
        shuffle=False,
        validation_split=0.0,
        validation_data=held_out,
        validation_batch_size=call["validation_batch_size"] or call["batch_size"],
    )
