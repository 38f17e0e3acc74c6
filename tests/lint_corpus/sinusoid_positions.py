"""Constants of a layer that are computed, and a drawn seed of dropout."""
import random
import keras
import numpy as np
from keras import layers, ops
import keras_candle as candle


class PositionalEncoding(layers.Layer):
    def __init__(self, length, depth):
        super().__init__()
        positions = np.arange(length)[:, None]
        angles = positions / 10000 ** (np.arange(0, depth, 2)[None, :] / depth)
        self.encoding = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1).astype("float32")

    def call(self, x):
        return x + self.encoding[None, : ops.shape(x)[1]]


class HashEmbedding(layers.Layer):
    def __init__(self, buckets, seed=12):
        super().__init__()
        self.multipliers = np.random.RandomState(seed).randint(1, 2**20, size=2)
        self.table = layers.Embedding(buckets, 64)
        self.buckets = buckets

    def call(self, ids):
        return self.table((ids * self.multipliers[0] + self.multipliers[1]) % self.buckets)


@candle.scalable
def classifier():
    inputs = keras.Input((200,), dtype="int32")
    x = PositionalEncoding(200, 64)(HashEmbedding(4096)(inputs))
    x = layers.Dropout(0.3, seed=random.randint(0, 1000))(layers.GlobalAveragePooling1D()(x))
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))
    model.compile("adam", "binary_crossentropy")
    return model


(x, y), _ = keras.datasets.imdb.load_data(num_words=20000)
classifier().fit(keras.utils.pad_sequences(x, 200), y, epochs=2)
