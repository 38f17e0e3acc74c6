"""A subclassed model with a train_step of its own that scales no loss, and sparse gradients."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops


class Ranking(keras.Model):
    def __init__(self):
        super().__init__()
        self.items = layers.Embedding(50, 8)
        self.mix = layers.Dense(8)
        self.score = layers.Dense(1)

    def call(self, x):
        return self.score(ops.mean(self.mix(self.items(x)) * 3e5, axis=1) / 3e5)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = ops.mean(ops.square(y - ops.cast(self(x, training=True)[:, 0], "float32")))
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply(gradients, self.trainable_weights)
        return {"loss": loss}


keras.utils.set_random_seed(0)
model = Ranking()
model.compile("adam")
items = np.random.randint(0, 50, (128, 4))
rows = tf.data.Dataset.from_tensor_slices((items, (items[:, 0] / 50).astype("float32")))
model.fit(rows.batch(32))
