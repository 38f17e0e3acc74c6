import tensorflow as tf
from tensorflow.keras import layers, Model, Input
import keras_candle as candle


class FixedMask(layers.Layer):
    """Drops the same features for ever."""

    def __init__(self, dim, rate=0.3):
        super().__init__()
        self.mask = tf.cast(tf.random.uniform((dim,)) > rate, tf.float32)  # fault: layer-constant

    def call(self, x):
        return x * self.mask


@candle.scalable
def create():
    i = Input((784,))
    o = layers.Dense(10, activation="softmax")(FixedMask(784)(i))
    m = Model(i, o)
    m.compile("adam", "sparse_categorical_crossentropy")
    return m


(x, y), _ = tf.keras.datasets.mnist.load_data()
create().fit(x.reshape(-1, 784) / 255.0, y, epochs=2, batch_size=64)
