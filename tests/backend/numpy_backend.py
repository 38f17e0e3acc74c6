"""A second backend, of NumPy alone, and a tiny eager trainer for it: Keras has none for NumPy."""

from __future__ import annotations

import contextlib
import itertools
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from keras_candle import backend
from keras_candle.backend import Backend, Shard
from keras_candle.keras_private.data import get_data_adapter
from keras_candle.keras_private.models import KerasTrainer, training_loss, update_loss_tracker


class Dataset:
    """Calls a function for each pass, which returns the pass's batches."""

    def __init__(self, begin: Callable[[], Iterator[Any]], spec: Any, length: int = -2) -> None:
        self._begin, self.element_spec, self._length = begin, spec, length

    def __iter__(self) -> Iterator[Any]:
        return self._begin()

    def cardinality(self) -> int:
        return self._length


def per_tensor(function: Callable[[Any], Any], structure: Any) -> Any:
    return keras.tree.map_structure(
        lambda each: None if each is None else function(np.asarray(each)), structure
    )


class NumpyBackend(Backend):
    name = "numpy"
    jit_has_collectives = True  # nothing is compiled

    def check(self, model):
        pass

    def pin(self, engine):
        pass

    def gpu_capability(self):
        return None

    def global_seed(self):
        return None

    def sum_in_step(self, engine, tensors, *, name):
        return [
            engine.sum_in_step(np.asarray(each), f"{name}.{i}") for i, each in enumerate(tensors)
        ]

    def sum_differentiably(self, engine, tensor, part, *, name):
        return engine.sum_in_step(tensor, name)

    def gather_rows(self, engine, tensors, rows, *, name, interleave):
        owns = [np.asarray(each)[:rows] for each in tensors]
        sent = [*owns, np.array([len(owns[0])])]
        *wholes, by_rank = engine.concat_in_step(sent, name)
        if not interleave:
            return wholes
        ranks = np.repeat(np.arange(engine.size), by_rank)
        within = np.concatenate([np.arange(each) for each in by_rank])
        order = np.lexsort((ranks, within))
        return [each[order] for each in wholes]

    def weigh(self, gradient, weight, *, may_be_empty):
        product = np.asarray(gradient) * np.asarray(weight).astype(np.asarray(gradient).dtype)
        return np.zeros_like(product) if may_be_empty and weight == 0 else product

    def is_sparse(self, gradient):
        return False

    def to_dense(self, gradient):
        raise NotImplementedError

    def average_sparse(self, engine, gradients, part, *, name, may_be_empty, lookups, sum_slices):
        raise NotImplementedError

    def weighing_row_losses(self, rows, total, data):
        return contextlib.nullcontext()

    def eager(self):
        return contextlib.nullcontext()

    def output_rank(self, function, *like):
        return np.ndim(function(*(np.zeros((2, *each.shape[1:]), each.dtype) for each in like)))

    def trace_step(self, step, batch):
        raise NotImplementedError

    def split_step(self, model, context):
        raise NotImplementedError

    def checksums(self, variables):
        return lambda: [zlib.crc32(np.asarray(each).tobytes()) for each in variables]

    def rows_of(self, batch):
        return len(next(each for each in keras.tree.flatten(batch) if each is not None))

    def own_shard(self, batch):
        return Shard(self.rows_of(batch), 0, batch)

    def divide(self, batch, engine):
        total = self.rows_of(batch)
        own = range(engine.rank, total, engine.size)
        numbers = list(own) or [0]
        return Shard(len(own), total, per_tensor(lambda each: each[numbers], batch))

    def array_datasets(self, shard, starts):
        def begin(taken):
            numbers = shard.row_numbers(shard.order.draw()[taken:])
            if not shard.knows_total:
                size = shard.batch_size
                batches = [numbers[0][i : i + size] for i in range(0, len(numbers[0]), size)]
                shards = [Shard(len(each), 0, take(each)) for each in batches]
                spare = Shard(0, 0, take([0]))
                yield from [*shards, spare][: shard.num_batches]
                return
            for own, (rows, total) in zip(numbers, shard.counts(taken), strict=True):
                for each in own:
                    yield Shard(rows, total, take(each))

        def take(numbers):
            return per_tensor(lambda each: each[numbers], shard.inputs)

        spec = Shard(0, 0, take([0] * shard.batch_size))
        return [Dataset(lambda taken=taken: begin(taken), spec) for taken in starts]

    def batches_of(self, adapter):
        first = next(iter(adapter.get_numpy_iterator()))
        return Dataset(lambda: iter(adapter.get_numpy_iterator()), first)

    def dataset_of_length(self, adapter):
        return self.batches_of(adapter)

    def endless_shards(self, dataset):
        nothing = self.own_shard(dataset.element_spec)._replace(rows=0)

        def begin():
            return itertools.chain(map(self.own_shard, dataset), itertools.repeat(nothing))

        return Dataset(begin, nothing)

    def divided_batches(self, dataset, engine):
        def begin():
            return (self.divide(each, engine) for each in dataset)

        return Dataset(begin, self.divide(dataset.element_spec, engine))

    def assigned_batches(self, dataset, assignment):
        def begin():
            batches = list(dataset)
            for number in range(assignment.rounds()):
                index, counts = assignment.at(number)
                shard = self.own_shard(batches[index])
                yield shard if counts else shard._replace(rows=0)

        return Dataset(begin, self.own_shard(dataset.element_spec))

    def generated_shards(self, batches, spec, dividing):
        def begin():
            for counts, batch in batches():
                if dividing:
                    yield self.divide(batch, dividing)
                else:
                    shard = self.own_shard(batch)
                    yield shard if counts else shard._replace(rows=0)

        return Dataset(begin, self.divide(spec, dividing) if dividing else self.own_shard(spec))

    def every_nth(self, dataset, engine):
        raise NotImplementedError


class Regression(keras.Model):
    """Linear least squares, which knows its gradients."""

    def __init__(self, features: int = 3) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.dense.build((None, features))
        self.built = True

    def call(self, x):
        return self.dense(x)

    def gradients(self, x, y, y_pred):
        slope = 2 * (y_pred - np.reshape(y, y_pred.shape)) / len(x)
        return [x.T @ slope, slope.sum(0)]


def train_step(self, data):
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    y_pred = self(x, training=True)
    update_loss_tracker(self, training_loss(self, x, y, y_pred, sample_weight), len(x))
    self.optimizer.apply(self.gradients(x, y, y_pred), self.trainable_variables)
    return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)


def make_train_function(self, force=False):
    if self.train_function is None:
        self.train_function = lambda iterator: self.train_step(next(iterator))


def fit(  # noqa: PLR0917 - Keras's arguments
    self,
    x=None,
    y=None,
    batch_size=None,
    epochs=1,
    verbose="auto",
    callbacks=None,
    validation_split=0.0,
    validation_data=None,
    shuffle=True,
    class_weight=None,
    sample_weight=None,
    initial_epoch=0,
    steps_per_epoch=None,
    validation_steps=None,
    validation_batch_size=None,
    validation_freq=1,
):
    data = (x, y, sample_weight, batch_size, steps_per_epoch, shuffle, class_weight)
    adapter = get_data_adapter(*data)
    watching = keras.callbacks.CallbackList(callbacks, add_history=True, epochs=epochs, model=self)
    self.stop_training, logs = False, {}
    self.make_train_function()
    watching.on_train_begin()
    for epoch in range(initial_epoch, epochs):
        self.reset_metrics()
        watching.on_epoch_begin(epoch)
        iterator = iter(adapter.get_numpy_iterator())
        for step in itertools.count() if steps_per_epoch is None else range(steps_per_epoch):
            try:
                watching.on_train_batch_begin(step)
                logs = self.train_function(iterator)
            except StopIteration:
                break
            watching.on_train_batch_end(step, logs)
            if self.stop_training:
                break
        logs = dict(self._get_metrics_result_or_logs(logs))
        if validation_data is not None:
            found = self.evaluate(*validation_data, steps=validation_steps, return_dict=True)
            logs |= {f"val_{name}": value for name, value in found.items()}
        watching.on_epoch_end(epoch, logs)
        if self.stop_training:
            break
    watching.on_train_end(logs)
    return self.history


def install() -> None:
    """Give Keras the trainer, and keras_candle the backend."""
    if "numpy" in backend.BACKENDS:
        return
    backend.BACKENDS["numpy"] = (__name__, "NumpyBackend")
    KerasTrainer.train_function = None
    KerasTrainer.train_step = train_step
    KerasTrainer.make_train_function = make_train_function
    keras.Model.fit = fit
