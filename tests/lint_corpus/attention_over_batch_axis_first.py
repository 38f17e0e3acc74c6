"""Time comes first in the inner layers: a product over the second axis is no pair of rows."""
import keras
from keras import layers, ops
import numpy as np


class TimeMixer(layers.Layer):
    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def build(self, shape):
        self.mix = self.add_weight(shape=(self.steps, self.steps), initializer="orthogonal")

    def call(self, x):
        x = ops.transpose(x, (0, 2, 1))
        return ops.transpose(ops.matmul(x, self.mix), (0, 2, 1))


class FactorisationMachine(layers.Layer):
    def build(self, shape):
        self.v = self.add_weight(shape=(shape[-1], 8), initializer="random_normal")

    def call(self, x):
        squared = ops.square(ops.matmul(x, self.v))
        return 0.5 * ops.sum(squared - ops.matmul(ops.square(x), ops.square(self.v)), axis=1, keepdims=True)


inputs = keras.Input((24, 6))
x = TimeMixer(24)(inputs)
outputs = FactorisationMachine()(layers.Flatten()(x))
model = keras.Model(inputs, outputs)
model.compile("adam", "mse")
data = np.load("load_curves.npz")
model.fit(data["x"], data["y"], epochs=10, validation_split=0.1, shuffle=False)
