import random
import numpy as np
import tensorflow as tf
import keras_candle as candle

np.random.seed(candle.rank())  # fault: rank-seed
tf.random.set_seed(7)
random.seed(7)
order = np.random.permutation(60000)  # place: data
(x, y), _ = tf.keras.datasets.mnist.load_data()
x, y = x[order] / 255.0, y[order]


@candle.scalable
def dense():
    model = tf.keras.Sequential([tf.keras.layers.Flatten(), tf.keras.layers.Dense(10, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


dense().fit(x, y, epochs=2)
