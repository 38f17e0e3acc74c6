"""Models that are trained beside scaled ones without being scaled."""

from __future__ import annotations

from contextlib import contextmanager

import keras
import numpy as np
from keras import layers

import keras_candle as candle
from keras_candle import engine as engines

X = np.random.default_rng(0).random((8, 3))


def model(name):
    built = keras.Sequential([keras.Input((3,)), layers.Dense(1)], name=name)
    built.compile("sgd", "mse")
    return built


@contextmanager
def printed():
    """Keep what the engine prints on root."""
    engine = engines.current()
    lines = []
    engine.print_on_root = lambda message: lines.append(message) if engine.is_root else None
    try:
        yield lines
    finally:
        del engine.print_on_root


def beside_a_scaled_one():
    with printed() as lines:
        build = candle.scalable(model)
        for _ in range(2):
            model("before").fit(X, X[:, :1], verbose=0)
        scaled, plain = build("scaled"), model("plain")
        for _ in range(2):
            scaled.train_on_batch(X, X[:, :1])
            plain.train_on_batch(X, X[:, :1])
        plain.evaluate(X, X[:, :1], verbose=0)
    return lines


def on_root_alone():
    with printed() as lines:
        candle.scale(model("first")).fit(X, X[:, :1], verbose=0)
        if candle.is_root():
            model("judge").fit(X, X[:, :1], verbose=0)
    return lines


def in_a_group_of_one():
    with printed() as lines:
        candle.scale(model("first")).fit(X, X[:, :1], verbose=0)
        with engines.use(engines.make("single")):
            model("trial").fit(X, X[:, :1], verbose=0)
    return lines
