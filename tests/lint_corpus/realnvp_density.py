"""Density estimation with coupling layers."""
import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops, regularizers
from sklearn.datasets import make_moons

data = make_moons(3000, noise=0.05, random_state=0)[0].astype("float32")
norm = layers.Normalization()
norm.adapt(data)
normalized = np.asarray(norm(data))


def coupling(size, reg=0.01):
    inputs = layers.Input((size,))
    t = s = inputs
    for _ in range(4):
        t = layers.Dense(256, activation="relu", kernel_regularizer=regularizers.l2(reg))(t)
        s = layers.Dense(256, activation="relu", kernel_regularizer=regularizers.l2(reg))(s)
    return keras.Model(inputs, [layers.Dense(size, activation="tanh")(s), layers.Dense(size)(t)])


class RealNVP(keras.Model):
    def __init__(self, num_coupling_layers):
        super().__init__()
        self.masks = np.array([[0, 1], [1, 0]] * (num_coupling_layers // 2), dtype="float32")
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.layers_list = [coupling(2) for _ in range(num_coupling_layers)]

    @property
    def metrics(self):
        return [self.loss_tracker]

    def call(self, x):
        log_det = 0.0
        for i in reversed(range(len(self.layers_list))):
            masked = x * self.masks[i]
            s, t = self.layers_list[i](masked)
            gate = (1 - self.masks[i])
            x = gate * (x - t * gate) * ops.exp(-s * gate) + masked
            log_det += ops.sum(-s * gate, axis=1)
        return x, log_det

    def log_loss(self, x):
        y, log_det = self(x)
        log_likelihood = -0.5 * ops.sum(ops.square(y), axis=1) - np.log(2 * np.pi) + log_det
        return -ops.mean(log_likelihood)

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = self.log_loss(data)
        g = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(g, self.trainable_variables))
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}

    def test_step(self, data):
        self.loss_tracker.update_state(self.log_loss(data))
        return {"loss": self.loss_tracker.result()}


model = RealNVP(num_coupling_layers=6)
model.compile(optimizer=keras.optimizers.Adam(learning_rate=0.0001))
history = model.fit(normalized, batch_size=256, epochs=300, verbose=2, validation_split=0.2)
