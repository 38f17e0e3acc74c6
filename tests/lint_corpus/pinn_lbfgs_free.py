"""A physics-informed network: collocation points drawn once, without a seed."""
import numpy as np
import tensorflow as tf
from tensorflow import keras

t_r = np.random.uniform(0, 1, (5000, 1)).astype("float32")  # fault: data
x_r = np.random.uniform(-1, 1, (5000, 1)).astype("float32")  # fault: data


class Burgers(keras.Model):
    def __init__(self):
        super().__init__()
        self.net = keras.Sequential([keras.layers.Dense(20, activation="tanh") for _ in range(6)] + [keras.layers.Dense(1)])

    def call(self, tx):
        return self.net(tx)

    def train_step(self, data):
        t, x = data
        with tf.GradientTape() as outer:
            with tf.GradientTape(persistent=True) as tape:
                tape.watch([t, x])
                u = self(tf.concat([t, x], axis=1), training=True)
            residual = tape.gradient(u, t) + u * tape.gradient(u, x)
            loss = tf.reduce_mean(tf.square(residual))
        grads = outer.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(grads, self.trainable_variables))
        return {"residual": loss}


model = Burgers()
model.compile(optimizer=keras.optimizers.Adam(1e-3))
model.fit(t_r, x_r, batch_size=512, epochs=1000, verbose=0)
