"""Trainings that look at learning rates, seeds, statistics, files and callbacks on N ranks."""

from __future__ import annotations

import os
import time

import keras
import numpy as np
from keras import layers, optimizers

import keras_candle as candle
from keras_candle import engine as engines
from tests.training import cases


def linear_model(optimizer):
    """Its weight moves by exactly the learning rate in each step."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
    model.compile(optimizer, loss=lambda y_true, y_pred: keras.ops.mean(y_pred))
    return model


class Moves(keras.callbacks.Callback):
    """How far the weight has moved in each step."""

    def __init__(self):
        super().__init__()
        self.positions = []

    def on_train_begin(self, logs=None):
        self.positions.append(float(self.model.get_weights()[0][0, 0]))

    on_train_batch_end = lambda self, batch, logs=None: self.on_train_begin()  # noqa: E731


def step_sizes(optimizer, steps, *, epochs=1, decoupled=False, **options):
    model = linear_model(optimizer)
    moves = Moves()
    candle.scale(model, **options)
    size = engines.current().size
    x = np.ones((2 * size * steps, 1), "float32")
    batch_size = 2 * size if options.get("batch") == "global" else 2
    history = model.fit(
        x, x, batch_size=batch_size, epochs=epochs, verbose=0, callbacks=[moves], shuffle=False
    )
    sizes = (-np.diff(moves.positions)).tolist()
    return sizes, float(model.optimizer.learning_rate), history.history["effective_learning_rate"]


def constant_rate(**options):
    return step_sizes(optimizers.SGD(0.5), 4, **options)


def warmed_up():
    return step_sizes(optimizers.SGD(0.5), 4, epochs=3, warmup_epochs=2)


def decaying():
    schedule = optimizers.schedules.PiecewiseConstantDecay([3], [0.5, 0.25])
    return step_sizes(optimizers.SGD(schedule), 6, learning_rate_scaling=None)


def chosen_by_function():
    """A MultiOptimizer without optimizers until it is built."""
    chosen = optimizers.SGD(0.5)
    model = linear_model(optimizers.MultiOptimizer(lambda variable: chosen))
    moves = Moves()
    x = np.ones((2 * engines.current().size, 1), "float32")
    candle.scale(model).fit(x, x, batch_size=1, verbose=0, callbacks=[moves])
    return (-np.diff(moves.positions)).tolist()


def square(size):
    return float(size * size)


def own_rule():
    return step_sizes(optimizers.SGD(0.5), 2, learning_rate_scaling=square)


def scheduled_by_callback():
    model = candle.scale(linear_model(optimizers.SGD(0.5)))
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1))
    x = np.ones((8, 1), "float32")
    history = model.fit(x, x, epochs=2, verbose=0, callbacks=[scheduler])
    return history.history["learning_rate"], history.history["effective_learning_rate"]


def decayed_weights():
    """AdamW's decay counts with the scaled rate, like that of an optimizer made with it."""
    size = engines.current().size
    x, y = cases.digits_like(rows=12 * size)
    keras.utils.set_random_seed(1)
    reference = cases.dense_model(optimizer=optimizers.AdamW(0.01 * size, weight_decay=0.5))
    reference.fit(x, y, batch_size=12 * size, verbose=0, shuffle=False)
    keras.utils.set_random_seed(1)
    model = candle.scale(cases.dense_model(optimizer=optimizers.AdamW(0.01, weight_decay=0.5)))
    model.fit(x, y, batch_size=12, verbose=0, shuffle=False)
    return cases.difference(model, reference)


def different_starts():
    """Each rank builds with a seed of its own; the root has built another model before."""
    engine = engines.current()
    keras.utils.set_random_seed(engine.rank)
    if engine.is_root:
        cases.dense_model(optimizer="sgd")
    model = candle.scale(cases.dense_model(optimizer=optimizers.Adam(0.01)))
    keras.utils.set_random_seed(0)
    x, y = cases.digits_like()
    model.fit(x, y, epochs=1, verbose=0)
    first = cases.bits(model)
    model.compile(optimizers.SGD(0.1), cases.SPARSE_LOSS)
    model.fit(x, y, epochs=1, verbose=0)
    return first, cases.bits(model)


def unbuilt():
    engine = engines.current()
    keras.utils.set_random_seed(engine.rank)
    model = keras.Sequential([layers.Dense(4, activation="relu"), layers.Dense(3)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    keras.utils.set_random_seed(0)
    candle.scale(model).fit(*cases.digits_like(), epochs=1, verbose=0)
    return cases.bits(model)


def on_batches(own):
    """train_on_batch: each rank passes its own rows."""
    engine = engines.current()
    x, y = cases.digits_like(rows=8 * engine.size)
    keras.utils.set_random_seed(1)
    reference = cases.dense_model(optimizer=optimizers.SGD(0.1))
    reference.train_on_batch(x, y)
    reference.train_on_batch(x, y)
    keras.utils.set_random_seed(1 if own else engine.rank)
    model = candle.scale(
        cases.dense_model(optimizer=optimizers.SGD(0.1)), learning_rate_scaling=None
    )
    mine = slice(engine.rank, None, engine.size)
    model.train_on_batch(x[mine], y[mine])
    model.train_on_batch(x[mine], y[mine])
    return cases.difference(model, reference), [each.tobytes() for each in model.get_weights()]


def dropout_masks():
    """What a dropout layer lets through on each rank, for the same input."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), layers.Dropout(0.5), layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((8, 64), "float32")
    candle.scale(model).fit(x, x[:, :1], epochs=1, verbose=0)
    mask = model.layers[0](x, training=True)
    return keras.ops.convert_to_numpy(mask).tobytes()


def normalized(sync, rows=24, batch_size=12, synchronized=False):
    def build():
        model = keras.Sequential(
            [
                keras.Input((8,)),
                layers.Dense(6),
                layers.BatchNormalization(synchronized=synchronized),
                layers.Dense(3, activation="softmax"),
            ]
        )
        model.compile(optimizers.SGD(0.1), cases.SPARSE_LOSS, metrics=["accuracy"])
        return model

    data = cases.digits_like(rows=rows)
    fit = {"batch_size": batch_size, "epochs": 2, "validation_data": data}
    return cases.train_both(build, data, fit, {"sync_batch_norm": sync})


def saved_twenty_times(folder):
    model = candle.scale(cases.dense_model(optimizer="adam"))
    model.fit(*cases.digits_like(), epochs=1, verbose=0)
    predicted = model.predict(cases.digits_like()[0], verbose=0)
    for number in range(20):
        path = os.path.join(folder, f"{number % 3}.keras")
        model.save(path)
        loaded = keras.models.load_model(path)
        again = loaded.predict(cases.digits_like()[0], verbose=0)
        np.testing.assert_array_equal(predicted, again)
    return type(loaded.optimizer).__name__


class SaveOnAll(keras.callbacks.Callback):
    """Saves on all ranks where ModelCheckpoint has just saved on the root alone."""

    def __init__(self, path):
        super().__init__()
        self.path, self.loaded = path, []

    def on_epoch_end(self, epoch, logs=None):
        weights = self.model.get_weights()
        self.model.set_weights([np.full_like(each, epoch) for each in weights])
        if engines.current().is_root:
            time.sleep(0.2)
        self.model.save_weights(self.path)
        self.model.load_weights(self.path)
        self.loaded.append(float(self.model.get_weights()[0].max()))
        self.model.set_weights(weights)


def saved_after_the_root(folder):
    """What each rank loads after a save of all, when the root has saved there alone before."""
    path = os.path.join(folder, "m.weights.h5")
    model = candle.scale(cases.dense_model(optimizer="sgd"))
    alone = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    on_all = SaveOnAll(path)
    model.fit(*cases.digits_like(), epochs=2, verbose=0, callbacks=[alone, on_all])
    if engines.current().is_root:
        model.save_weights(path)
        os.unlink(path)
    engines.current().barrier()
    on_all.on_epoch_end(7)
    return on_all.loaded


def saved_for_elsewhere(path):
    """A model whose optimizer is the user's own registered class."""
    model = candle.scale(cases.dense_model(optimizer=optimizers.AdamW(0.03, clipnorm=1.0)))
    model.fit(*cases.digits_like(), epochs=1, verbose=0)
    model.save(path)
    return float(model.optimizer.learning_rate)


def writing_callbacks(folder):
    """Files of the usual callbacks: who wrote them, and what everybody's logs say."""
    engine = engines.current()
    mine = os.path.join(folder, str(engine.rank))
    os.makedirs(mine)
    callbacks = [
        keras.callbacks.ModelCheckpoint(os.path.join(mine, "best.keras")),
        keras.callbacks.CSVLogger(os.path.join(mine, "log.csv")),
        keras.callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("val_loss", patience=1),
    ]
    keras.utils.set_random_seed(engine.rank)
    model = candle.scale(cases.dense_model(optimizer=optimizers.Adam(0.05)))
    keras.utils.set_random_seed(0)
    x, y = cases.digits_like()
    history = model.fit(x, y, epochs=12, verbose=0, validation_split=0.3, callbacks=callbacks)
    return sorted(os.listdir(mine)), history.history, cases.bits(model)


class StopOnRoot(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if engines.current().is_root and epoch == 1:
            self.model.stop_training = True


def stopped_by_root():
    model = candle.scale(cases.dense_model(optimizer="sgd"))
    history = model.fit(*cases.digits_like(), epochs=5, verbose=0, callbacks=[StopOnRoot()])
    return len(history.history["loss"])


def twice_decorated():
    """Scaled twice: averaged once, and the learning rate scaled once."""
    build = lambda: cases.dense_model(optimizer=optimizers.SGD(0.1))  # noqa: E731
    options = {"batch": "global", "learning_rate_scaling": None}
    twice = candle.scalable(**options)(candle.scalable(**options)(build))
    keras.utils.set_random_seed(7)
    reference = build()
    reference.fit(*cases.digits_like(), batch_size=12, verbose=0)
    keras.utils.set_random_seed(7)
    model = candle.scale(twice(), **options)
    model.fit(*cases.digits_like(), batch_size=12, verbose=0)
    return cases.difference(model, reference)


def compiled_with_xla():
    def build():
        return cases.dense_model(optimizer=optimizers.SGD(0.1), jit_compile=True)

    keras.utils.set_random_seed(0)
    model = candle.scale(build())
    model.fit(*cases.digits_like(), epochs=1, verbose=0)
    return model.jit_compile, model.get_compile_config()["jit_compile"]


def sparse_sizes():
    """The largest tensor that a step with an Embedding sends, and whether its gradient is dense."""
    engine = engines.current()
    sent = []

    class Recorder:
        def around(self, exchange, tensors):
            sent.extend(int(np.prod([d or 1 for d in each.shape])) for each in tensors)
            return exchange(tensors)

    largest = []
    engine.stopwatch = Recorder()
    try:
        for vocabulary, optimizer in ((20_000, "adam"), (20, "sgd"), (20, "adam")):
            sent.clear()
            model = cases.text_model(vocabulary, optimizer=optimizer)
            x, y = cases.tokens(vocabulary=vocabulary)
            candle.scale(model).fit(x, y, epochs=1, batch_size=8, verbose=0)
            largest.append((max(sent), vocabulary * 5 in sent))
    finally:
        engine.stopwatch = None
    return largest


def compressed():
    results = cases.train_both(
        lambda: cases.dense_model(optimizer=optimizers.SGD(0.1)),
        cases.digits_like(),
        options={"compression": "fp16"},
    )
    return results[0], results[2]


class Noam(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule as tutorials write it, without get_config."""

    def __init__(self, warmup_steps):
        super().__init__()
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        step = keras.ops.cast(step, "float32") + 1.0
        return 0.05 * keras.ops.minimum(step**-0.5, step * self.warmup_steps**-1.5)


def scheduled_without_config():
    def build():
        return cases.dense_model(optimizer=optimizers.Adam(Noam(4)))

    return cases.train_both(
        build, cases.digits_like(), options={"batch": "global", "learning_rate_scaling": None}
    )
