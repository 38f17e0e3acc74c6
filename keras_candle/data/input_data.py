"""The data given to `fit` or `evaluate`, and their description that all ranks compare."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras

from keras_candle.data.batch_assignment import Division
from keras_candle.data.data_cursor import DataCursor
from keras_candle.data.fingerprint import fingerprint
from keras_candle.data.shared_randomness import SharedRandomness
from keras_candle.data.tf_dataset import describe_dataset, is_sharded_by_user
from keras_candle.errors import DataError
from keras_candle.keras_private.data import (
    ArrayDataAdapter,
    first_batch,
    get_data_adapter,
    input_arrays,
    is_tf_dataset,
)

ARRAYS, DATASET, PYDATASET, STREAM = "arrays", "tf.data.Dataset", "PyDataset", "stream"


@dataclass(frozen=True)
class InputData:
    """The data arguments of `fit` and `evaluate`.

    Attributes:
        steps: steps_per_epoch, or `evaluate`'s steps.
        for_training: False for evaluation, which may stop at any row and needs no equal batches.
        start: the data cursor to resume from; None for a new training.
    """

    x: Any
    y: Any = None
    sample_weight: Any = None
    class_weight: Any = None
    batch_size: int | None = None
    shuffle: bool | str = False
    steps: int | None = None
    for_training: bool = False
    start: DataCursor | None = None

    @cached_property
    def kind(self) -> str:
        """ARRAYS, DATASET, PYDATASET, or STREAM for data that can only be read in sequence."""
        if is_tf_dataset(self.x):
            return DATASET
        if isinstance(self.x, keras.utils.PyDataset):
            return PYDATASET
        return ARRAYS if isinstance(self.keras_adapter, ArrayDataAdapter) else STREAM

    @cached_property
    def keras_adapter(self) -> Any:
        """Keras's own adapter of the data, made once: it takes a generator's first batches.

        Raises:
            DataError: when Keras does not know this kind of data.
        """
        kind = type(self.x)
        try:
            return self._keras_adapter(self.batch_size)
        except (AttributeError, KeyError, TypeError, ValueError) as cause:
            if keras.tree.is_nested(self.x) or "Unrecognized data type" not in str(cause):
                raise
            raise DataError(
                f"Keras cannot train on a {kind.__module__}.{kind.__qualname__}. "
                "Convert it to arrays, a tf.data.Dataset or a keras.utils.PyDataset."
            ) from cause

    def per_rank_adapter(self, division: Division, size: int) -> Any:
        """Return Keras's own adapter, where each rank passes its own data."""
        if division.batch != "replica" and self.batch_size:
            return self._keras_adapter(max(self.batch_size // size, 1))
        return self.keras_adapter

    def _keras_adapter(self, batch_size: int | None) -> Any:
        orders = not is_tf_dataset(self.x) and self.shuffle
        return get_data_adapter(
            x=self.x,
            y=self.y,
            sample_weight=self.sample_weight,
            class_weight=self.class_weight,
            batch_size=batch_size,
            steps_per_epoch=self.steps,
            shuffle=orders if _can_shuffle(self.x) else False,
        )

    def is_sharded(self, division: Division) -> bool:
        """Whether the data are this rank's shard already, divided by the user."""
        if not division.shard:
            return True
        return is_tf_dataset(self.x) and is_sharded_by_user(self.x)

    def describe(self, division: Division, size: int, randomness: SharedRandomness) -> list[str]:
        """Describe the properties of the data that must be the same on all ranks.

        Raises:
            DataError: when there is no row, or the data cannot be divided among the ranks.
        """
        if self.is_sharded(division):
            return self._describe_shard(division, size)
        settings = f"steps {self.steps}, batch size {self.batch_size}, shuffle {self.shuffle}"
        if self.kind == ARRAYS:
            return [settings, *self._describe_arrays()]
        if self.kind == DATASET:
            return [settings, *describe_dataset(self.x)]
        return [settings, *self._describe_batches(randomness)]

    def _describe_arrays(self) -> list[str]:
        if self.rows == 0:
            raise DataError("The data have no row, expected at least one.")
        return fingerprint(input_arrays(self.keras_adapter))

    @property
    def rows(self) -> int:
        """The number of rows of arrays."""
        return int(keras.tree.flatten(input_arrays(self.keras_adapter))[0].shape[0])

    def _describe_batches(self, randomness: SharedRandomness) -> list[str]:
        batches = self.x.num_batches if self.kind == PYDATASET else self.keras_adapter.num_batches
        if batches == 0:
            raise DataError(f"The {type(self.x).__name__} has no batch, expected at least one.")
        with randomness.rewound():
            first = self._first_batch()
        # The targets where there are some: x may be augmented, differently on each rank.
        several = isinstance(first, tuple | list) and len(first) > 1
        seen = fingerprint(first[1] if several else first)
        return [f"{batches} batches", *(f"the first batch: {each}" for each in seen)]

    def _first_batch(self) -> Any:
        if self.kind == PYDATASET:
            return self.x[0]
        return first_batch(self.keras_adapter)

    def _describe_shard(self, division: Division, size: int) -> list[str]:
        batches = self.per_rank_adapter(division, size).num_batches
        if batches == 0:
            raise DataError("The data have no row, expected at least one.")
        if not self.for_training:
            return []
        if batches is None and self.steps is None:
            raise DataError(
                "Each rank passes its own data, and their number of batches is unknown. "
                "Give fit the argument steps_per_epoch, the same on all ranks."
            )
        of_epoch = f", {self.steps} in an epoch" if self.steps else ""
        return [f"{'unknown' if batches is None else batches} batches{of_epoch}"]


def _can_shuffle(x: Any) -> bool:
    """Whether Keras uses `fit`'s shuffle for such data, instead of warning that it cannot."""
    if isinstance(x, keras.utils.PyDataset):
        return x.num_batches is not None
    return keras.tree.is_nested(x) or hasattr(x, "shape")
