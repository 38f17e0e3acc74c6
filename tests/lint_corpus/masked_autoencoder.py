"""Masks patches anew in each call: draws of a step, not constants."""
import keras
from keras import layers, ops
import numpy as np

keras.utils.set_random_seed(42)


class PatchMask(layers.Layer):
    def __init__(self, patches=64, proportion=0.75, **kwargs):
        super().__init__(**kwargs)
        self.patches = patches
        self.num_mask = int(patches * proportion)
        self.seed_generator = keras.random.SeedGenerator(3)

    def call(self, x):
        scores = keras.random.uniform((ops.shape(x)[0], self.patches), seed=self.seed_generator)
        keep = ops.argsort(scores, axis=-1)[:, self.num_mask :]
        return ops.take_along_axis(x, keep[..., None], axis=1)


inputs = keras.Input((64, 48))
encoded = layers.Dense(32, "gelu")(PatchMask()(inputs))
decoded = layers.Dense(64 * 48)(layers.Flatten()(encoded))
mae = keras.Model(inputs, layers.Reshape((64, 48))(decoded))
mae.compile(optimizer="adamw", loss="mse", metrics=["mae"])
(x, _), _ = keras.datasets.cifar10.load_data()
x = x.reshape(-1, 8, 4, 8, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 64, 48) / 255.0
mae.fit(x, x, batch_size=256, epochs=100)
