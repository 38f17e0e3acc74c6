"""Models whose row i continues where row i of the previous batch ended."""

from __future__ import annotations

import keras
import numpy as np

import keras_candle as candle
from keras_candle import engine as engines

ROWS, STEPS = 4, 3


def streams(seed, batches):
    """Rows i of successive batches are one sequence."""
    x = np.random.default_rng(seed).normal(size=(batches * ROWS, STEPS, 2)).astype("float32")
    return x, x.sum(axis=(1, 2)).reshape(-1, 1)


def model_of(kind):
    layers = keras.layers
    inputs = keras.Input(batch_shape=(ROWS, STEPS, 2))
    if kind == "bidirectional":
        hidden = layers.Bidirectional(layers.GRU(2, stateful=True))(inputs)
    elif kind == "nested":
        inner = keras.Sequential([keras.Input(batch_shape=(ROWS, STEPS, 2)), recurrent()])
        hidden = inner(inputs)
    else:
        hidden = recurrent()(inputs)
    model = keras.Model(inputs, layers.Dense(1)(hidden))
    model.compile("sgd", "mse")
    return model


def recurrent():
    return keras.layers.LSTM(3, stateful=True)


def refused(method, kind="lstm", **options):
    x, y = streams(0, 4)
    model = candle.scale(model_of(kind), **options)
    if method == "fit":
        model.fit(x, y, batch_size=ROWS, shuffle=False, verbose=0)
    elif method == "evaluate":
        model.evaluate(x, y, batch_size=ROWS, verbose=0)
    else:
        model.train_on_batch(x[:ROWS], y[:ROWS])


def predicted():
    """Whether predict on ranks that divide it is what one rank predicts."""
    x, _ = streams(0, 4)
    keras.utils.set_random_seed(1)
    plain = model_of("lstm")
    expected = plain.predict(x, batch_size=ROWS, verbose=0)
    plain.layers[1].reset_state()
    found = candle.scale(plain, shard_predict=True).predict(x, batch_size=ROWS, verbose=0)
    return bool(np.array_equal(expected, found))


def own_streams():
    """(state of this rank's sequences after a fit, weights) and what they would be."""
    rank, size = engines.current().rank, engines.current().size
    keras.utils.set_random_seed(1)
    model = candle.scale(model_of("lstm"), shard=False, learning_rate_scaling=None)
    data = [streams(each, 4) for each in range(size)]
    model.fit(*data[rank], batch_size=ROWS, shuffle=False, epochs=2, verbose=0)

    keras.utils.set_random_seed(1)
    whole = model_of("lstm")
    states = [[np.zeros((ROWS, 3), "float32")] * 2 for _ in data]
    optimizer = keras.optimizers.SGD(0.01)
    import tensorflow as tf

    for batch in (slice(i, i + ROWS) for _ in range(2) for i in range(0, 4 * ROWS, ROWS)):
        gradients = []
        for number, (x, y) in enumerate(data):
            for variable, value in zip(whole.layers[1].states, states[number], strict=True):
                variable.assign(value)
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((whole(x[batch], training=True) - y[batch]) ** 2)
            gradients.append(tape.gradient(loss, whole.trainable_weights))
            states[number] = [np.array(each) for each in whole.layers[1].states]
        mean = [sum(each) / size for each in zip(*gradients, strict=True)]
        optimizer.apply(mean, whole.trainable_weights)

    def close(one, other):
        pairs = zip(one, other, strict=True)
        return all(np.allclose(np.array(a), np.array(b), atol=1e-5) for a, b in pairs)

    same_state = close(model.layers[1].states, states[rank])
    return same_state, close(model.trainable_weights, whole.trainable_weights)
