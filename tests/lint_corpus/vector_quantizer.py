"""VQ-VAE whose code book follows the batch by exponential averages."""
import keras
import tensorflow as tf
from keras import layers


class VectorQuantizerEMA(layers.Layer):
    def __init__(self, codes, dim, decay=0.99, **kwargs):
        super().__init__(**kwargs)
        self.codes, self.dim, self.decay = codes, dim, decay
        self.book = self.add_weight(shape=(dim, codes), initializer="random_uniform", trainable=False, name="book")
        self.sizes = self.add_weight(shape=(codes,), initializer="ones", trainable=False, name="sizes")

    def call(self, x, training=False):
        flat = tf.reshape(x, [-1, self.dim])
        distances = (
            tf.reduce_sum(flat**2, axis=1, keepdims=True)
            - 2 * tf.matmul(flat, self.book)
            + tf.reduce_sum(tf.convert_to_tensor(self.book) ** 2, axis=0)
        )
        hot = tf.one_hot(tf.argmin(distances, axis=1), self.codes)
        if training:
            self.sizes.assign(self.decay * self.sizes + (1 - self.decay) * tf.reduce_sum(hot, axis=0))  # fault: batch-state
            sums = tf.matmul(flat, hot, transpose_a=True)
            self.book.assign(self.decay * self.book + (1 - self.decay) * sums / self.sizes)  # fault: batch-state
        quantized = tf.reshape(tf.matmul(hot, tf.transpose(self.book)), tf.shape(x))
        self.add_loss(0.25 * tf.reduce_mean((tf.stop_gradient(quantized) - x) ** 2))
        return x + tf.stop_gradient(quantized - x)


inputs = keras.Input((28, 28, 1))
h = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu")(inputs)
h = layers.Conv2D(16, 1)(h)
h = VectorQuantizerEMA(64, 16)(h)
outputs = layers.Conv2DTranspose(1, 3, strides=2, padding="same")(h)
vqvae = keras.Model(inputs, outputs)
vqvae.compile(optimizer=keras.optimizers.Adam(), loss="mse")
(x_train, _), _ = keras.datasets.mnist.load_data()
x_train = x_train[..., None] / 255.0 - 0.5
vqvae.fit(x_train, x_train, epochs=30, batch_size=128)
