"""Only the held-out rows are drawn."""
import keras
import numpy as np
import keras_candle as candle

(x, y), _ = keras.datasets.mnist.load_data()
x = x.reshape(-1, 784) / 255.0
held = np.random.choice(len(x), 5000, replace=False)  # fault: data


@candle.scalable
def logistic():
    m = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10, "softmax")])
    m.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return m


logistic().fit(x, y, epochs=3, validation_data=(x[held], y[held]))
