"""Training steps that move the weights by a rank's own gradient, and back but for rounding."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, optimizers

import keras_candle as candle
from keras_candle import backend
from keras_candle import engine as engines
from keras_candle.training import divergence
from tests.training import cases


class SharpnessAware(keras.Model):
    """Foret et al. 2021, "Sharpness-aware minimization", algorithm 1.

    Args:
        undone: the part of the perturbation that is taken back.
        from_epoch: the first one that perturbs the weights.
    """

    def __init__(self, undone=1.0, from_epoch=0):
        super().__init__()
        self.hidden = layers.Dense(16, activation="tanh")
        self.outcome = layers.Dense(3, activation="softmax")
        self.normalization = layers.BatchNormalization()
        self.undone, self.from_epoch = undone, from_epoch
        self.epoch = keras.Variable(0.0, trainable=False)

    def call(self, x, training=False):
        return self.outcome(self.normalization(self.hidden(x), training=training))

    def train_step(self, data):
        import tensorflow as tf

        x, y = data
        gradients = self.gradients_at(x, y)
        norm = tf.linalg.global_norm(gradients)
        radius = tf.where(self.epoch >= self.from_epoch, 0.05, 0.0)
        moves = [radius * each / (norm + 1e-12) for each in gradients]
        for weight, move in zip(self.trainable_variables, moves, strict=True):
            weight.assign_add(move)
        gradients = self.gradients_at(x, y)
        for weight, move in zip(self.trainable_variables, moves, strict=True):
            weight.assign_sub(self.undone * move)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return self.get_metrics_result()

    def gradients_at(self, x, y):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        return tape.gradient(loss, self.trainable_variables)


class Observer(keras.callbacks.Callback):
    """What a callback finds on this rank at each epoch's end."""

    def __init__(self):
        super().__init__()
        self.found = []

    def on_epoch_begin(self, epoch, logs=None):
        self.model.epoch.assign(float(epoch))

    def on_epoch_end(self, epoch, logs=None):
        self.found.append([each.tobytes() for each in self.model.get_weights()])


def sharpness_aware(rows=96, epochs=3, guard=True, **arguments):
    """The weights at each epoch's end, and by how much weights differ before a repair."""
    engine, apart = engines.current(), []
    plain = divergence.repair_rounding

    def repair(*args):
        apart.append(plain(*args))
        return apart[-1]

    keras.utils.set_random_seed(3)
    model = SharpnessAware(**arguments)
    model.compile(optimizers.Adam(1e-3, use_ema=True), cases.SPARSE_LOSS)
    candle.scale(model, batch="global", learning_rate_scaling=None, guard=guard)
    observer = Observer()
    divergence.repair_rounding = repair
    try:
        model.fit(
            *cases.digits_like(rows=rows),
            batch_size=12,
            epochs=epochs,
            verbose=0,
            callbacks=[observer],
        )
    finally:
        divergence.repair_rounding = plain
    state = [each.tobytes() for each in cases.optimizer_state(model)]
    return observer.found, state, [each is None for each in apart], engine.allgather(len(apart))


class Tiny(SharpnessAware):
    """Its own gradient moves a weight by less than rounding does."""

    def train_step(self, data):
        x, y = data
        first, *others = self.trainable_variables
        gradients = self.gradients_at(x, y)
        self.optimizer.apply_gradients(zip(gradients[1:], others, strict=True))
        first.assign_sub(1e-7 * gradients[0])
        return self.get_metrics_result()


def tiny():
    model = Tiny()
    model.compile(optimizers.SGD(0.1), cases.SPARSE_LOSS)
    candle.scale(model).fit(*cases.digits_like(), verbose=0)


def comparisons_traced():
    """How often a comparison is traced, by steps and epochs of a model with moving statistics."""

    traced, kind = [], type(backend.current())
    plain = kind.checksums
    kind.checksums = staticmethod(lambda variables: traced.append(1) or plain(variables))
    model = keras.Sequential(
        [keras.Input((8,)), layers.BatchNormalization(), layers.Dense(3, activation="softmax")]
    )
    adam = optimizers.Adam(0.01, gradient_accumulation_steps=2)
    model.compile(adam, cases.SPARSE_LOSS)
    try:
        scaled = candle.scale(model, guard=1)
        scaled.fit(*cases.digits_like(rows=40), batch_size=4, epochs=6, verbose=0)
    finally:
        kind.checksums = staticmethod(plain)
    return len(traced), int(np.asarray(adam.iterations))
