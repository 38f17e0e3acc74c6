import keras
import numpy as np
import keras_candle as candle

x = np.random.uniform(size=(500, 4))  # fault: data
y = x.sum(axis=1)
keras.utils.set_random_seed(0)


@candle.scalable
def net():
    m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    m.compile("sgd", "mse")
    return m


net().fit(x, y, epochs=5)
