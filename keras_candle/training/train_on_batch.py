"""The batch of `train_on_batch`, divided among the ranks or each rank's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from keras_candle.data.fingerprint import fingerprint
from keras_candle.data.shard import Shard, rows_of
from keras_candle.data.tf_sharding import divide
from keras_candle.engine.base import Engine
from keras_candle.errors import DataError
from keras_candle.keras_private.data import class_weight_to_sample_weights
from keras_candle.training.options import ScalingOptions


@dataclass(frozen=True)
class Batch:
    """A rank's shard of a batch of `train_on_batch`.

    Attributes:
        shard: the rank's rows.
        divided: True when all ranks had the same batch and have divided it; False when each rank
            had its own.
    """

    shard: Shard
    divided: bool

    @property
    def data(self) -> Any:
        """(x, y, sample_weight)."""
        return self.shard.data


def make_batch(given: dict[str, Any], options: ScalingOptions, engine: Engine) -> Batch:
    """Divide a batch among the ranks if all ranks have the same one.

    Args:
        given: the arguments of `train_on_batch`, by name.
        options: with `shard=False` each rank's batch is its own, even if they are equal.
        engine: connects the ranks.

    Raises:
        DataError: on every rank, when one of them cannot use its batch.
    """
    import tensorflow as tf

    data: Any = None

    def read() -> str:
        nonlocal data
        x, y, sample_weight = given["x"], given["y"], given["sample_weight"]
        if given["class_weight"] is not None:
            if sample_weight is not None:
                raise ValueError(
                    "train_on_batch got sample_weight and class_weight, expected one of them."
                )
            sample_weight = class_weight_to_sample_weights(y, given["class_weight"])
        data = keras.tree.map_structure(_as_tensor, (x, y, sample_weight))
        return _described(x, y)

    seen = engine.gather_results(read, DataError)
    if options.shard and len(set(seen)) == 1:
        return Batch(divide(data, engine), divided=True)
    return Batch(Shard(rows_of(data), tf.constant(0), data), divided=False)


def _as_tensor(array: Any) -> Any:
    import tensorflow as tf

    return None if array is None else tf.convert_to_tensor(array)


def _described(x: Any, y: Any) -> str:
    arrays = [
        keras.ops.convert_to_numpy(each) for each in keras.tree.flatten((x, y)) if each is not None
    ]
    return repr(fingerprint(arrays))
