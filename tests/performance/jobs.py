"""Trainings that something in particular slows down."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import keras_candle as candle
from keras_candle.resume.run_session import ends

# One pass over the data: before a generator's next pass tf.data may wait for as long as many steps.
BATCH, STEPS, EPOCHS = 8, 36, 1
PAUSE_S = 0.05


class Pace:
    """Pauses that are long beside the steps of a training, however busy the machine is."""

    def __init__(self):
        self.ended, self.change = 0, threading.Condition()
        self.began_s = self.step_s = 0.0

    def begin_step(self):
        self.began_s = time.monotonic()

    def end_step(self):
        with self.change:
            self.ended += 1
            if self.ended > 1:  # the first one compiles
                self.step_s = time.monotonic() - self.began_s
            self.change.notify_all()

    def pause(self):
        time.sleep(max(PAUSE_S, 3 * self.step_s))


class SlowData(keras.utils.PyDataset):
    """Batches that are not begun before the step before them has ended, and take their time."""

    def __init__(self, pace):
        super().__init__()
        self.pace = pace

    def __len__(self):
        return STEPS

    def __getitem__(self, i):
        with self.pace.change:
            self.pace.change.wait_for(lambda: self.pace.ended >= i, timeout=60)
        self.pace.pause()
        self.pace.begin_step()
        return np.ones((BATCH, 4)), np.ones((BATCH, 1))


class StepsOf(keras.callbacks.Callback):
    """Tells a pace when a step has ended."""

    def __init__(self, pace):
        super().__init__()
        self.pace = pace

    def on_train_batch_end(self, batch, logs=None):
        self.pace.end_step()


class Pause(keras.layers.Layer):
    """Takes its time in the forward pass, on every rank or on one."""

    def __init__(self, slow_rank=None):
        super().__init__()
        self._slow_rank = slow_rank

    def call(self, x):
        def pause(value):
            if self._slow_rank in (None, candle.rank()):
                time.sleep(2 * PAUSE_S)
            return value

        # Begins when the batch is there: a thread that sleeps could keep it from coming.
        with tf.control_dependencies([tf.numpy_function(pause, [x], x.dtype)]):
            return tf.identity(x)


@contextmanager
def slow_engine():
    engine = candle.engine.current()
    plain = engine._allreduce

    def allreduce(communicator, array, op):
        if communicator is engine._graph:
            time.sleep(3 * PAUSE_S)  # much longer than one rank is late by chance
        return plain(communicator, array, op)

    engine._allreduce = allreduce
    try:
        yield
    finally:
        del engine._allreduce


class SlowCallback(StepsOf):
    def on_train_batch_begin(self, batch, logs=None):
        self.pace.begin_step()

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        self.pace.pause()


def train(run, slow="", steps_at_once=1, epochs=EPOCHS, verbose=0, **fit):
    """Returns the run's record."""
    layers = []
    if slow.startswith(("model", "rank")):
        layers = [Pause(1 if slow == "rank 1" else None)]
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), *layers])
    model.add(keras.layers.Dense(1))
    model.compile("sgd", "mse", steps_per_execution=steps_at_once)
    model = candle.scale(model)
    rows = BATCH * STEPS * candle.size()
    data = {"x": np.ones((rows, 4)), "y": np.ones((rows, 1)), "batch_size": BATCH}
    pace = Pace()
    callbacks = [candle.CandleCallback(run, candle.Checkpoint(every_epochs=None))]
    if slow == "data":
        data = {"x": SlowData(pace), "shuffle": False}
        callbacks.append(StepsOf(pace))
    if slow == "callback":
        callbacks.append(SlowCallback(pace))
    with slow_engine() if slow == "engine" else nullcontext():
        model.fit(**data, epochs=epochs, verbose=verbose, callbacks=callbacks, **fit)
    return json.loads((Path(run) / "performance.json").read_text()) if candle.is_root() else None


def train_deterministically(run):
    """As careful users do; TensorFlow has no public way back, and these ranks have more to do."""
    from tensorflow.python.framework.config import disable_op_determinism

    keras.utils.set_random_seed(1)
    tf.config.experimental.enable_op_determinism()
    try:
        return train(run)
    finally:
        disable_op_determinism()


def train_again(run):
    """The records of a training, and of its script that is started again."""
    records = []
    for _ in range(2):
        ends.clear()  # as in a process of its own
        records.append(train(run))
    return records
