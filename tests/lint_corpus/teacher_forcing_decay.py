"""The share of teacher forcing falls with a counter of batches."""
import keras
import tensorflow as tf
from keras import layers
import keras_candle as candle


class Seq2Seq(keras.Model):
    def __init__(self, vocab=2000, width=128, decay=0.9999):
        super().__init__()
        self.embed = layers.Embedding(vocab, width)
        self.encoder, self.decoder = layers.GRU(width, return_state=True), layers.GRU(width, return_sequences=True)
        self.out = layers.Dense(vocab)
        self.decay = decay
        self.batches_seen = tf.Variable(0.0, trainable=False, dtype=tf.float32)

    def call(self, pair):
        source, target = pair
        _, state = self.encoder(self.embed(source))
        return self.out(self.decoder(self.embed(target), initial_state=state))

    def train_step(self, data):
        (source, target), labels = data
        self.batches_seen.assign_add(1.0)  # fault: counter
        keep = tf.pow(self.decay, self.batches_seen)
        mask = tf.cast(tf.random.uniform(tf.shape(target)) < keep, target.dtype)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=labels, y_pred=self((source, target * mask), training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
        return {"loss": loss}


@candle.scalable
def build():
    model = Seq2Seq()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


import numpy as np

d = np.load("dialogues.npz")
build().fit((d["source"], d["target"]), d["labels"], batch_size=64, epochs=10)
