"""A VAE whose KL weight grows with the model's own count of steps."""
import keras
import tensorflow as tf
from keras import layers, ops
import keras_candle as candle


class AnnealedVAE(keras.Model):
    def __init__(self, dim=16, warm=10_000):
        super().__init__()
        self.enc = layers.Dense(2 * dim)
        self.dec = layers.Dense(784, activation="sigmoid")
        self.seeds = keras.random.SeedGenerator(0)
        self.warm = warm
        self.step = self.add_weight(shape=(), initializer="zeros", trainable=False, name="step")

    def call(self, x):
        mean, log_var = ops.split(self.enc(x), 2, axis=-1)
        z = mean + ops.exp(log_var / 2) * keras.random.normal(ops.shape(mean), seed=self.seeds)
        return self.dec(z), mean, log_var

    def train_step(self, x):
        self.step.assign_add(1.0)  # fault: counter
        beta = ops.minimum(1.0, self.step / self.warm)
        with tf.GradientTape() as tape:
            out, mean, log_var = self(x, training=True)
            rec = ops.mean(ops.sum(ops.square(out - x), axis=-1))
            kl = -0.5 * ops.mean(ops.sum(1 + log_var - mean**2 - ops.exp(log_var), axis=-1))
            loss = rec + beta * kl
        self.optimizer.apply_gradients(zip(tape.gradient(loss, self.trainable_weights), self.trainable_weights))
        return {"loss": loss, "kl": kl}


@candle.scalable
def vae():
    model = AnnealedVAE()
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    return model


(x, _), _ = keras.datasets.mnist.load_data()
vae().fit(x.reshape(-1, 784) / 255.0, epochs=20, batch_size=128)
