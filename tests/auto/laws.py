"""What holds under `candle run --auto` on 2 ranks: run by test_laws.py as a user's program."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_candle import engine as engines
from keras_candle.errors import EngineError

RANK = int(os.environ.get("PMI_RANK", "0"))
X = np.random.default_rng(3).normal(size=(8, 3)).astype("float32")
Y = (X @ np.array([[1.0], [2.0], [3.0]])).astype("float32")
RATE = 0.1


def dense(seed):
    start = keras.initializers.RandomUniform(seed=seed)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer=start)])


def loop(model, optimizer, x, y, steps=3):
    """A loop by hand, as scripts write it."""

    @tf.function(jit_compile=True)
    def step(x, y):
        with tf.GradientTape() as tape:
            scaled = optimizer.scale_loss(tf.reduce_mean((model(x) - y) ** 2))
        optimizer.apply(tape.gradient(scaled, model.trainable_weights), model.trainable_weights)

    for _ in range(steps):
        step(x, y)
    return [weight.numpy() for weight in model.weights]


def by_hand(start, steps=3):
    """What plain gradient descent on the whole batch comes to."""
    kernel, bias = start
    for _ in range(steps):
        error = 2 * (X @ kernel + bias - Y) / len(X)
        kernel, bias = kernel - RATE * (X.T @ error), bias - RATE * error.sum(axis=0)
    return [kernel, bias]


def all_equal(values):
    everyone = engines.current().gather_objects([np.asarray(value).tobytes() for value in values])
    return all(each == everyone[0] for each in everyone)


def ranks_start_from_the_roots_weights_in_a_loop_by_hand():
    assert all_equal(loop(dense(seed=RANK), keras.optimizers.Adam(RATE), X, Y))


def divided_data_in_a_loop_by_hand_give_the_whole_batch():
    model = dense(seed=1)
    expected = by_hand([weight.numpy() for weight in model.weights])
    halves = slice(RANK, None, 2)
    weights = loop(model, keras.optimizers.SGD(RATE), X[halves], Y[halves])
    for weight, value in zip(weights, expected, strict=True):
        np.testing.assert_allclose(weight, value, atol=1e-6)
    assert all_equal(weights)


def the_rate_of_a_compiled_models_optimizer_stays_plain_in_a_loop_by_hand():
    model = dense(seed=1)
    model.compile(keras.optimizers.SGD(RATE), "mse")
    assert "apply" in vars(model.optimizer)
    expected = by_hand([weight.numpy() for weight in model.weights])
    weights = loop(model, model.optimizer, X, Y)
    for weight, value in zip(weights, expected, strict=True):
        np.testing.assert_allclose(weight, value, atol=1e-6)


def a_loss_scale_that_one_rank_alone_overflows_stays_the_same_on_all():
    model, optimizer = dense(seed=1), keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))
    x = X * np.float32(np.inf) if RANK else X
    assert all_equal([*loop(model, optimizer, x, Y, steps=1), optimizer.dynamic_scale])
    assert float(optimizer.dynamic_scale) < optimizer.initial_scale
    # A collective of the inner one would sit in the branch that such a rank alone skips.
    assert not hasattr(optimizer.inner_optimizer, "_candle_number")


def an_optimizer_that_no_attribute_leads_to_is_averaged_too():
    optimizer = keras.optimizers.SGD(RATE)

    class Own(keras.Model):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self(x) - y) ** 2)
            optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
            return {"loss": loss}

    inputs = keras.Input((3,))
    model = Own(inputs, keras.layers.Dense(1)(inputs))
    model.compile()
    model.fit(X, Y, batch_size=4, epochs=2, verbose=0)
    assert all_equal(model.weights)


def strategies_are_one_replica_or_refused():
    for kind in (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy):
        strategy = kind()
        assert strategy is tf.distribute.get_strategy()
        assert strategy.num_replicas_in_sync == 1
        with strategy.scope():
            model = dense(seed=1)
        assert not tf.distribute.has_strategy()
    model.compile("sgd", "mse")
    with pytest.raises(EngineError, match="ParameterServerStrategy"):
        tf.distribute.experimental.ParameterServerStrategy(None)


def a_saved_model_is_there_for_all_under_each_ranks_own_name():
    model = dense(seed=1)
    for compiled in (False, True):
        for times in range(10):
            name = f"saved-{compiled}-{times}-{RANK}.keras"
            model.save(name)
            loaded = keras.models.load_model(name)
            np.testing.assert_array_equal(loaded.weights[0], model.weights[0])
            keras.saving.save_model(model, "again.keras")
            keras.models.load_model("again.keras")
        assert all_equal(loaded.weights)
        assert hasattr(loaded, "_candle_trainer") == compiled
        model.compile("sgd", "mse")
    if RANK == 0:
        assert not list(Path().glob("saved-*-1.keras"))


def a_temporary_folder_is_each_ranks_own():
    model = dense(seed=RANK)
    model.compile("sgd", "mse")
    with tempfile.TemporaryDirectory() as folder:
        model.save_weights(f"{folder}/own.weights.h5")
        before = model.weights[0].numpy()
        model.weights[0].assign(before + 1)
        model.load_weights(f"{folder}/own.weights.h5")
        np.testing.assert_array_equal(model.weights[0], before)
    assert not all_equal(model.weights)


def checkpoints_of_tensorflow_are_the_roots():
    counter = tf.Variable(RANK)
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(counter=counter), "points", 2)
    path = manager.save()
    counter.assign(5)
    tf.train.Checkpoint(counter=counter).restore(path)
    assert int(counter) == 0


LAWS = (
    ranks_start_from_the_roots_weights_in_a_loop_by_hand,
    divided_data_in_a_loop_by_hand_give_the_whole_batch,
    the_rate_of_a_compiled_models_optimizer_stays_plain_in_a_loop_by_hand,
    a_loss_scale_that_one_rank_alone_overflows_stays_the_same_on_all,
    an_optimizer_that_no_attribute_leads_to_is_averaged_too,
    strategies_are_one_replica_or_refused,
    a_saved_model_is_there_for_all_under_each_ranks_own_name,
    a_temporary_folder_is_each_ranks_own,
    checkpoints_of_tensorflow_are_the_roots,
)

if __name__ == "__main__":
    for law in LAWS:
        law()
        print(law.__name__, flush=True)
    print("all laws hold")
