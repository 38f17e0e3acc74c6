"""Trainings that record which rows each rank has seen."""

from __future__ import annotations

import itertools
import warnings

import keras
import numpy as np
import tensorflow as tf

import keras_candle as candle
from keras_candle import engine as engines


class Witness(keras.layers.Layer):
    """Counts how often each row goes through it in training, and how many steps there were."""

    def __init__(self, rows):
        super().__init__()
        self.rows = rows

    def build(self, _):
        state = {"initializer": "zeros", "trainable": False}
        self.seen = self.add_weight(shape=(self.rows,), name="seen", **state)
        self.order = self.add_weight(shape=(), name="order", **state)
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, x, training=False):
        if training:
            rows = keras.ops.cast(x[:, 0], "int32")
            seen = keras.ops.sum(keras.ops.one_hot(rows, self.rows), axis=0)
            self.seen.assign(self.seen + seen)
            # changes with the order in which the rows come
            self.order.assign(self.order * 1.01 + keras.ops.sum(keras.ops.cast(x[:, 0], "float32")))
        return x[:, :1] * self.scale


candle.register_state_reduction(Witness, {"seen": "sum", "order": "mean"})


class Steps(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.steps = 0
        self.orders = []
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1

    def on_epoch_end(self, epoch, logs=None):
        self.orders.append(float(self.model.layers[0].order))


def witnesses(rows):
    model = keras.Sequential([keras.Input((2,)), Witness(rows)])
    model.compile("sgd", "mse", metrics=["mae"])
    # The counts must not be averaged over the ranks before they are read.
    return model


def numbered(rows):
    return np.stack([np.arange(rows), np.zeros(rows)], axis=1).astype("float32")


def seen_rows(data, rows, *, batch="replica", fit=None):
    """Which rows this rank has seen how often in one epoch, its steps, and the global loss."""
    from keras_candle.training import replica

    keep = replica.reduce_state
    replica.reduce_state = lambda *_: []
    try:
        model = candle.scale(witnesses(rows), batch=batch, learning_rate_scaling=None, guard=False)
        steps = Steps()
        model.optimizer.learning_rate = 0.0
        history = model.fit(*data, epochs=1, verbose=0, callbacks=[steps], **(fit or {}))
    finally:
        replica.reduce_state = keep
    seen = keras.ops.convert_to_numpy(model.layers[0].seen)
    return seen.astype(int).tolist(), steps.steps, history.history["mae"][0]


def arrays(rows, seed, **fit):
    keras.utils.set_random_seed(seed) if seed else unseed()
    x = numbered(rows)
    return seen_rows((x, np.zeros(rows)), rows, fit=fit)


def arrays_global(rows, **fit):
    x = numbered(rows)
    return seen_rows((x, np.zeros(rows)), rows, batch="global", fit=fit)


def dataset(rows, batch_size, kind):
    import tensorflow as tf

    x = numbered(rows)
    data = tf.data.Dataset.from_tensor_slices((x, np.zeros(rows, "float32")))
    if kind == "shuffled":
        data = data.shuffle(rows, seed=3)
    data = data.batch(batch_size)
    if kind == "unknown":
        data = data.filter(lambda *_: True)
    return seen_rows((data,), rows, batch="global" if kind == "global" else "replica")


def infinite_dataset(rows, batch_size, steps):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((numbered(rows), np.zeros(rows, "float32")))
    data = data.batch(batch_size).repeat()
    return seen_rows((data,), rows, fit={"steps_per_epoch": steps})


def orders_without_a_seed(epochs):
    """A number for the order of the rows in each epoch."""
    unseed()
    model = candle.scale(witnesses(50), learning_rate_scaling=None)
    steps = Steps()
    model.fit(numbered(50), np.zeros(50), epochs=epochs, verbose=0, callbacks=[steps], batch_size=4)
    return [steps.orders[0], *np.diff(steps.orders).tolist()]


def unseed():
    """As in a script that sets no seed."""
    from tensorflow.python.eager import context

    context.context()._set_global_seed(None)
    np.random.seed(None)


def unseeded_shuffle():
    import tensorflow as tf

    unseed()
    data = tf.data.Dataset.from_tensor_slices((numbered(8), np.zeros(8))).shuffle(8).batch(2)
    candle.scale(witnesses(8)).fit(data, verbose=0)


def shuffled_epochs(rows, batch_size):
    """Every row once in each of three epochs of a dataset that is shuffled anew each time."""
    import tensorflow as tf

    from keras_candle.training import replica

    keep = replica.reduce_state
    replica.reduce_state = lambda *_: []
    data = tf.data.Dataset.from_tensor_slices((numbered(rows), np.zeros(rows, "float32")))
    data = data.shuffle(rows, seed=1).batch(batch_size)
    try:
        model = candle.scale(witnesses(rows), guard=False)
        model.fit(data, epochs=3, verbose=0)
    finally:
        replica.reduce_state = keep
    return keras.ops.convert_to_numpy(model.layers[0].seen).astype(int).tolist()


def handmade(rows):
    """Arrays divided by candle.shard, for a loop of one's own."""
    x, y = candle.shard((numbered(rows), np.zeros(rows)))
    return x[:, 0].astype(int).tolist(), len(y)


def own_parts(rows_by_rank):
    """Each rank has its own rows, as shard=False says."""
    rows = rows_by_rank[engines.current().rank]
    model = candle.scale(witnesses(50), shard=False)
    model.fit(numbered(rows), np.zeros(rows), batch_size=2, verbose=0)


def evaluation(rows, batch_size, kind, steps=None):
    """evaluate against plain Keras, with metrics whose mean over ranks would be wrong."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    x = random.normal(size=(rows, 4)).astype("float32")
    y = (random.random(rows) > 0.4).astype("float32")
    weights = random.random(rows).astype("float32")

    def build():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, activation="sigmoid")])
        metrics = [
            "accuracy",
            keras.metrics.AUC(name="auc"),
            keras.metrics.Precision(name="precision"),
        ]
        model.compile("sgd", "binary_crossentropy", metrics=metrics, weighted_metrics=["mae"])
        return model

    arguments = {"verbose": 0, "return_dict": True, "steps": steps}
    plain, scaled = build(), candle.scale(build())
    if kind == "dataset":
        data = tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(batch_size)
        return plain.evaluate(data, **arguments), scaled.evaluate(data, **arguments)
    arguments |= {"sample_weight": weights, "batch_size": batch_size}
    return plain.evaluate(x, y, **arguments), scaled.evaluate(x, y, **arguments)


def endless_evaluations():
    """Losses of evaluations of 4 and 3 batches of data without an end, also within a fit."""

    def batches():
        for number in itertools.count():
            yield np.full((4, 3), number % 5, "float32"), np.ones((4, 1), "float32")

    signature = (tf.TensorSpec((4, 3)), tf.TensorSpec((4, 1)))
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model = candle.scale(model)
    model.set_weights([np.full((3, 1), 0.5), np.zeros(1)])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Your input ran out of data")
        found = [model.evaluate(data(), steps=4, verbose=0) for data in (batches, lambda: dataset)]
        model.optimizer.learning_rate = 0.0
        x = np.ones((24, 3), "float32")
        history = model.fit(
            x, x[:, :1], epochs=2, validation_data=dataset, validation_steps=3, verbose=0
        ).history
    return [*found, *history["val_loss"]]


def drawn(how, seed):
    """A dataset of which draws order or choose the rows; a generator's begins with the same one."""
    unseed()
    if seed is not None:
        keras.utils.set_random_seed(seed)
    rows, targets = numbered(24), np.zeros((24, 1), "float32")

    def generate():
        for row in (0, *np.random.permutation(np.arange(1, 24))):
            yield rows[row], rows[row, :1]

    def make(part):
        return tf.data.Dataset.from_tensor_slices((rows[part], targets[part]))

    if how == "sample":
        halves = [make(slice(12)), make(slice(12, None))]
        data = tf.data.Dataset.sample_from_datasets(halves, [0.5, 0.5])
    elif how == "filter":
        data = make(slice(None)).filter(lambda *_: tf.random.uniform(()) < 0.5)
    elif how == "arrays":
        order = np.random.permutation(24)
        data = tf.data.Dataset.from_tensor_slices((rows[order], rows[order, :1]))
    elif how == "files":
        names = tf.data.Dataset.from_tensor_slices([f"row-{n}" for n in np.random.permutation(24)])
        numbers = names.map(lambda name: tf.strings.to_number(tf.strings.split(name, "-")[1]))
        data = numbers.map(lambda n: (tf.gather(rows, tf.cast(n, tf.int32)), tf.zeros(1)))
    else:
        specs = tf.TensorSpec((2,)), tf.TensorSpec((1,))
        data = tf.data.Dataset.from_generator(generate, output_signature=specs)
    return seen_rows((data.batch(4),), 24)
