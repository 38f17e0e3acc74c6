"""Batches that can only be read from their beginning: generators, torch and grain loaders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras_candle.data.input_data import InputData
from keras_candle.data.shared_randomness import SharedRandomness
from keras_candle.keras_private.data import limit_passes


def read_in_order(source: InputData, randomness: SharedRandomness) -> Any:
    """Return Keras's dataset of batches that can only be read in sequence.

    Every rank reads all batches and keeps its own. An evaluation of some steps reads just
    these: Keras's adapter reads ahead, another number of batches on each rank, which would be lost.
    """
    import tensorflow as tf

    adapter = source.keras_adapter
    read = adapter.get_numpy_iterator
    if source.steps and not source.for_training:
        limit_passes(adapter, source.steps)

    def read_in_one_order() -> Iterator[Any]:
        # A torch DataLoader draws its order when the first batch is asked for.
        with randomness.torch_only():
            batches = iter(read())
            first = next(batches, None)
        if first is not None:
            yield first
            yield from batches

    adapter.get_numpy_iterator = read_in_one_order
    dataset = adapter.get_tf_dataset()
    if adapter.num_batches is not None:
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(adapter.num_batches))
    return dataset
