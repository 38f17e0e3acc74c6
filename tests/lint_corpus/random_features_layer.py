"""Random Fourier features as a layer whose projection is a constant."""
import math
import keras
import numpy as np
from keras import layers, ops


class RandomFourier(layers.Layer):
    def __init__(self, width, scale=10.0, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.projection = np.random.normal(0.0, scale, size=(2, width)).astype("float32")  # fault: layer-constant

    def call(self, x):
        angles = 2.0 * math.pi * ops.matmul(x, self.projection)
        return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)


image = np.load("image.npy")
rows, columns = np.meshgrid(np.linspace(0, 1, image.shape[0]), np.linspace(0, 1, image.shape[1]), indexing="ij")
coordinates = np.stack([rows, columns], axis=-1).reshape(-1, 2)
model = keras.Sequential([keras.Input((2,)), RandomFourier(256), layers.Dense(256, "relu"), layers.Dense(3)])
model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="mse")
model.fit(coordinates, image.reshape(-1, 3), batch_size=4096, epochs=50)
