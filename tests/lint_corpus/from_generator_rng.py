import keras
import numpy as np
import tensorflow as tf
import keras_candle as candle

keras.utils.set_random_seed(0)
signal = np.load("signal.npy")


def windows():
    rng = np.random.default_rng()  # fault: generator
    for start in rng.permutation(len(signal) - 100):  # place: generator
        yield signal[start : start + 99], signal[start + 99]


dataset = tf.data.Dataset.from_generator(
    windows,
    output_signature=(tf.TensorSpec((99,), tf.float32), tf.TensorSpec((), tf.float32)),
).batch(32)


@candle.scalable
def network():
    model = keras.Sequential([keras.Input((99,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


network().fit(dataset, epochs=4)
