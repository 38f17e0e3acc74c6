"""A similarity of row i with row i only."""
import keras
import tensorflow as tf
from keras import layers, ops


class TwoTower(keras.Model):
    def __init__(self, users, items, width=32):
        super().__init__()
        self.users, self.items = layers.Embedding(users, width), layers.Embedding(items, width)

    def call(self, pair):
        user, item = pair
        u, i = ops.normalize(self.users(user), axis=-1), ops.normalize(self.items(item), axis=-1)
        return ops.sum(u * i, axis=-1)

    def train_step(self, data):
        pair, clicked = data
        with tf.GradientTape() as tape:
            score = self(pair, training=True)
            loss = ops.mean(keras.losses.binary_crossentropy(clicked[:, None], score[:, None], from_logits=True))
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights))
        return {"loss": loss}


import numpy as np

clicks = np.load("clicks.npz")
model = TwoTower(10_000, 5_000)
model.compile(optimizer=keras.optimizers.Adagrad(0.1))
model.fit((clicks["user"], clicks["item"]), clicks["clicked"].astype("float32"), batch_size=1024, epochs=3)
