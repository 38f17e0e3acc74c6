"""A layer that names float32 itself, and cannot be added to anything else."""

import keras
import numpy as np
import tensorflow as tf


class Shift(keras.layers.Layer):
    def call(self, x):
        return tf.add(x, tf.ones((4,), "float32"))


keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), Shift()])
model.compile("sgd", "mse")
model.fit(np.ones((32, 4)), np.ones((32, 4)))
