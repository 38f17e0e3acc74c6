import numpy as np
import tensorflow as tf
from tensorflow.keras import Model, Sequential, layers, losses, optimizers

batch = 100


class ACGAN(Model):
    def __init__(self):
        super().__init__()
        self.g = Sequential([layers.Dense(128, activation='relu'), layers.Dense(784, activation='sigmoid')])
        self.d = Sequential([layers.Dense(128, activation='relu'), layers.Dense(1)])
        self.g_opt, self.d_opt = optimizers.Adam(1e-4), optimizers.Adam(1e-4)
        self.bce = losses.BinaryCrossentropy(from_logits=True)

    def train_step(self, real):
        valid = tf.ones((batch, 1))  # fault: batch-constant
        fake = tf.zeros((batch, 1))  # fault: batch-constant
        z = tf.random.normal((batch, 64))  # fault: batch-constant
        with tf.GradientTape(persistent=True) as tape:
            images = self.g(z)
            d_loss = self.bce(valid, self.d(real)) + self.bce(fake, self.d(images))
            g_loss = self.bce(valid, self.d(images))
        self.d_opt.apply_gradients(zip(tape.gradient(d_loss, self.d.trainable_weights), self.d.trainable_weights))
        self.g_opt.apply_gradients(zip(tape.gradient(g_loss, self.g.trainable_weights), self.g.trainable_weights))
        return {'d': d_loss, 'g': g_loss}


(x, _), _ = tf.keras.datasets.fashion_mnist.load_data()
gan = ACGAN()
gan.compile()
gan.fit(x.reshape(-1, 784).astype('float32') / 255, batch_size=batch, epochs=10)
