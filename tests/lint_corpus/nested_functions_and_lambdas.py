"""Everything in closures, with names used twice."""
import functools
import keras
import numpy as np
import tensorflow as tf
import keras_candle as candle


def experiment(seed):
    rng = np.random.default_rng(seed)

    def sample(n):
        x = rng.uniform(-3, 3, (n, 1))
        return x, np.sin(x) + rng.normal(0, 0.1, (n, 1))

    @candle.scalable(batch="global")
    def model():
        inputs = keras.Input((1,))
        x = functools.reduce(lambda h, w: keras.layers.Dense(w, "tanh")(h), (16, 16), inputs)
        net = keras.Model(inputs, keras.layers.Dense(1)(x))
        net.compile("adam", "mse")
        return net

    x, y = sample(1000)
    net = model()
    net.fit(x, y, epochs=50, batch_size=100, verbose=0)
    shuffle = lambda items: list(reversed(items))
    return shuffle([float(net.evaluate(x, y, verbose=0))])


print([experiment(seed) for seed in range(3)])
