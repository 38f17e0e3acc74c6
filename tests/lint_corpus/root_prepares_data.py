"""Root prepares files, all wait by a barrier of the engine; nothing hangs."""
import os
import keras
import numpy as np
import keras_candle as candle

if candle.is_root() and not os.path.exists("prepared.npz"):
    (x, y), _ = keras.datasets.mnist.load_data()
    np.savez("prepared.npz", x=x.reshape(-1, 784) / 255.0, y=y)
candle.engine.start()
candle.engine.current().barrier()
with np.load("prepared.npz") as file:
    x, y = file["x"], file["y"]


@candle.scalable
def net():
    m = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10, "softmax")])
    m.compile("sgd", "sparse_categorical_crossentropy")
    return m


model = net()
model.fit(x, y, epochs=2, verbose=2 if candle.rank() == 0 else 0)
