"""Kinds of data that come in batches: each records which rows every rank has seen."""

from __future__ import annotations

import math
import random

import keras
import numpy as np

import keras_candle as candle
from keras_candle import engine as engines
from keras_candle.training import replica
from tests.data.data_cases import Steps, numbered, seen_rows, unseed, witnesses


class Rows(keras.utils.PyDataset):
    """Numbered rows; shuffles them itself at the end of an epoch, as many do."""

    def __init__(self, rows, batch_size, own_shuffle=False, **workers):
        super().__init__(**workers)
        self.x, self.batch_size, self.own_shuffle = numbered(rows), batch_size, own_shuffle
        self.order = np.arange(rows)
        self.loaded = []

    def __len__(self):
        return math.ceil(len(self.x) / self.batch_size)

    def __getitem__(self, index):
        self.loaded.append(index)
        np.random.random(3)  # an augmentation: each rank draws as often as it loads
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.x[rows], np.zeros(len(rows), "float32")

    def on_epoch_end(self):
        if self.own_shuffle:
            np.random.shuffle(self.order)


def pydataset(rows, batch_size, batch="replica", workers=1, **fit):
    keras.utils.set_random_seed(engines.current().rank)
    source = Rows(rows, batch_size, workers=workers)
    return (*seen_rows((source,), rows, batch=batch, fit=fit), len(set(source.loaded)))


def pydataset_epochs(rows, batch_size, epochs, **options):
    """How often each row was seen over several epochs that are shuffled in two ways."""
    unseed()
    random.seed()
    source = Rows(rows, batch_size, own_shuffle=True, **options)
    return seen_in_epochs(source, rows, epochs=epochs)


def seen_in_epochs(source, rows, batch="replica", **fit):
    keep = replica.reduce_state
    replica.reduce_state = lambda *_: []
    try:
        model = candle.scale(witnesses(rows), batch=batch, guard=False)
        steps = Steps()
        model.fit(source, verbose=0, callbacks=[steps], **fit)
    finally:
        replica.reduce_state = keep
    seen = keras.ops.convert_to_numpy(model.layers[0].seen).astype(int).tolist()
    return seen, steps.steps


def batches_of(rows, batch_size, endless=False):
    x = numbered(rows)
    while True:
        for start in range(0, rows, batch_size):
            part = x[start : start + batch_size]
            yield part, np.zeros(len(part), "float32")
        if not endless:
            return


def generator(rows, batch_size, batch="replica"):
    return seen_rows((batches_of(rows, batch_size),), rows, batch=batch)


def endless(rows, batch_size, steps, epochs, kind):
    """Epochs of a number of steps that the ranks cannot share evenly."""
    import tensorflow as tf

    source = batches_of(rows, batch_size, endless=True)
    if kind == "dataset":
        data = (numbered(rows), np.zeros(rows, "float32"))
        source = tf.data.Dataset.from_tensor_slices(data).batch(batch_size).repeat()
    if kind == "pydataset":
        source = Rows(rows, batch_size)
    return seen_in_epochs(source, rows, steps_per_epoch=steps, epochs=epochs, shuffle=False)


def generators_that_differ():
    rank = engines.current().rank
    x = np.full((4, 2), float(rank), "float32")
    candle.scale(witnesses(8)).fit(iter_once(x), verbose=0)


def iter_once(x):
    for _ in range(4):
        yield x, x[:, 0]


def pydatasets_in_different_orders():
    rank = engines.current().rank

    class Own(Rows):
        def __getitem__(self, index):
            x, _ = super().__getitem__(index)
            return x, x[:, 0]

    source = Own(40, 4)
    np.random.default_rng(rank).shuffle(source.order)
    candle.scale(witnesses(40)).fit(source, verbose=0)


def own_generators(batches_by_rank, steps):
    """Each rank has a generator of its own, and they are not equally long."""
    batches = batches_by_rank[engines.current().rank]
    model = candle.scale(witnesses(50), shard=False)
    model.fit(batches_of(2 * batches, 2), steps_per_epoch=steps, verbose=0)


def evaluated(rows, batch_size, kind):
    random_ = np.random.default_rng(0)
    x = random_.normal(size=(rows, 4)).astype("float32")
    y = (random_.random(rows) > 0.4).astype("float32")

    class Labelled(Rows):
        def __getitem__(self, index):
            part = slice(index * self.batch_size, (index + 1) * self.batch_size)
            return x[part], y[part]

    def source():
        if kind == "pydataset":
            return Labelled(rows, batch_size)
        starts = range(0, rows, batch_size)
        return ((x[i : i + batch_size], y[i : i + batch_size]) for i in starts)

    def build():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, activation="sigmoid")])
        model.compile("sgd", "binary_crossentropy", metrics=["accuracy", keras.metrics.AUC()])
        return model

    plain = build().evaluate(source(), verbose=0)
    return plain, candle.scale(build()).evaluate(source(), verbose=0)


def predicted(rows):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(rows, 3)).astype("float32")
    inputs = keras.Input((3,))
    outputs = {"a": keras.layers.Dense(2)(inputs), "b": keras.layers.Dense(1)(inputs)}
    model = keras.Model(inputs, outputs)
    whole = model.predict(x, verbose=0)
    model.compile("sgd", "mse")
    rows_run = []
    candle.scale(model, shard_predict=True)
    model.make_predict_function()
    plain = model.predict_function

    def counted(data):
        rows_run.append(int(keras.tree.flatten(data)[0].shape[0]))
        return plain(data)

    model.predict_function = counted
    together = model.predict(x, verbose=0)
    same = all(np.allclose(whole[name], together[name], atol=1e-6) for name in whole)
    return same, sum(rows_run)


def predicted_where_one_rank_has(what):
    """Whether all ranks predict alike where only the root has what it takes to do it together."""
    root = engines.current().is_root
    keras.utils.set_random_seed(engines.current().rank)
    model = keras.Sequential([keras.layers.Dense(2), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(7, 3)).astype("float32")
    if root or what == "arrays":
        model.build((None, 3))
    model = candle.scale(model, shard_predict=True)
    if what == "arrays":
        model.evaluate(x, x[:, :1], verbose=0)
    given = x if root or what == "a built model" else ((x[i : i + 1],) for i in range(len(x)))
    return model.predict(given, verbose=0, batch_size=7).round(5).tolist()
