"""A training for jobs on a cluster: python -m tests.cluster.training RUN_DIRECTORY [auto]."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

import keras
import numpy as np

import keras_candle as candle

STEPS = 60


class Slow(keras.callbacks.Callback):
    """Records each step, and takes the seconds that are in a file `slow`, if there is one."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._slow, self._steps = folder / "slow", folder / "steps"

    def on_train_batch_end(self, batch, logs=None):
        if candle.is_root():
            with self._steps.open("a") as file:
                file.write(f"{int(self.model.optimizer.iterations.numpy())}\n")
        with contextlib.suppress(FileNotFoundError):
            time.sleep(float(self._slow.read_text()))


def train(run: str, walltime: str | None = None) -> list[np.ndarray]:
    """Train in a run directory, with as many ranks as there are; returns the weights."""
    keras.utils.set_random_seed(3)
    model = build()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(240, 8)).astype("float32")
    durable = candle.CandleCallback(run, walltime=walltime)
    callbacks = [durable, Slow(Path(run).parent)]
    model.fit(x, x[:, :2], batch_size=24, epochs=STEPS // 10, verbose=0, callbacks=callbacks)
    return model.get_weights()


@candle.scalable(batch="global", learning_rate_scaling=None)
def build() -> keras.Model:
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(12, "relu")])
    model.add(keras.layers.Dense(2))
    model.compile("adam", "mse")
    return model


if __name__ == "__main__":
    weights = train(*sys.argv[1:])
    if candle.is_root():
        np.savez(Path(sys.argv[1]).with_suffix(".npz"), *weights)
