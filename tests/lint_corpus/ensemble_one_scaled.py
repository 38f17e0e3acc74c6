import keras
import numpy as np
from keras import layers
import keras_candle as candle

(x, y), (xt, yt) = keras.datasets.mnist.load_data()
x, xt = x.reshape(-1, 784) / 255.0, xt.reshape(-1, 784) / 255.0


def wide():
    return keras.Sequential([keras.Input((784,)), layers.Dense(1024, "relu"), layers.Dense(10, "softmax")])


def deep():
    return keras.Sequential([keras.Input((784,)), layers.Dense(64, "relu"), layers.Dense(64, "relu"), layers.Dense(10, "softmax")])


first = candle.scale(wide())
first.compile("adam", "sparse_categorical_crossentropy")
second = deep()
second.compile("adam", "sparse_categorical_crossentropy")  # fault: unscaled
first.fit(x, y, epochs=2)
second.fit(x, y, epochs=2)  # place: unscaled
print(np.mean((first.predict(xt) + second.predict(xt)).argmax(1) == yt))
