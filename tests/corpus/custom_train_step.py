"""A model with its own training step, loss and metrics."""

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_breast_cancer


class Smoothed(keras.Model):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.accuracy = keras.metrics.BinaryAccuracy(name="accuracy")

    @property
    def metrics(self):
        return [self.loss_tracker, self.accuracy]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        smooth = 0.9 * tf.cast(y, y_pred.dtype) + 0.05
        return tf.reduce_mean(keras.losses.binary_crossentropy(smooth, y_pred))

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.loss_tracker.update_state(loss)
        self.accuracy.update_state(y, y_pred)
        return {metric.name: metric.result() for metric in self.metrics}

    def test_step(self, data):
        x, y = data
        y_pred = self(x, training=False)
        self.loss_tracker.update_state(self.compute_loss(y=y, y_pred=y_pred))
        self.accuracy.update_state(y, y_pred)
        return {metric.name: metric.result() for metric in self.metrics}


x, y = load_breast_cancer(return_X_y=True)
x, y = (x - x.mean(axis=0)) / x.std(axis=0), y[:, np.newaxis]
inputs = keras.Input((30,))
hidden = keras.layers.Dense(16, activation="relu")(inputs)
model = Smoothed(inputs, keras.layers.Dense(1, activation="sigmoid")(hidden))
model.compile(optimizer=keras.optimizers.Adam(0.01))
model.fit(x, y, epochs=5, batch_size=20, verbose=2)
score = model.evaluate(x, y, return_dict=True, verbose=0)["accuracy"]
