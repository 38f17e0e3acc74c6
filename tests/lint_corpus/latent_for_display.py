"""Batch sizes where they harm nobody: in data, in a callback, as a width."""
import keras
import tensorflow as tf
from keras import layers, ops
import keras_candle as candle

BATCH_SIZE = 64
LATENT_DIM = 64
SHOWN = 16


class Show(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.noise = keras.random.normal((SHOWN, LATENT_DIM), seed=1)

    def on_epoch_end(self, epoch, logs=None):
        images = self.model.generator.predict(self.noise, verbose=0)
        print(epoch, images.mean())


class HingeGAN(keras.Model):
    def __init__(self):
        super().__init__()
        self.generator = keras.Sequential([keras.Input((LATENT_DIM,)), layers.Dense(784, "tanh")])
        self.discriminator = keras.Sequential([keras.Input((784,)), layers.Dense(LATENT_DIM, "relu"), layers.Dense(1)])
        self.seeds = keras.random.SeedGenerator(0)

    def compile(self, generator_optimizer, discriminator_optimizer, **kwargs):
        super().compile(**kwargs)
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer

    def train_step(self, real):
        noise = keras.random.normal((ops.shape(real)[0], LATENT_DIM), seed=self.seeds)
        with tf.GradientTape() as g_tape, tf.GradientTape() as d_tape:
            fake = self.generator(noise, training=True)
            fake_score, real_score = self.discriminator(fake), self.discriminator(real)
            g_loss = -ops.mean(fake_score)
            d_loss = ops.mean(ops.relu(1 - real_score)) + ops.mean(ops.relu(1 + fake_score))
        g, d = self.generator.trainable_variables, self.discriminator.trainable_variables
        self.generator_optimizer.apply_gradients(zip(g_tape.gradient(g_loss, g), g))
        self.discriminator_optimizer.apply_gradients(zip(d_tape.gradient(d_loss, d), d))
        return {"g": g_loss, "d": d_loss}


(x, _), _ = keras.datasets.mnist.load_data()
data = tf.data.Dataset.from_tensor_slices(x.reshape(-1, 784) / 127.5 - 1.0)
data = data.shuffle(60_000, seed=0).batch(BATCH_SIZE, drop_remainder=True)
model = candle.scale(HingeGAN())
model.compile(keras.optimizers.Adam(1e-4), keras.optimizers.Adam(4e-4))
model.fit(data, epochs=3, callbacks=[Show()])
