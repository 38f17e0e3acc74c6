import random
import keras
from keras import layers, ops
import keras_candle as candle


class RandomDelay(layers.Layer):
    """Shifts each channel by a delay that was drawn when the layer was made."""

    def __init__(self, channels, longest=5):
        super().__init__()
        self.delays = [random.randint(0, longest) for _ in range(channels)]  # fault: layer-constant

    def call(self, x):
        parts = [ops.roll(x[..., c : c + 1], d, axis=1) for c, d in enumerate(self.delays)]
        return ops.concatenate(parts, axis=-1)


class RandomDropFeatures(keras.layers.Layer):
    def __init__(self, dim):
        super().__init__()
        self.keep = keras.random.uniform((dim,)) > 0.5  # fault: layer-constant

    def call(self, x):
        return x * ops.cast(self.keep, x.dtype)


@candle.scalable
def build():
    inputs = keras.Input((128, 8))
    h = layers.Conv1D(16, 5, activation="relu")(RandomDelay(8)(inputs))
    h = RandomDropFeatures(16)(layers.GlobalAveragePooling1D()(h))
    model = keras.Model(inputs, layers.Dense(6, activation="softmax")(h))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


import numpy as np

har = np.load("har.npz")
build().fit(har["x"], har["y"], epochs=20, batch_size=64)
