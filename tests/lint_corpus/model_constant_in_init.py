import numpy as np
import tensorflow as tf
from tensorflow.keras import Model
from tensorflow.keras.layers import Dense


class EchoState(Model):
    """A reservoir with fixed random connections."""

    def __init__(self, units=200, spectral=0.9):
        super().__init__()
        w = np.random.randn(units, units)  # place: layer-constant
        self.reservoir = tf.constant(spectral * w / np.abs(np.linalg.eigvals(w)).max(), tf.float32)  # fault: layer-constant
        self.inner = Dense(units, activation="tanh")
        self.readout = Dense(1)

    def call(self, x):
        state = self.inner(x[:, 0])
        for t in range(1, 10):
            state = tf.tanh(self.inner(x[:, t]) + tf.matmul(state, self.reservoir))
        return self.readout(state)


windows = np.load("mackey_glass.npz")
model = EchoState()
model.compile(optimizer="adam", loss="mse")
model.fit(windows["x"], windows["y"], epochs=10, batch_size=32)
