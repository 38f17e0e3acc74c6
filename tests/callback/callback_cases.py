"""Callbacks and data with states of many kinds, and trainings with them that are interrupted."""

from __future__ import annotations

import dataclasses
import enum
import random
import typing
from collections import deque, namedtuple
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_candle as candle
from tests.callback import cases
from tests.callback.training_job import KilledError, Killer


class Phase(enum.Enum):
    WARM = 1
    COLD = 2


Best = namedtuple("Best", "value, epoch")


@dataclasses.dataclass
class Seen:
    steps: int = 0
    recent: deque = dataclasses.field(default_factory=lambda: deque(maxlen=4))
    nested: list = dataclasses.field(default_factory=list)


class Slotted:
    __slots__ = ("count", "parent")

    def __init__(self, parent):
        self.count, self.parent = 0, parent


class Everything(keras.callbacks.Callback):
    """Changes a state of each kind, and the training by each of them."""

    kept_by_class: typing.ClassVar[list[int]] = []

    def __init__(self, unbuilt):
        super().__init__()
        self.kept_by_class.clear()
        self.weight = keras.Variable(0.0, name="weight")
        self.tensor_variable = tf.Variable(1.0)
        self.generators = {
            "numpy": np.random.default_rng(3),
            "legacy": np.random.RandomState(4),
            "python": random.Random(5),  # noqa: S311 - a state to be kept, no secret
            "keras": keras.random.SeedGenerator(6),
        }
        self.seen = Seen()
        self.also_seen = self.seen.recent
        self.phase = Phase.WARM
        self.best = None
        self.lazy = None
        self.slotted = Slotted(self)
        self.teacher = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
        self.optimizer = keras.optimizers.Adam(0.1)
        self.optimizer.build(self.teacher.trainable_variables)
        self.stopper = keras.callbacks.EarlyStopping("loss", patience=9)
        self.listening = [self.slotted]
        self.unbuilt = unbuilt
        self.path = Path("nowhere")

    def on_train_begin(self, logs=None):
        self.stopper.set_model(self.model)
        self.stopper.on_train_begin()

    def on_train_batch_end(self, batch, logs=None):
        drawn = [
            float(self.generators["numpy"].random()),
            float(self.generators["legacy"].random()),
            self.generators["python"].random(),
            float(keras.random.uniform((), seed=self.generators["keras"])),
        ]
        self.seen.steps += 1
        self.seen.recent.append(sum(drawn))
        self.seen.nested.append({"drawn": (drawn, Phase.COLD)})
        self.kept_by_class.append(len(self.also_seen))
        self.slotted.count += 1
        self.weight.assign_add(drawn[0])
        self.tensor_variable.assign_add(drawn[1])
        self.phase = Phase.COLD if self.seen.steps > 2 else Phase.WARM
        self.best = Best(sum(drawn), self.phase)
        if self.lazy is None:
            self.lazy = [Slotted(None), np.random.default_rng(8), keras.Variable([1.0, 2.0])]
        self.lazy[0].count += self.seen.steps
        self.lazy[2].assign_add([float(self.lazy[1].random())] * 2)
        gradients = [keras.ops.ones_like(each) * drawn[2] for each in self.teacher.weights]
        self.optimizer.apply(gradients)
        # The training depends on all of it.
        change = sum(
            float(each)
            for each in (
                self.weight,
                self.tensor_variable,
                sum(self.also_seen),
                self.slotted.count,
                self.phase.value,
                self.lazy[2][0],
                self.lazy[0].count,
                keras.ops.sum(self.teacher.weights[0]),
                len(self.kept_by_class),
            )
        )
        kernel = self.model.weights[0]
        kernel.assign(kernel * (1 + 1e-4 * change))

    def on_epoch_end(self, epoch, logs=None):
        self.stopper.on_epoch_end(epoch, logs)

    def ends(self):
        return {
            "weight": float(self.weight),
            "teacher": [each.numpy().tolist() for each in self.teacher.weights],
            "optimizer": [np.array(each).tolist() for each in self.optimizer.variables],
            "seen": repr(self.seen),
            "same": self.also_seen is self.seen.recent,
            "class": list(self.kept_by_class),
            "best": repr(self.best),
            "phase": self.phase,
            "slotted": (self.slotted.count, self.slotted.parent is self),
            "lazy": (self.lazy[0].count, np.array(self.lazy[2]).tolist()),
            "stopper": (self.stopper.wait, self.stopper.best),
            "next": [self.generators["numpy"].random(), self.lazy[1].random()],
        }


class Averaging(keras.callbacks.Callback):
    """A teacher whose weights are the moving average of the student's."""

    def on_train_begin(self, logs=None):
        self.teacher = keras.models.clone_model(self.model)
        self.teacher.set_weights(self.model.get_weights())

    def on_train_batch_end(self, batch, logs=None):
        for mine, its in zip(self.teacher.weights, self.model.weights, strict=True):
            mine.assign(0.9 * mine + 0.1 * its)
            its.assign(its + 0.01 * mine)

    def ends(self):
        return [each.numpy().tolist() for each in self.teacher.weights]


class Stopping(keras.callbacks.EarlyStopping):
    """With attributes of its own, and one of Keras's that it changes."""

    def on_epoch_end(self, epoch, logs=None):
        self.epochs_seen = (*getattr(self, "epochs_seen", ()), epoch)
        self.patience += 1
        super().on_epoch_end(epoch, logs)

    def ends(self):
        return [self.epochs_seen, self.patience, self.wait, self.best, abs(self.min_delta)]


class WithProtocol(keras.callbacks.ReduceLROnPlateau):
    factors = ()

    def on_epoch_end(self, epoch, logs=None):
        self.factors = (*self.factors, epoch)
        super().on_epoch_end(epoch, logs)

    def get_state(self):
        return {"factors": self.factors}

    def set_state(self, state):
        self.factors = state["factors"]

    def ends(self):
        return [self.factors, self.wait, self.best, self.cooldown_counter]


class Schedule:
    """A schedule that remembers."""

    def __init__(self):
        self.rate = 0.05

    def __call__(self, epoch, rate):
        self.rate *= 0.7
        return self.rate


def everything():
    return Everything(keras.layers.Dense(2))


def stopping():
    return Stopping("loss", patience=2, min_delta=0.5)


def with_protocol():
    return WithProtocol("loss", patience=0, min_delta=0.5, factor=0.9)


def train(run, make, data="arrays", kill=None, every_steps=1, epochs=3, scale=None):
    """What a training with a callback ended with."""
    cases.forget_fits()
    keras.utils.set_random_seed(1)
    drawn = np.random.default_rng(0)
    x = drawn.normal(size=(32, 8)).astype("float32")
    y = drawn.normal(size=(32, 2)).astype("float32")
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.Adam(0.05), "mse")
    candle.scale(model, **(scale or {}))
    mine = make() if make else None
    callbacks = [candle.CandleCallback(run, candle.Checkpoint(every_steps=every_steps))]
    callbacks += [mine] if mine else []
    callbacks += [Killer(kill)] if kill else []
    given = {"x": x, "y": y, "batch_size": 8} if data == "arrays" else {"x": data(x, y)}
    history = model.fit(**given, epochs=epochs, verbose=0, callbacks=callbacks)
    return {
        "history": history.history,
        "weights": [each.numpy().tolist() for each in (*model.weights, *model.optimizer.variables)],
        "mine": mine.ends() if hasattr(mine, "ends") else None,
    }


def differences(folder, kills, **how):
    """In what a training that was interrupted ends unlike one that was not."""
    whole = train(Path(folder) / "whole", **how)
    for kill in kills:
        with pytest.raises(KilledError):
            train(Path(folder) / "parts", kill=kill, **how)
    parts = train(Path(folder) / "parts", **how)
    assert np.isfinite(whole["history"]["loss"]).all()
    return {name: (whole[name], parts[name]) for name in whole if whole[name] != parts[name]}
