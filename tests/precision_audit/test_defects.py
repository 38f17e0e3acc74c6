"""Trainings with known defects in 16 bits, and faultless ones: what the audit names, exit code."""

from __future__ import annotations

import keras
import pytest
import tensorflow as tf
from keras import layers, ops
from sklearn.datasets import load_digits

from keras_candle.launch.audit_precision import has_defect, text
from keras_candle.precision_audit.audit import FirstTraining, audit

SPARSE = "sparse_categorical_crossentropy"


def digits():
    x, y = load_digits(return_X_y=True)
    return tf.constant(x[:64] / 16, "float32"), tf.constant(y[:64])


def classifier(policy=None, optimizer=None, kind=keras.Sequential, loss=SPARSE):
    keras.utils.set_random_seed(0)
    before = keras.config.dtype_policy()
    if policy:
        keras.config.set_dtype_policy(policy)
    try:
        model = kind([keras.Input((64,)), layers.Dense(32, "relu"), layers.Dense(10, "softmax")])
        model.compile(optimizer or keras.optimizers.Adam(), loss, metrics=["accuracy"])
    finally:
        if policy:
            keras.config.set_dtype_policy(before)
    return model


class OwnStep(keras.Sequential):
    """A training step that scales its loss as Keras's does."""

    def scaled(self, loss):
        return self.optimizer.scale_loss(loss)

    def loss_of(self, y, predictions):
        return ops.mean(keras.losses.sparse_categorical_crossentropy(y, predictions))

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.loss_of(y, self(x, training=True))
            scaled = self.scaled(loss)
        gradients = tape.gradient(scaled, self.trainable_weights)
        self.optimizer.apply(gradients, self.trainable_weights)
        return {"loss": ops.cast(loss, "float32")}


class Unscaled(OwnStep):
    def scaled(self, loss):
        return loss


class HalfSum(OwnStep):
    """A sum in the precision of the predictions: inf in float16, its gradient finite."""

    def loss_of(self, y, predictions):
        return ops.sum(4000.0 * predictions) / 4096


def loss_of_zero(_, predictions):
    return -ops.log(ops.relu(predictions - 2.0))


def clean():
    return classifier()


def own_step():
    return classifier(kind=OwnStep)


def unscaled():
    return classifier(kind=Unscaled, optimizer=keras.optimizers.SGD(0.5))


def half_sum():
    return classifier(kind=HalfSum)


def infinite_loss():
    return classifier(loss=loss_of_zero)


def half_adam():
    return classifier("float16", keras.optimizers.Adam(epsilon=1e-8))


def half_sgd():
    return classifier("float16", keras.optimizers.SGD(1e-4))


def bfloat16_sgd():
    return classifier("bfloat16", keras.optimizers.SGD(1e-4))


TABLE = [
    (clean, []),
    (own_step, []),
    (unscaled, ["its train_step does not scale the loss", "mixed_float16: loss goes from"]),
    (half_sum, ["mixed_float16", "loss is inf, and no output is", 'dtype_policy = "float32"']),
    (
        infinite_loss,
        ["inf or NaN in float32 too", "loss is inf", "float32: the loss"],
    ),
    (
        half_adam,
        ["the loss is not finite from step", "/kernel is not finite after step"],
    ),
    (half_sgd, ["% of sequential/dense/kernel (and of 1 more", "below the resolution"]),
    (bfloat16_sgd, ["% of sequential/dense/kernel (and of 1 more", "below the resolution"]),
]


@pytest.mark.parametrize(("build", "named"), TABLE)
def test_a_defect_in_training_is_named(build, named):
    keras.utils.clear_session()
    told = audit(FirstTraining(build(), [digits()], "fit", None))
    shown = text(told)
    assert [each for each in named if each not in shown] == [], shown
    assert has_defect(told) == bool(named), shown
    assert ("fails in training" in shown) == bool(told["problems"])
