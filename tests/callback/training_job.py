"""A training that a test kills and starts again: python -m tests.callback.training_job JSON."""

from __future__ import annotations

import json
import os
import signal
import sys

import keras
import numpy as np

import keras_candle as candle
from keras_candle.launcher_messages import restarts


class Counter(keras.callbacks.Callback):
    """A user's callback, with a state of its own."""

    def __init__(self):
        super().__init__()
        self.batches = 0
        self.drawn = []

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        self.drawn.append(float(np.random.random()))


class KilledError(Exception):
    pass


class Killer(keras.callbacks.Callback):
    """Ends the training when the optimizer has taken so many steps: by a signal, or an error."""

    def __init__(self, step, number=None):
        super().__init__()
        self._at = (step, number)

    def on_train_batch_end(self, batch, logs=None):
        step, number = self._at
        if int(self.model.optimizer.iterations.numpy()) != step:
            return
        if number is None:
            raise KilledError
        os.kill(os.getpid(), number)


def build(kind):
    inputs = keras.Input((8,))
    hidden = keras.layers.Dense(12, "relu")(inputs)
    if kind != "plain":
        hidden = keras.layers.BatchNormalization()(hidden)
        hidden = keras.layers.Dropout(0.3)(hidden)
    model = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    rate = 0.01
    if kind == "schedule":
        rate = keras.optimizers.schedules.CosineDecay(0.02, 60)
    optimizer = keras.optimizers.Adam(rate, use_ema=kind == "rich")
    model.compile(optimizer, "mse", metrics=["mae"])
    return model


def data_of(kind, x, y):
    import tensorflow as tf

    if kind == "arrays":
        return {"x": x, "y": y, "batch_size": 8}
    if kind == "dataset":
        return {"x": tf.data.Dataset.from_tensor_slices((x, y)).shuffle(50, seed=3).batch(8)}
    if kind == "half passes":
        return {"x": x[:48], "y": y[:48], "batch_size": 8, "steps_per_epoch": 3}
    if kind == "infinite":
        whole = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(50, seed=3).repeat().batch(8)
        return {"x": whole, "steps_per_epoch": 6}
    if kind == "pydataset":
        return {"x": Batches(x, y), "shuffle": True}
    assert kind == "generator"
    return {"x": endless(x, y), "steps_per_epoch": 6}


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self._x, self._y, self._order = x, y, np.arange(len(x))

    def __len__(self):
        return len(self._x) // 8

    def __getitem__(self, i):
        rows = self._order[8 * i : 8 * i + 8]
        return self._x[rows], self._y[rows]

    def on_epoch_end(self):
        np.random.shuffle(self._order)


def endless(x, y):
    order = np.random.default_rng(5)
    while True:
        rows = order.integers(len(x), size=8)
        yield x[rows], y[rows]


def train(run, kind="rich", data="arrays", epochs=4, seed=1, kill=None, options=None, **checkpoint):
    """Returns what a training ended with: all that must be the same when it was interrupted."""
    keras.utils.set_random_seed(seed)
    random = np.random.default_rng(0)
    x = random.normal(size=(50, 8)).astype("float32")
    y = random.normal(size=(50, 3)).astype("float32")
    model = candle.scale(build(kind), **(options or {}))
    counter = Counter()
    callbacks = [
        keras.callbacks.EarlyStopping("val_loss", patience=9, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("val_loss", patience=0, min_delta=0.5),
        candle.CandleCallback(run, candle.Checkpoint(**checkpoint)),
        counter,
    ]
    if kind == "schedule":
        del callbacks[1]
    if kill:
        callbacks.append(Killer(*kill))
    given = data_of(data, x, y)
    history = model.fit(
        **given, epochs=epochs, validation_data=(x[:20], y[:20]), verbose=0, callbacks=callbacks
    )
    stopping, plateau = callbacks[:2]
    return {
        "history": history.history,
        "epochs": history.epoch,
        "stopping": [stopping.wait, stopping.best, stopping.best_epoch],
        "plateau": [] if kind == "schedule" else [plateau.wait, plateau.best],
        "batches": counter.batches,
        "drawn": counter.drawn if data in ("arrays", "dataset") else [],
        "weights": {
            number: keras.ops.convert_to_numpy(each).tolist()
            for number, each in enumerate([*model.weights, *model.optimizer.variables])
        },
    }


def main(given):
    out = given.pop("out")
    result = train(**given)
    if candle.is_root():
        with open(out, "w") as file:
            json.dump(result, file)


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    if "kill" in arguments:
        step, name = arguments.pop("kill")
        if not restarts():
            arguments["kill"] = (step, getattr(signal, name))
    main(arguments)
