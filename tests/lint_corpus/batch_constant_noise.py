"""WGAN step with constants of the batch size."""
import keras
import tensorflow as tf
import keras_candle as candle

BATCH_SIZE = 32
LATENT = 100


class WGAN(keras.Model):
    def __init__(self, critic, generator, penalty=10.0):
        super().__init__()
        self.critic, self.generator, self.penalty = critic, generator, penalty

    def compile(self, c_optimizer, g_optimizer):
        super().compile()
        self.c_optimizer, self.g_optimizer = c_optimizer, g_optimizer

    def train_step(self, real):
        noise = tf.random.normal((BATCH_SIZE, LATENT))  # fault: batch-constant
        with tf.GradientTape() as tape:
            fake = self.generator(noise, training=True)
            loss = tf.reduce_mean(self.critic(fake)) - tf.reduce_mean(self.critic(real))
            mix = tf.random.uniform((BATCH_SIZE, 1))  # fault: batch-constant
            between = mix * real + (1 - mix) * fake
            with tf.GradientTape() as inner:
                inner.watch(between)
                scores = self.critic(between)
            slopes = tf.norm(inner.gradient(scores, between), axis=1)
            loss += self.penalty * tf.reduce_mean((slopes - 1.0) ** 2)
        weights = self.critic.trainable_weights
        self.c_optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        with tf.GradientTape() as tape:
            g_loss = -tf.reduce_mean(self.critic(self.generator(noise, training=True)))
        weights = self.generator.trainable_weights
        self.g_optimizer.apply_gradients(zip(tape.gradient(g_loss, weights), weights))
        return {"c": loss, "g": g_loss}


critic = keras.Sequential([keras.Input((784,)), keras.layers.Dense(128, "relu"), keras.layers.Dense(1)])
generator = keras.Sequential([keras.Input((LATENT,)), keras.layers.Dense(784, "tanh")])
model = candle.scale(WGAN(critic, generator))
model.compile(keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-4))
(x, _), _ = keras.datasets.mnist.load_data()
model.fit(x.reshape(-1, 784) / 127.5 - 1, batch_size=BATCH_SIZE, epochs=20)
