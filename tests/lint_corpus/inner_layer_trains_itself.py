"""A layer with an optimizer of its own, applied in call."""
import keras
import tensorflow as tf


class LocalLayer(keras.layers.Layer):
    """Forward-forward: each layer minimises a loss of its own."""

    def __init__(self, units):
        super().__init__()
        self.dense = keras.layers.Dense(units, activation="relu")
        self.optimizer = keras.optimizers.Adam(0.03)

    def call(self, x):
        return self.dense(tf.math.l2_normalize(x, axis=1))

    def train(self, positive, negative):
        with tf.GradientTape() as tape:
            good = tf.reduce_mean(self.call(positive) ** 2, axis=1)
            bad = tf.reduce_mean(self.call(negative) ** 2, axis=1)
            loss = tf.reduce_mean(tf.nn.softplus(tf.concat([1.5 - good, bad - 1.5], axis=0)))
        gradients = tape.gradient(loss, self.dense.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.dense.trainable_weights))  # fault: optimizer
        return tf.stop_gradient(self.call(positive)), tf.stop_gradient(self.call(negative)), loss


class ForwardForward(keras.Model):
    def __init__(self, sizes=(500, 500)):
        super().__init__()
        self.stack = [LocalLayer(size) for size in sizes]

    def train_step(self, data):
        positive, negative = data
        losses = []
        for layer in self.stack:
            positive, negative, loss = layer.train(positive, negative)
            losses.append(loss)
        return {"loss": tf.reduce_mean(losses)}


import numpy as np

pairs = np.load("ff_pairs.npz")
model = ForwardForward()
model.compile()
model.fit(pairs["positive"], pairs["negative"], batch_size=512, epochs=60)
