"""Subclasses that override fit, evaluate and their like, and calls inside of other calls."""

from __future__ import annotations

import json
import os
from pathlib import Path

import keras
import numpy as np
from keras import layers, optimizers

import keras_candle as candle
from keras_candle import engine as engines
from tests.training import cases

EXACT = {"batch": "global", "learning_rate_scaling": None}


class Network(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(8, activation="tanh")
        self.outcome = layers.Dense(3, activation="softmax")

    def call(self, x):
        return self.outcome(self.hidden(x))


class Preprocessing(Network):
    """Maps the data on their way to Keras, validation data in `evaluate`: a task of KerasHub."""

    def batches(self, x, y, batch_size):
        import tensorflow as tf

        data = tf.data.Dataset.from_tensor_slices(x if y is None else (x, y))
        halve = (lambda a: a / 2) if y is None else (lambda a, b: (a / 2, b))
        return data.batch(batch_size or 32).map(halve)

    def fit(self, x=None, y=None, *, batch_size=None, validation_data=None, **kwargs):
        data = self.batches(x, y, batch_size)
        return super().fit(data, batch_size=None, validation_data=validation_data, **kwargs)

    def evaluate(self, x=None, y=None, *, batch_size=None, **kwargs):
        kwargs.pop("_use_cached_eval_dataset", None)  # Keras's own is not mapped
        kwargs.pop("sample_weight", None)
        return super().evaluate(x=self.batches(x, y, batch_size), batch_size=None, **kwargs)

    def predict(self, x=None, *, batch_size=None, **kwargs):
        return super().predict(self.batches(x, None, batch_size), batch_size=None, **kwargs)

    def train_on_batch(self, x, y=None, **kwargs):
        return super().train_on_batch(x / 2, y=y, **kwargs)

    def test_on_batch(self, x, y=None, **kwargs):
        return super().test_on_batch(x / 2, y=y, **kwargs)

    def predict_on_batch(self, x, **kwargs):
        return super().predict_on_batch(x / 2, **kwargs)


class Positional(Network):
    """Names of its own, and Keras's arguments by their places."""

    def fit(self, features, labels, rounds, **rest):
        held_out = rest["validation_data"]
        return super().fit(features, labels, 12, rounds, 0, None, 0.0, held_out, False)


class Doubling:
    """A mixin between a model and Keras's own methods."""

    def fit(self, *args, **kwargs):
        x, *rest = args
        return super().fit(2 * x, *rest, **kwargs)

    def evaluate(self, *args, **kwargs):
        return super().evaluate(*args, **kwargs)


class Levels(Doubling, Preprocessing):
    pass


class Loop(Network):
    """One fit for each epoch, with an evaluation between them."""

    def fit(self, x, y, epochs, **kwargs):
        losses = []
        for epoch in range(epochs):
            super().fit(x, y, initial_epoch=epoch, epochs=epoch + 1, **kwargs)
            losses.append(self.evaluate(x[:7], y[:7], verbose=0, return_dict=True)["loss"])
        self.history.history["losses"] = losses
        return self.history


class OwnCallbacks(Network):
    """Callbacks that nobody sees before Keras's own fit."""

    def fit(self, *args, **kwargs):
        self.plateau = keras.callbacks.ReduceLROnPlateau("val_loss", patience=0, min_delta=1.0)
        return super().fit(*args, callbacks=[self.plateau], **kwargs)


class Unbound(Network):
    """Calls Keras's methods by the class."""

    def fit(self, *args, **kwargs):
        return keras.Model.fit(self, *args, **kwargs)


KINDS = {
    kind.__name__: kind for kind in (Preprocessing, Levels, Loop, OwnCallbacks, Unbound, Positional)
}


def compiled(kind):
    def build():
        model = KINDS[kind]()
        model.compile(optimizers.SGD(0.5), cases.SPARSE_LOSS, metrics=["accuracy"])
        return model

    return build


def overriding(kind):
    x, y = cases.digits_like()
    fit = {"epochs": 2, "validation_data": (x[:31] + 1, y[:31])}
    if kind == "Positional":
        fit["rounds"] = fit["epochs"]
    return cases.train_both(compiled(kind), (x, y), fit, EXACT)


def by_batches():
    """The methods for a batch and predict, each of which maps its data exactly once."""
    x, y = cases.digits_like(rows=30)
    engine, plain = engines.current(), None

    def used(model):
        logs = [model.train_on_batch(x, y), model.test_on_batch(x, y), model.evaluate(x, y)]
        seen = [model.predict(x, verbose=0), model.predict_on_batch(x)]
        return [float(each) for each in np.ravel(logs)], seen

    keras.utils.set_random_seed(7)
    if engine.is_root:
        plain = used(compiled("Preprocessing")())
    keras.utils.set_random_seed(7)
    logs, seen = used(candle.scale(compiled("Preprocessing")(), **EXACT))
    plain_logs, plain_seen = engine.broadcast(plain)
    apart = [np.abs(np.subtract(a, b)).max() for a, b in zip(seen, plain_seen, strict=True)]
    return float(np.max([np.abs(np.subtract(logs, plain_logs)).max(), *apart]))


class Within(keras.callbacks.Callback):
    """Calls the model's own methods, or another model's, while it is being trained."""

    def __init__(self, what, other):
        super().__init__()
        self.what, self.other = what, other

    def on_epoch_end(self, epoch, logs=None):
        # Two rows: with three ranks one of them has none, which the outer training never sees.
        x, y = cases.digits_like(rows=2, seed=5)
        if self.what == "evaluate":
            logs["seen"] = self.model.evaluate(x, y, verbose=0)[0]
        elif self.what == "train_on_batch":
            logs["seen"] = self.model.train_on_batch(x, y)[0]
        else:
            logs["seen"] = self.other.fit(x, y, verbose=0).history["loss"][0]


class Calling(keras.Sequential):
    """Makes its callback itself, and so once on each number of ranks."""

    def fit(self, *args, what, **kwargs):
        other = cases.dense_model(optimizer="sgd")
        if hasattr(self, "_candle_trainer"):
            candle.scale(other, **EXACT)
        return super().fit(*args, callbacks=[Within(what, other)], **kwargs)


def within_fit(what):
    def build():
        model = Calling([keras.Input((8,)), layers.Dense(3, activation="softmax")])
        model.compile(optimizers.SGD(0.5), cases.SPARSE_LOSS, metrics=["accuracy"])
        return model

    fit = {"epochs": 3, "what": what, "shuffle": False}
    return cases.train_both(build, cases.digits_like(rows=96), fit, EXACT)


class Described(Network):
    """Writes a file of its own beside the model's, and names it after it."""

    def save(self, folder):
        path = Path(folder) / "model.weights.h5"
        self.save_weights(path)
        return self.written(path)

    def save_weights(self, filepath, *args, **kwargs):
        super().save_weights(filepath, *args, **kwargs)
        Path(filepath).with_suffix(".json").write_text(json.dumps({"rank": candle.rank()}))

    def written(self, path):
        return [each.name for each in sorted(path.parent.iterdir())]


def saved(folder):
    model = Described()
    model.compile(optimizers.SGD(0.5), cases.SPARSE_LOSS)
    candle.scale(model)
    model.fit(*cases.digits_like(rows=24), verbose=0)
    model.save(folder)
    return sorted(os.listdir(folder)), json.loads(Path(folder, "model.weights.json").read_text())


class OwnDurability(Preprocessing):
    """Makes its CandleCallback itself."""

    def fit(self, *args, folder, **kwargs):
        return super().fit(*args, callbacks=[candle.CandleCallback(folder)], **kwargs)


def durable(kind, folder):
    """Weights of a training of four epochs, and of one that is resumed after two."""
    x, y = cases.digits_like(rows=24)
    trained = []
    for name, parts in (("whole", (4,)), ("resumed", (2, 4))):
        for epochs in parts:
            keras.utils.set_random_seed(7)
            model = OwnDurability() if kind == "inside" else Preprocessing()
            model.compile(optimizers.Adam(0.1), cases.SPARSE_LOSS)
            candle.scale(model, **EXACT)
            where = {"folder": f"{folder}/{name}"}
            if kind == "given":
                where = {"callbacks": [candle.CandleCallback(where["folder"])]}
            held_out = (x[:5], y[:5])
            model.fit(x, y, epochs=epochs, verbose=0, validation_data=held_out, **where)
        trained.append(np.concatenate([each.ravel() for each in cases.weights_of(model)]).tobytes())
    return trained
