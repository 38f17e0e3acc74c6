"""Losses that look across the rows of a batch: N ranks against one."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, losses, ops

import keras_candle as candle
from tests.training import cases


def rows(count=25, features=4, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, features)).astype("float32")
    y = (x[:, :2] + 0.3 * random.normal(size=(count, 2)) > 0).astype("float32")
    return x, y


def squares(y_true, y_pred):
    return ops.sum(ops.square(y_true - y_pred))


def mean_of_all(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred))


def root(y_true, y_pred):
    return ops.sqrt(ops.mean(ops.square(y_true - y_pred)))


def dice(y_true, y_pred):
    both = ops.sum(y_true * y_pred, axis=0)
    return 1 - ops.mean((2 * both + 1) / (ops.sum(y_true + y_pred, axis=0) + 1))


def masked(y_true, y_pred):
    counts = ops.cast(ops.not_equal(y_true, 0), y_pred.dtype)
    return ops.sum(counts * ops.square(y_true - y_pred)) / ops.maximum(ops.sum(counts), 1)


def masked_rows(y_true, y_pred):
    """One number for each row, of which all change with the number of rows left out."""
    counts = ops.cast(ops.not_equal(y_true, 0), y_pred.dtype)
    return ops.mean(counts * ops.square(y_true - y_pred), axis=-1) / (ops.mean(counts) + 0.1)


def contrastive(y_true, y_pred):
    """One number for each row, of its similarity to all rows in their order."""
    similarity = ops.matmul(y_pred, ops.transpose(y_pred))
    places = ops.cast(ops.arange(ops.shape(y_pred)[0]), y_pred.dtype)
    return ops.logsumexp(similarity * (1 + 0.1 * places), axis=-1)


class OwnCall(losses.Loss):
    def __call__(self, y_true, y_pred, sample_weight=None):
        return squares(ops.cast(y_true, y_pred.dtype), y_pred)


LOSSES = {
    "squares": squares,
    "mean_of_all": mean_of_all,
    "root": root,
    "dice": dice,
    "masked": masked,
    "masked_rows": masked_rows,
    "contrastive": contrastive,
    "own_call": OwnCall(),
    "keras_dice": losses.Dice(),
    "keras_dice_of_classes": losses.Dice(axis=(0,)),
    "keras_tversky": losses.Tversky(),
    "rows_of_one": lambda y_true, y_pred: ops.mean(ops.square(y_true - y_pred), axis=-1),
    "keras_mse": "mse",
}


def model_of(loss, **arguments):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(5, "tanh"),
            layers.Dense(2, "sigmoid"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.05), loss, **arguments)
    return model


def trained(name, fit=None, options=None):
    """The last global batch has one row: other ranks have none."""
    data = rows()
    fit = {
        "epochs": 2,
        "validation_data": rows(7, seed=1),
        "validation_batch_size": 3,
        **(fit or {}),
    }
    return cases.train_both(lambda: model_of(LOSSES[name]), data, fit, options)


def weighted(name):
    weights = np.random.default_rng(2).random(25).astype("float32")
    return trained(name, {"sample_weight": weights})


def accumulated():
    def build():
        model = model_of(dice)
        model.compile(keras.optimizers.SGD(0.05, gradient_accumulation_steps=2), dice)
        return model

    return cases.train_both(build, rows(24), {"epochs": 2})


def two_outputs():
    def build():
        inputs = keras.Input((4,))
        hidden = layers.Dense(5, "tanh")(inputs)
        outputs = {"a": layers.Dense(2)(hidden), "b": layers.Dense(2)(hidden)}
        model = keras.Model(inputs, outputs)
        model.compile(keras.optimizers.SGD(0.05), {"a": root, "b": "mse"})
        return model

    x, y = rows()
    return cases.train_both(build, (x, {"a": y, "b": y}), {"epochs": 2})


def masked_output():
    """A mask of Keras's own, and a loss of one number."""

    def build():
        inputs = keras.Input((6, 2))
        masked = layers.Masking()(inputs)
        model = keras.Model(inputs, layers.Dense(1)(layers.LSTM(3, return_sequences=True)(masked)))
        model.compile(keras.optimizers.SGD(0.05), losses.MeanSquaredError())
        return model

    random = np.random.default_rng(0)
    x = random.normal(size=(25, 6, 2)).astype("float32")
    for row, steps in enumerate(random.integers(1, 6, 25)):
        x[row, steps:] = 0
    return cases.train_both(build, (x, x[:, :, :1]), {"epochs": 2}, {"exact_loss": True})


def replicas():
    """exact_loss without batch="global": the ranks' batches together are one batch of one rank."""
    engine = candle.engine.current()
    x, y = rows(8 * engine.size)
    keras.utils.set_random_seed(1)
    reference = model_of(dice)
    whole = reference.fit(x, y, batch_size=8 * engine.size, epochs=2, shuffle=False, verbose=0)
    keras.utils.set_random_seed(1)
    model = candle.scale(model_of(dice), learning_rate_scaling=None, exact_loss=True)
    history = model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    return cases.difference(model, reference), cases.log_difference(history, whole.history)


def with_xla():
    model = candle.scale(model_of(dice, jit_compile=True), batch="global")
    model.fit(*rows(24), batch_size=12, verbose=0)


class MoCo(keras.Model):
    """A queue of features that follow the batch's order, and a learned temperature."""

    def __init__(self):
        super().__init__()
        self.encoder = layers.Dense(3)
        self.queue = self.add_weight((15, 3), "random_normal", name="queue", trainable=False)
        self.temperature = self.add_weight((), "ones", name="temperature")

    def call(self, x):
        return self.encoder(x)

    def train_step(self, data):
        import tensorflow as tf

        x, _ = data
        with tf.GradientTape() as tape:
            features = candle.gather_rows(self.encoder(x))
            near = ops.matmul(features, ops.transpose(features))
            far = ops.matmul(features, ops.transpose(ops.convert_to_tensor(self.queue)))
            loss = ops.mean(ops.logsumexp(ops.concatenate([near, far], 1) * self.temperature, 1))
        variables = self.trainable_weights
        gradients = tape.gradient(loss, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        kept = ops.concatenate([features, ops.convert_to_tensor(self.queue)], axis=0)[:15]
        self.queue.assign(tf.stop_gradient(kept))
        return {"loss": loss}


def queued():
    def build():
        model = MoCo()
        model.build((None, 4))
        model.compile(keras.optimizers.SGD(0.05))
        return model

    weights, _, bits = cases.train_both(build, rows(), {"epochs": 2})
    return weights, bits


def gathered_outside():
    return candle.gather_rows(ops.ones((2, 1))).shape


class OneValueARow(keras.Model):
    """A step whose loss has one value a row, as `self.loss(a, b)` with a function gives.

    Args:
        kind: "rows", "cells" for one value a row and output, "parts" for two means over rows in
            one tensor, "penalty" for a mean with a penalty on the gradient by the inputs.
    """

    def __init__(self, kind):
        super().__init__()
        self.kind, self.dense = kind, layers.Dense(3, "tanh")

    def call(self, x):
        return self.dense(x)

    def losses_of(self, x):
        import tensorflow as tf

        if self.kind == "penalty":
            with tf.GradientTape() as by_inputs:
                by_inputs.watch(x)
                output = ops.sum(self(x), axis=1)
            slopes = by_inputs.gradient(output, x)
            return ops.mean(output) + ops.mean(ops.square(slopes))
        error = ops.square(self(x) - x[:, :3])
        if self.kind == "parts":
            return ops.stack([ops.mean(error), ops.mean(ops.abs(error))])
        return error if self.kind == "cells" else ops.mean(error, axis=1)

    def train_step(self, data):
        import tensorflow as tf

        x, _ = data
        with tf.GradientTape() as tape:
            loss = self.losses_of(x)
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        return {"loss": ops.mean(loss)}


def one_value_a_row(kind):
    def build():
        model = OneValueARow(kind)
        model.build((None, 4))
        model.compile(keras.optimizers.SGD(0.01))
        return model

    weights, _, bits = cases.train_both(build, rows(), {"epochs": 2})
    return weights, bits
