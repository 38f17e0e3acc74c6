"""Callbacks that stop, act on one rank only, restore, or let the ranks drift apart."""

from __future__ import annotations

import keras
import numpy as np

import keras_candle as candle
from keras_candle import engine as engines
from keras_candle.resume.checkpoint_schedule import Intervals
from tests.training import cases


class StopAt(keras.callbacks.Callback):
    """Wants to stop on one rank, at one hook, when it is called for the n-th time."""

    def __init__(self, hook, number, rank):
        super().__init__()
        self.calls, self.number = 0, number
        if engines.current().rank == rank:
            setattr(self, hook, self._count)

    def _count(self, *_, **__):
        self.calls += 1
        if self.calls == self.number:
            self.model.stop_training = True


class Batches(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.count = 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1


def stopped(hook, number, rank=1, everywhere=True, **compile_arguments):
    """How many batches each rank trains on before all stop."""
    model = candle.scale(cases.dense_model(optimizer="sgd", **compile_arguments))
    counter = Batches()
    stop = [StopAt(hook, number, rank)]
    if not everywhere and engines.current().rank != rank:
        stop = []
    model.fit(
        *cases.digits_like(rows=96), batch_size=4, epochs=3, verbose=0, callbacks=[*stop, counter]
    )
    return counter.count, cases.bits(model)


def not_a_number():
    """A NaN in a row of one rank: TerminateOnNaN sees it there, one batch before the others."""
    engine = engines.current()
    x, y = cases.digits_like(rows=16 * engine.size)
    x[4 * engine.size + 1] = np.nan  # in the second batch of rank 1
    model = candle.scale(cases.dense_model(optimizer="sgd"))
    counter = Batches()
    callbacks = [keras.callbacks.TerminateOnNaN(), counter]
    model.fit(x, y, batch_size=4, shuffle=False, epochs=2, verbose=0, callbacks=callbacks)
    return counter.count


class CrashError(Exception):
    pass


class CrashAt(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch, self.epochs = epoch, []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append(epoch)

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise CrashError


def restored(folder):
    """BackupAndRestore, which only the root runs, resumes all ranks."""
    engine = engines.current()
    x, y = cases.digits_like(rows=96)

    def run(crash_at):
        keras.utils.set_random_seed(engine.rank)
        model = candle.scale(cases.dense_model(optimizer=keras.optimizers.Adam(0.01)))
        seen = CrashAt(crash_at)
        backup = keras.callbacks.BackupAndRestore(folder)
        keras.utils.set_random_seed(0)
        try:
            model.fit(x, y, batch_size=8, epochs=5, verbose=0, callbacks=[backup, seen])
        except CrashError:
            engine.barrier()
        return model, seen.epochs

    _, before = run(2)
    model, after = run(None)
    return before, after, int(model.optimizer.iterations), cases.bits(model)


class Recorder(keras.callbacks.Callback):
    """First in the list; sees what Keras hands to the callbacks."""

    def __init__(self):
        super().__init__()
        self.logs = []

    def on_epoch_end(self, epoch, logs=None):
        self.logs.append(sorted(logs.items()))


def every_built_in(folder):
    """All of Keras's callbacks at once, on ranks that begin differently."""
    engine = engines.current()
    keras.utils.set_random_seed(engine.rank)
    model = cases.dense_model(optimizer=keras.optimizers.SGD(0.3, use_ema=True))
    candle.scale(model, learning_rate_scaling=None)
    keras.utils.set_random_seed(0)
    x, y = cases.digits_like(rows=90)
    recorder, made = Recorder(), keras.callbacks
    chosen = [
        recorder,
        made.EarlyStopping("val_loss", 0.2, patience=2, restore_best_weights=True),
        made.ReduceLROnPlateau("val_loss", patience=0, factor=0.5, min_delta=0.05),
        made.LearningRateScheduler(lambda epoch, rate: rate * 0.99),
        made.TerminateOnNaN(),
        made.LambdaCallback(on_train_batch_end=lambda batch, logs: None),
        made.SwapEMAWeights(),
        made.CSVLogger(f"{folder}/log.csv"),
        made.ModelCheckpoint(f"{folder}/best.keras", save_best_only=True),
    ]
    model.fit(x, y, batch_size=6, epochs=12, validation_split=0.3, verbose=0, callbacks=chosen)
    return recorder.logs, float(model.optimizer.learning_rate), cases.bits(model)


class Meddler(keras.callbacks.Callback):
    """Changes something on one rank."""

    def __init__(self, what, rank=1):
        super().__init__()
        self.what, self.acts = what, engines.current().rank == rank

    def on_epoch_end(self, epoch, logs=None):
        if self.acts and epoch == 1:
            optimizer = self.model.optimizer
            if self.what == "learning_rate":
                optimizer.learning_rate = 0.123
            elif self.what == "weight":
                bias = self.model.layers[-1].bias
                bias.assign(bias + 1e-7)
            elif self.what == "slot":
                optimizer.variables[-1].assign(optimizer.variables[-1] + 1.0)
            elif self.what == "loss_scale":
                optimizer.dynamic_scale.assign(4.0)


def meddled(what, **options):
    optimizer = keras.optimizers.Adam(0.01)
    if what == "loss_scale":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model = candle.scale(cases.dense_model(optimizer=optimizer), **options)
    model.fit(*cases.digits_like(), epochs=3, verbose=0, callbacks=[Meddler(what)])


class Bypass(keras.Model):
    """Its training step uses an optimizer that nobody can find, or none."""

    def __init__(self, how):
        super().__init__()
        self.dense = keras.layers.Dense(3, activation="softmax")
        self.how, self.found = how, [keras.optimizers.SGD(0.1)]
        hidden = keras.optimizers.SGD(0.1)
        self.hidden = lambda: hidden

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            losses = keras.losses.sparse_categorical_crossentropy(y, self(x, training=True))
            loss = tf.reduce_mean(losses)
        weights = self.trainable_variables
        gradients = tape.gradient(loss, weights)
        if self.how == "by_hand":
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.assign_sub(0.1 * gradient)
        else:
            optimizer = self.hidden() if self.how == "hidden" else self.found[0]
            optimizer.apply(gradients, weights)
        return {"loss": loss}


def bypassed(how, **options):
    model = Bypass(how)
    model.compile()
    keras.utils.set_random_seed(0)
    candle.scale(model, **options).fit(*cases.digits_like(), epochs=2, verbose=0)
    return cases.weights_of(model)[0].tobytes()


def loop_by_hand():
    """A loop with an optimizer of its own, and then evaluate."""
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    x, y = cases.digits_like()
    model = candle.scale(cases.dense_model(optimizer="sgd"))
    model.fit(x, y, verbose=0)
    own, mine = keras.optimizers.SGD(0.1), slice(engines.current().rank, None, 2)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(x[mine]) ** 2)
    own.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
    before = model.get_weights()[0].tobytes()
    model.evaluate(x, y, verbose=0)
    return before, model.get_weights()[0].tobytes()


class StopFromOutside(keras.callbacks.Callback):
    """Sets stop_training as a thread does: during a step, on one rank."""

    def __init__(self, step, rank):
        super().__init__()
        self._step, self._rank, self.taken = step, rank, 0

    def set_model(self, model):
        super().set_model(model)
        plain = model.make_train_function

        def make_train_function(*args, **kwargs):
            plain(*args, **kwargs)
            train = model.train_function

            def stop_and_train(iterator):
                self.taken += 1
                if self.taken == self._step and candle.rank() == self._rank:
                    model.stop_training = True
                return train(iterator)

            model.train_function = stop_and_train

        object.__setattr__(model, "make_train_function", make_train_function)


def stopped_from_outside(rank, run_directory=None):
    """Steps that each rank took, and its epochs; no callback here has a hook of batches."""
    model = candle.scale(small_dense(), learning_rate_scaling=None)
    outside = StopFromOutside(3, rank)
    callbacks = [outside]
    if run_directory:
        callbacks.append(candle.CandleCallback(run_directory))
        callbacks[-1].intervals = Intervals(consensus_s=0.0)
    x = np.ones((64, 3), "float32")
    history = model.fit(
        x, x[:, :1], batch_size=4, epochs=5, verbose=0, shuffle=False, callbacks=callbacks
    )
    return outside.taken, history.epoch


def small_dense():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def unlike(what, run_directory):
    """A training of which one rank wants something else than the other."""
    first = candle.rank() == 0
    options = {"shard": first} if what == "options" else {}
    model = candle.scale(small_dense(), **options)
    every = 2 if what == "checkpoint" and first else 1
    durable = candle.CandleCallback(run_directory, candle.Checkpoint(every_epochs=every))
    callbacks = [] if what == "callback" and first else [durable]
    x = np.ones((16, 3), "float32")
    held_out = (x, x[:, :1]) if what == "validation" and first else None
    model.fit(x, x[:, :1], validation_data=held_out, verbose=0, callbacks=callbacks)
