"""A teacher that follows the student's weights stays the same on all ranks."""
import keras
import tensorflow as tf
from keras import layers, ops


class BYOL(keras.Model):
    def __init__(self, make, tau=0.996):
        super().__init__()
        self.online, self.target = make(), make()
        self.predictor = keras.Sequential([layers.Dense(128, "relu"), layers.Dense(64)])
        self.target.trainable = False
        self.tau = tau
        self.tracker = keras.metrics.Mean(name="loss")

    def regression(self, p, z):
        return 2 - 2 * ops.sum(ops.normalize(p, axis=-1) * ops.normalize(z, axis=-1), axis=-1)

    def train_step(self, views):
        one, two = views
        with tf.GradientTape() as tape:
            loss = self.regression(self.predictor(self.online(one)), ops.stop_gradient(self.target(two)))
            loss = ops.mean(loss + self.regression(self.predictor(self.online(two)), ops.stop_gradient(self.target(one))))
        weights = self.online.trainable_weights + self.predictor.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        for student, teacher in zip(self.online.weights, self.target.weights):
            teacher.assign(self.tau * teacher + (1 - self.tau) * student)
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}


def make():
    return keras.Sequential([keras.Input((64,)), layers.Dense(256, "relu"), layers.Dense(64)])


model = BYOL(make)
model.compile(optimizer=keras.optimizers.Adam(3e-4))
views = tf.data.Dataset.load("views").shuffle(4096, seed=0).batch(256)
model.fit(views, epochs=100)
