"""A subclassed autoencoder: a loss from inside, and trackers that the model resets itself."""

import keras
from keras import layers, ops
from sklearn.datasets import load_digits


class Sampling(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(11)

    def call(self, mean, log_variance):
        noise = keras.random.normal(ops.shape(mean), seed=self.seed_generator)
        return mean + ops.exp(0.5 * log_variance) * noise


class Autoencoder(keras.Model):
    def __init__(self, width):
        super().__init__()
        self.hidden = layers.Dense(32, activation="relu")
        self.mean, self.log_variance = layers.Dense(width), layers.Dense(width)
        self.sampling = Sampling()
        self.decoder = keras.Sequential(
            [layers.Dense(32, activation="relu"), layers.Dense(64, activation="sigmoid")]
        )
        self.divergence_tracker = keras.metrics.Mean(name="divergence")

    def call(self, inputs):
        hidden = self.hidden(inputs)
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        divergence = -0.5 * ops.mean(log_variance - mean**2 - ops.exp(log_variance) + 1)
        self.add_loss(0.001 * divergence)
        self.divergence_tracker.update_state(divergence)
        return self.decoder(self.sampling(mean, log_variance))


x = load_digits().data.astype("float32") / 16
model = Autoencoder(8)
model.compile(optimizer=keras.optimizers.Adam(0.003), loss=keras.losses.MeanSquaredError())
model.fit(x, x, epochs=8, batch_size=32, verbose=2)
score = 1 - model.evaluate(x, x, return_dict=True, verbose=0)["loss"] / x.var()
