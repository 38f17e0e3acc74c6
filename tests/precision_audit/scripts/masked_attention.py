"""Sequences with a mask made by hand, as many write it."""

import keras
import numpy as np
from keras import layers, ops

keras.utils.set_random_seed(0)


class Attention(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.query, self.key = layers.Dense(units), layers.Dense(units)

    def call(self, x, mask):
        scores = ops.matmul(self.query(x), ops.transpose(self.key(x), (0, 2, 1)))
        mask = ops.cast(mask, scores.dtype)[:, None, :]
        return ops.matmul(ops.softmax(scores + (1.0 - mask) * -1e9), x)


tokens = keras.Input((12,), dtype="int32")
x = layers.Embedding(40, 8)(tokens)
x = Attention(8)(x, ops.not_equal(tokens, 0))
x = layers.GlobalAveragePooling1D()(x)
x = layers.Dense(2)(x)
model = keras.Model(tokens, x)
model.compile(
    "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
)
data = np.random.randint(1, 40, (256, 12))
data[:, 8:] = 0
model.fit(data, data[:, 0] % 2, epochs=3)
