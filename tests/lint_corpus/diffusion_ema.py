"""A diffusion model with an average of its weights, in the manner of DDIM."""
import keras
import math
from keras import layers, ops
import tensorflow as tf
import keras_candle as candle

image_size, ema = 32, 0.999


class DiffusionModel(keras.Model):
    def __init__(self):
        super().__init__()
        self.normalizer = layers.Normalization()
        self.network = keras.Sequential([layers.Conv2D(32, 3, padding="same"), layers.Conv2D(3, 3, padding="same")])
        self.ema_network = keras.models.clone_model(self.network)
        self.seed_generator = keras.random.SeedGenerator()

    def compile(self, **kwargs):
        super().compile(**kwargs)
        self.noise_loss_tracker = keras.metrics.Mean(name="n_loss")

    @property
    def metrics(self):
        return [self.noise_loss_tracker]

    def train_step(self, images):
        images = self.normalizer(images, training=True)
        noises = keras.random.normal(shape=ops.shape(images), seed=self.seed_generator)
        times = keras.random.uniform(shape=(ops.shape(images)[0], 1, 1, 1), seed=self.seed_generator)
        angles = times * math.pi / 2
        noisy = ops.cos(angles) * images + ops.sin(angles) * noises
        with tf.GradientTape() as tape:
            noise_loss = self.loss(noises, self.network(noisy, training=True))
        gradients = tape.gradient(noise_loss, self.network.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.network.trainable_weights))
        self.noise_loss_tracker.update_state(noise_loss)
        for weight, ema_weight in zip(self.network.weights, self.ema_network.weights):
            ema_weight.assign(ema * ema_weight + (1 - ema) * weight)
        return {m.name: m.result() for m in self.metrics}


@candle.scalable(learning_rate_scaling="sqrt")
def build():
    model = DiffusionModel()
    model.compile(optimizer=keras.optimizers.AdamW(1e-3, weight_decay=1e-4), loss=keras.losses.MeanAbsoluteError())
    return model


(x, _), _ = keras.datasets.cifar10.load_data()
model = build()
model.normalizer.adapt(x / 255.0)
model.fit(x / 255.0, epochs=50, batch_size=64)
