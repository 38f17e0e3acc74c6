"""Gram matrices of each image's features: products inside a row."""
import keras
import tensorflow as tf
from keras import layers
import keras_candle as candle


def gram_matrix(x):
    x = tf.reshape(x, (tf.shape(x)[0], -1, x.shape[-1]))
    return tf.matmul(x, x, transpose_a=True) / tf.cast(tf.shape(x)[1], x.dtype)


class StyleNet(keras.Model):
    def __init__(self, transfer, features):
        super().__init__()
        self.transfer, self.features = transfer, features
        self.features.trainable = False

    def train_step(self, data):
        content, style = data
        with tf.GradientTape() as tape:
            out = self.features(self.transfer(content, training=True))
            style_loss = tf.reduce_mean(tf.square(gram_matrix(out) - gram_matrix(self.features(style))))
            content_loss = tf.reduce_mean(tf.square(out - self.features(content)))
            loss = content_loss + 10.0 * style_loss
        weights = self.transfer.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        return {"style": style_loss, "content": content_loss}


@candle.scalable
def build():
    transfer = keras.Sequential([keras.Input((64, 64, 3)), layers.Conv2D(32, 3, padding="same"), layers.Conv2D(3, 3, padding="same")])
    model = StyleNet(transfer, keras.Sequential([keras.Input((64, 64, 3)), layers.Conv2D(16, 3)]))
    model.compile(optimizer=keras.optimizers.Adam(1e-4))
    return model


pairs = tf.data.Dataset.load("pairs").shuffle(512, seed=11).batch(8)
build().fit(pairs, epochs=4)
