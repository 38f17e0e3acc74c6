"""Batches of any number of rows, divided among the ranks, against plain Keras."""

from __future__ import annotations

import math

import keras
import numpy as np

import keras_candle as candle
from tests.training.cases import SPARSE_LOSS, difference, digits_like


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, batch_size):
        super().__init__()
        self.x, self.y, self.batch_size = x, y, batch_size

    def __len__(self):
        return math.ceil(len(self.x) / self.batch_size)

    def __getitem__(self, index):
        rows = slice(index * self.batch_size, (index + 1) * self.batch_size)
        return self.x[rows], self.y[rows]


def model_with(optimizer):
    keras.utils.set_random_seed(1)
    hidden = keras.layers.Dense(6, activation="tanh")
    outputs = keras.layers.Dense(3, activation="softmax")
    model = keras.Sequential([keras.Input((8,)), hidden, outputs])
    model.compile(optimizer, SPARSE_LOSS, metrics=["accuracy"])
    return model


def trained(model, kind, batch_size, x, y):
    """The logs of two epochs."""
    import tensorflow as tf

    data = {"x": x, "y": y, "batch_size": batch_size}
    if kind in ("batches", "fixed"):
        whole = tf.data.Dataset.from_tensor_slices((x, y))
        data = {"x": whole.batch(batch_size, drop_remainder=kind == "fixed")}
    elif kind == "pydataset":
        data = {"x": Batches(x, y, batch_size), "shuffle": False}
    elif kind == "train_on_batch":
        batches = Batches(x, y, batch_size)
        return {"loss": [model.train_on_batch(*batches[i])[0] for i in range(len(batches))]}
    history = model.fit(**data, epochs=2, verbose=0).history
    history.pop("effective_learning_rate", None)
    return history


def divided(kind, batch_size):
    """The differences of this rank's weights and logs to plain Keras's."""
    x, y = digits_like(rows=40)
    plain = model_with(keras.optimizers.SGD(0.05))
    expected = trained(plain, kind, batch_size, x, y)
    model = model_with(keras.optimizers.SGD(0.05))
    model = candle.scale(model, batch="global", learning_rate_scaling=None)
    found = trained(model, kind, batch_size, x, y)
    assert set(found) == set(expected)
    apart = [np.max(np.abs(np.subtract(found[name], expected[name]))) for name in expected]
    return difference(model, plain), float(max(apart))
