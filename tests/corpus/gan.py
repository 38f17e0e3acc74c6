"""Two networks that train each other: a compile of its own, two optimizers."""

import keras
import tensorflow as tf
from keras import layers
from sklearn.datasets import load_digits


class Gan(keras.Model):
    def __init__(self, discriminator, generator, width):
        super().__init__()
        self.discriminator, self.generator, self.width = discriminator, generator, width
        self.seed_generator = keras.random.SeedGenerator(5)
        self.trackers = [keras.metrics.Mean(name="d_loss"), keras.metrics.Mean(name="g_loss")]

    @property
    def metrics(self):
        return self.trackers

    def compile(self, d_optimizer, g_optimizer, loss_fn):
        super().compile()
        self.d_optimizer, self.g_optimizer, self.loss_fn = d_optimizer, g_optimizer, loss_fn

    def train_step(self, real):
        rows = tf.shape(real)[0]
        noise = keras.random.normal((rows, self.width), seed=self.seed_generator)
        images = tf.concat([self.generator(noise), real], axis=0)
        labels = tf.concat([tf.ones((rows, 1)), tf.zeros((rows, 1))], axis=0)
        with tf.GradientTape() as tape:
            d_loss = self.loss_fn(labels, self.discriminator(images))
        weights = self.discriminator.trainable_weights
        self.d_optimizer.apply(tape.gradient(d_loss, weights), weights)

        noise = keras.random.normal((rows, self.width), seed=self.seed_generator)
        with tf.GradientTape() as tape:
            guesses = self.discriminator(self.generator(noise))
            g_loss = self.loss_fn(tf.zeros((rows, 1)), guesses)
        weights = self.generator.trainable_weights
        self.g_optimizer.apply(tape.gradient(g_loss, weights), weights)
        for tracker, value in zip(self.trackers, (d_loss, g_loss), strict=True):
            tracker.update_state(value)
        return {tracker.name: tracker.result() for tracker in self.trackers}


digits = load_digits().data.astype("float32") / 16
dataset = tf.data.Dataset.from_tensor_slices(digits).shuffle(512).batch(64)
discriminator = keras.Sequential([keras.Input((64,)), layers.Dense(16), layers.Dense(1)])
generator = keras.Sequential([keras.Input((8,)), layers.Dense(64, activation="sigmoid")])
model = Gan(discriminator, generator, width=8)
model.compile(
    d_optimizer=keras.optimizers.Adam(0.0002),
    g_optimizer=keras.optimizers.Adam(0.0002),
    loss_fn=keras.losses.BinaryCrossentropy(from_logits=True),
)
history = model.fit(dataset.take(25), epochs=2, verbose=2)
score = history.history["d_loss"][-1]
