"""What the ranks of a test do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_candle as candle
from keras_candle import engine as engines
from keras_candle.callback import fit_hooks
from keras_candle.resume.checkpoint_schedule import Intervals
from keras_candle.resume.run_session import ends
from tests.callback.training_job import KilledError, train


def interrupt(run, kill, **how):
    """A training that ends with an error at a step, on all ranks."""
    with pytest.raises(KilledError):
        train(run, kill=(kill, None), **how)


def differences(folder, kills, seeds=(1, 1, 1), **how):
    """In what a training that was interrupted ends unlike one that was not."""
    whole = train(Path(folder) / "whole", **how)
    for kill, seed in zip(kills, seeds[:-1], strict=True):
        interrupt(Path(folder) / "parts", kill, seed=seed, **how)
    parts = train(Path(folder) / "parts", seed=seeds[-1], **how)
    assert all(np.isfinite(value) for value in whole["history"]["loss"])
    return [name for name in whole if whole[name] != parts[name]]


def same_weights(one, other, tolerance):
    """Whether two results have the same weights but for rounding."""
    pairs = zip(one["weights"].values(), other["weights"].values(), strict=True)
    return all(np.allclose(a, b, rtol=tolerance, atol=tolerance) for a, b in pairs)


def half(size):
    return size / 2


def small_model(units=1, optimizer="sgd", **options):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
    model.compile(optimizer, "mse")
    return candle.scale(model, **options)


def small_fit(run, model=None, epochs=1, rows=8, callbacks=(), checkpoint=None, verbose=0, **how):
    model = model or small_model()
    durable = candle.CandleCallback(run, checkpoint, **how)
    data = np.arange(3 * rows).reshape(rows, 3) / rows, np.ones((rows, 1))
    callbacks = [durable, *callbacks]
    return model.fit(*data, batch_size=4, epochs=epochs, verbose=verbose, callbacks=callbacks)


def with_clocks_of_their_own(run, fast):
    """A training on ranks of which one finds everything due, always, and the others never."""
    often, never = Intervals(0.0, 0.0, 0.0), Intervals(1e9, 1e9, 1e9)
    durable = candle.CandleCallback(run, candle.Checkpoint(every_epochs=None, every_seconds=1e-9))
    durable.intervals = often if candle.rank() == fast else never
    x = np.ones((32, 3))
    model = small_model()
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append((Path(run) / "performance.json").exists())
    )
    model.fit(x, x[:, :1], batch_size=4, epochs=4, verbose=0, callbacks=[durable, look])
    return seen, [weight.tobytes() for weight in model.get_weights()]


def fit_with_a_watcher_that_fails(run, rank):
    """A training whose watcher cannot be started on one rank; its epochs."""
    plain = fit_hooks.RankWatch

    def watch(*args, **kwargs):
        if candle.rank() == rank:
            raise OSError("no process is left")
        return plain(*args, **kwargs)

    fit_hooks.RankWatch = watch
    try:
        return small_fit(run, stall_timeout=60).epoch
    finally:
        fit_hooks.RankWatch = plain


def forget_fits():
    """As in a process of its own."""
    ends.clear()


def fail_in_epoch(number):
    def fail(epoch, logs):
        if epoch == number:
            raise ZeroDivisionError

    return keras.callbacks.LambdaCallback(on_epoch_begin=fail)


def padded_to_own_length(folder, size):
    """Losses of a training of ranks whose own rows have other lengths, whole and in two parts."""
    rank = engines.current().rank
    x = np.random.default_rng(rank).normal(size=(8, 3 + rank, 2)).astype("float32")

    def losses(run, *ends):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((None, 2))
        pooled = keras.layers.GlobalAveragePooling1D()(inputs)
        model = keras.Model(inputs, keras.layers.Dense(1)(pooled))
        model.compile("adam", "mse")
        model = candle.scale(model, shard=False)
        for epochs in ends:
            forget_fits()
            history = model.fit(
                *(x, x[:, 0, :1]),
                batch_size=4,
                epochs=epochs,
                verbose=0,
                callbacks=[candle.CandleCallback(Path(folder) / f"{size} {run}")],
            )
        return history.history["loss"]

    return losses("whole", 3), losses("parts", 1, 3)


def note_epochs(seen):
    """A callback that appends the number of each trained epoch to a list."""
    return keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))


def fail_to_write(run, epochs):
    """What each rank raises when the disk of root is full."""

    def full(descriptor, offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        if candle.is_root():
            patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(candle.CheckpointError) as caught:
            small_fit(run, epochs=epochs)
    return str(caught.value)
