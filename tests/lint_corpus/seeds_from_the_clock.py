"""A seed that each rank takes from its own clock is no seed."""
import time
import numpy as np
import keras
import keras_candle as candle

np.random.seed(int(time.time() * 1000) % 2**31)  # fault: data, rank-seed
x = np.random.rand(400, 6)  # place: data
y = x.mean(axis=1)


@candle.scalable
def net():
    m = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    m.compile("sgd", "mse")
    return m


net().fit(x, y, epochs=3)
