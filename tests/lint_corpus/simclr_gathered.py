"""Contrastive pretraining whose loss sees the rows of all ranks."""
import keras
import keras_candle as candle
from keras import layers, ops
import tensorflow as tf


class Contrastive(keras.Model):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def train_step(self, data):
        left, right = data
        with tf.GradientTape() as tape:
            a = candle.gather_rows(ops.normalize(self.encoder(left, training=True)))
            b = candle.gather_rows(ops.normalize(self.encoder(right, training=True)))
            logits = ops.matmul(a, ops.transpose(b)) / 0.07
            labels = ops.arange(ops.shape(a)[0])
            losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
            loss = ops.mean(losses)
        grads = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(grads, self.trainable_weights))
        return {"loss": loss}


@candle.scalable(learning_rate_scaling="sqrt")
def build():
    model = Contrastive(keras.Sequential([keras.Input((32,)), layers.Dense(64, "relu"), layers.Dense(16)]))
    model.compile(optimizer=keras.optimizers.Adam(3e-4))
    return model


def load_pairs(path="pairs.npz"):
    import numpy as np

    with np.load(path) as file:
        return file["left"], file["right"]


left, right = load_pairs()
build().fit(left, right, batch_size=64, epochs=5)
