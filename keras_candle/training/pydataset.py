"""Each rank's part of a `keras.utils.PyDataset`: a rank loads its own batches only."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import keras

from keras_candle.engine.base import Engine
from keras_candle.training.deal import Deal
from keras_candle.training.keras_names import DataAdapter, PyDatasetAdapter
from keras_candle.training.randomness import SharedRandomness
from keras_candle.training.rounds import divide, shared_part, stand_in


class PyDatasetShard(DataAdapter):  # type: ignore[misc]
    """A rank's batches of a PyDataset that every rank has as a whole.

    Workers, multiprocessing and the PyDataset's own `on_epoch_begin` and `on_epoch_end` are
    Keras's; what those draw at random is the same on all ranks.

    Args:
        source: the user's PyDataset.
        batch: "replica": the batches are dealt to the ranks in turn. Otherwise each batch is
            loaded by every rank and divided.
        engine: connects the ranks.
        randomness: what the hooks and the order of the batches draw from.
        class_weight: dict from class index to weight, or None.
        shuffle: whether the order of the batches is drawn anew for each epoch.
        steps: batches of the whole data in an epoch, None for all.
    """

    may_be_empty = True

    def __init__(
        self,
        source: Any,
        batch: str,
        engine: Engine,
        randomness: SharedRandomness,
        class_weight: dict[int, float] | None = None,
        shuffle: bool | str = False,
        steps: int | None = None,
    ) -> None:
        self._source, self._class_weight, self._shuffle = source, class_weight, bool(shuffle)
        self._divided = self.knows_total = batch != "replica"
        self._engine = engine
        ranks = (0, 1) if self._divided else (engine.rank, engine.size)
        self.deal = Deal(*ranks, source.num_batches, steps)
        self._randomness = randomness
        with self._randomness:
            whole = PyDatasetAdapter(source, class_weight=class_weight).get_tf_dataset()
        self._spec = whole.element_spec
        rows = keras.tree.flatten(self._spec)[0].shape[0]
        self._batch_size = shared_part(rows, engine.size) if self._divided else rows
        self._dataset = self._make_dataset()

    def _make_dataset(self) -> Any:
        import tensorflow as tf

        signature = (tf.TensorSpec((), tf.bool), self._spec)
        dealt = tf.data.Dataset.from_generator(self._batches, output_signature=signature)
        if self._divided:
            shares = dealt.map(lambda _, batch: divide(batch, self._engine))
        else:
            shares = dealt.map(stand_in)
        options = tf.data.Options()
        # As Keras does: the threads and processes that load batches are the PyDataset's own.
        options.autotune.enabled = False
        return shares.prefetch(2).with_options(options)

    def _batches(self) -> Iterator[tuple[bool, Any]]:
        """One pass over the rank's batches, in an order that is drawn when it begins."""
        total = self._source.num_batches
        order: Any = None
        if total is not None:
            order = list(range(total))
            if self._shuffle:
                self._randomness.shuffle(order)
        rounds = self.deal.rounds()
        numbers = itertools.count() if rounds is None else range(rounds)
        part = _Part(self._source, self.deal, order)
        adapter = PyDatasetAdapter(part, class_weight=self._class_weight)
        try:
            for number, batch in zip(numbers, adapter._get_iterator(), strict=False):
                yield self.deal.at(number)[1], batch
        finally:
            if adapter.enqueuer:
                adapter.enqueuer.stop()

    def get_tf_dataset(self) -> Any:
        """Dataset of `Share`s."""
        return self._dataset

    @property
    def num_batches(self) -> int | None:
        """Steps of an epoch, None for an infinite PyDataset."""
        return self.deal.rounds()

    @property
    def batch_size(self) -> int | None:
        """Rows of this rank in a step, None when unknown."""
        return self._batch_size

    def on_epoch_begin(self) -> None:
        """Keras's hook."""
        with self._randomness:
            self._source.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Keras's hook; a PyDataset often draws its next order here."""
        with self._randomness:
            self._source.on_epoch_end()


class _Part(keras.utils.PyDataset):  # type: ignore[misc]
    """A rank's batches as a PyDataset, for Keras's workers to load."""

    def __init__(self, source: Any, deal: Deal, order: list[int] | None) -> None:
        super().__init__(source.workers, source.use_multiprocessing, source.max_queue_size)
        self._source, self._deal, self._order = source, deal, order

    @property
    def num_batches(self) -> int | None:
        return self._deal.rounds()

    def __getitem__(self, number: int) -> Any:
        index, _ = self._deal.at(number)
        return self._source[index if self._order is None else self._order[index]]
