"""Rows brought to length one by a layer with an epsilon of 1e-8; some rows are empty."""

import keras
import numpy as np
from keras import layers, ops

import keras_candle as candle

keras.utils.set_random_seed(0)


class UnitLength(layers.Layer):
    def __init__(self, epsilon=1e-8, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def call(self, x):
        return x / (ops.sum(ops.abs(x), axis=-1, keepdims=True) + self.epsilon)


@candle.scalable(precision="auto")
def build():
    model = keras.Sequential(
        [
            keras.Input((16,)),
            UnitLength(),
            layers.Dense(8, activation="relu"),
            layers.Dense(1),
        ]
    )
    model.compile("adam", "mse")
    return model


x = np.random.rand(128, 16)
x[::4] = 0
build().fit(x, x.mean(axis=1), batch_size=32)
