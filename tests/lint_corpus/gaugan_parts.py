"""Discriminator and generator steps as methods; optimizers made in compile."""
import keras
import tensorflow as tf
from keras import layers, ops
import keras_candle as candle


class GauGAN(keras.Model):
    def __init__(self, image_size=64, latent_dim=128, **kwargs):
        super().__init__(**kwargs)
        self.latent_dim = latent_dim
        self.discriminator = keras.Sequential([layers.Conv2D(32, 4, 2), layers.LeakyReLU(), layers.Conv2D(1, 4)])
        self.generator = keras.Sequential([layers.Dense(image_size**2 * 3), layers.Reshape((image_size, image_size, 3))])
        self.encoder = keras.Sequential([layers.Conv2D(16, 3, 2), layers.Flatten(), layers.Dense(2 * latent_dim)])
        self.seed_generator = keras.random.SeedGenerator(1337)
        self.trackers = {name: keras.metrics.Mean(name=name) for name in ("d", "g", "kl")}

    @property
    def metrics(self):
        return list(self.trackers.values())

    def compile(self, gen_lr=1e-4, disc_lr=4e-4, **kwargs):
        super().compile(**kwargs)
        self.generator_optimizer = keras.optimizers.Adam(gen_lr, beta_1=0.0, beta_2=0.999)
        self.discriminator_optimizer = keras.optimizers.Adam(disc_lr, beta_1=0.0, beta_2=0.999)

    def train_discriminator(self, latent, real):
        fake = self.generator(latent)
        with tf.GradientTape() as tape:
            loss = ops.mean(ops.relu(1 + self.discriminator(fake))) + ops.mean(ops.relu(1 - self.discriminator(real)))
        gradients = tape.gradient(loss, self.discriminator.trainable_variables)
        self.discriminator_optimizer.apply_gradients(zip(gradients, self.discriminator.trainable_variables))
        return loss

    def train_generator(self, latent, mean, variance):
        with tf.GradientTape() as tape:
            kl = -0.5 * ops.mean(ops.sum(1 + variance - ops.square(mean) - ops.exp(variance), axis=1))
            loss = -ops.mean(self.discriminator(self.generator(latent))) + 0.1 * kl
        gradients = tape.gradient(loss, self.generator.trainable_variables)
        self.generator_optimizer.apply_gradients(zip(gradients, self.generator.trainable_variables))
        return loss, kl

    def train_step(self, image):
        mean, variance = ops.split(self.encoder(image), 2, axis=-1)
        noise = keras.random.normal(ops.shape(mean), seed=self.seed_generator)
        latent = mean + ops.exp(0.5 * variance) * noise
        d = self.train_discriminator(latent, image)
        g, kl = self.train_generator(latent, mean, variance)
        for name, value in (("d", d), ("g", g), ("kl", kl)):
            self.trackers[name].update_state(value)
        return {m.name: m.result() for m in self.metrics}


@candle.scalable
def build():
    model = GauGAN()
    model.compile()
    return model


facades = keras.utils.image_dataset_from_directory("facades", label_mode=None, image_size=(64, 64), batch_size=4, seed=1)
build().fit(facades, epochs=15)
