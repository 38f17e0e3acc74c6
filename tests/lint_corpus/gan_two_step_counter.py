"""Critic five times, generator once: by a counter of the model's own."""
import keras
import tensorflow as tf
import keras_candle as candle


class Alternating(keras.Model):
    def __init__(self, critic, generator, latent=32):
        super().__init__()
        self.critic, self.generator, self.latent = critic, generator, latent
        self.turn = tf.Variable(0, trainable=False)
        self.seeds = keras.random.SeedGenerator(2)

    def compile(self, critic_optimizer, generator_optimizer):
        super().compile()
        self.critic_optimizer = critic_optimizer
        self.generator_optimizer = generator_optimizer

    def train_step(self, real):
        self.turn.assign_add(1)
        noise = keras.random.normal((tf.shape(real)[0], self.latent), seed=self.seeds)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self.critic(self.generator(noise)) - self.critic(real))
        weights = self.critic.trainable_weights
        self.critic_optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        with tf.GradientTape() as tape:
            reward = -tf.reduce_mean(self.critic(self.generator(noise)))
        weights = self.generator.trainable_weights
        rate = tf.where(self.turn % 5 == 0, 1.0, 0.0)
        grads = [g * rate for g in tape.gradient(reward, weights)]
        self.generator_optimizer.apply_gradients(zip(grads, weights))
        return {"critic": loss}


critic = keras.Sequential([keras.Input((784,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(1)])
generator = keras.Sequential([keras.Input((32,)), keras.layers.Dense(784)])
model = candle.scale(Alternating(critic, generator))
model.compile(keras.optimizers.RMSprop(5e-5), keras.optimizers.RMSprop(5e-5))
(x, _), _ = keras.datasets.mnist.load_data()
model.fit(x.reshape(-1, 784) / 255.0, batch_size=100, epochs=2)
