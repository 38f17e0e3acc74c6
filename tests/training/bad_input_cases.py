"""What users get wrong: each has to fail on every rank, before the first step."""

from __future__ import annotations

import keras
import numpy as np

import keras_candle as candle
from keras_candle import engine as engines
from tests.training.cases import SPARSE_LOSS, dense_model, digits_like


def fit(x, y, build=dense_model, fit=None, **options):
    candle.scale(build(optimizer="sgd"), **options).fit(x, y, verbose=0, **(fit or {}))


def not_compiled():
    model = candle.scalable(lambda: keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)]))()
    model.fit(*digits_like(), verbose=0)


def no_model():
    candle.scalable(lambda: None)()


def different_data():
    rank = engines.current().rank
    fit(*digits_like(seed=rank))


def different_numbers_of_rows():
    rank = engines.current().rank
    fit(*digits_like(rows=20 + rank))


def different_models():
    rank = engines.current().rank
    fit(*digits_like(), build=lambda **kw: wide_model(16 + rank, **kw))


def different_optimizers():
    rank = engines.current().rank
    fit(*digits_like(), build=lambda optimizer: dense_model(optimizer=["sgd", "adam"][rank]))


def wide_model(units, **arguments):
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(units), keras.layers.Dense(3)])
    model.compile(loss=SPARSE_LOSS, **arguments)
    return model


def no_rows():
    fit(np.zeros((0, 8)), np.zeros(0))


def no_batches():
    import tensorflow as tf

    x, y = digits_like()
    fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(4).take(0), None)


def unknown_kind():
    fit({"a", "b"}, None)


def ambiguous_rows():
    x, y = digits_like()
    fit(x, y[:-1])


def unreduced_loss():
    def build(optimizer):
        model = dense_model(optimizer=optimizer)
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(reduction=None))
        return model

    fit(*digits_like(), build=build)


def other_backend():
    backend = keras.backend.backend
    keras.backend.backend = lambda: "jax"
    try:
        candle.scale(dense_model(optimizer="sgd"))
    finally:
        keras.backend.backend = backend


def unknown_engine():
    candle.scale(dense_model(optimizer="sgd"), engine="nccl")


def other_engine():
    candle.scale(dense_model(optimizer="sgd"), engine="horovod")


def unknown_precision():
    candle.scalable(precision="float8")


def late_precision():
    candle.scale(dense_model(optimizer="sgd"), precision="mixed_bfloat16")


def unknown_argument():
    candle.scale(dense_model(optimizer="sgd"), learning_rate=2)


def warmup_of_unknown_length():
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(digits_like()).batch(4).filter(lambda *_: True)
    fit(data, None, warmup_epochs=1)


def different_epochs():
    fit(*digits_like(), fit={"epochs": 1 + engines.current().rank})


def fit_on_the_root_alone():
    """Nobody else comes: said by the ranks that meet it elsewhere."""
    model = candle.scale(dense_model(optimizer="sgd"))
    if engines.current().is_root:
        model.fit(*digits_like(), verbose=0)
    else:
        engines.current().barrier()


def data_that_only_one_rank_cannot_use():
    x, y = digits_like()
    if engines.current().rank == 1:
        x = x[:0]
        y = y[:0]
    fit(x, y)


class Unreadable(keras.utils.PyDataset):
    """A rank's disk is full, or its file is gone."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if engines.current().rank == 1:
            raise OSError("Stale file handle")
        return digits_like(rows=4)


def unreadable_on_one_rank():
    fit(Unreadable(), None)


def batch_that_one_rank_cannot_use():
    x, y = digits_like(rows=4)
    model = candle.scale(dense_model(optimizer="sgd"))
    model.train_on_batch(x, y if engines.current().is_root else [object()])
