"""A long training in which everything happens that can, with delays at random places.

    candle run -np 2 --engine mpi -m tests.soak RUN [--seconds 60]

Thousands of steps and hundreds of epochs, with all time constants tiny: evaluation, checkpoints by
steps and by the clock, trackers, early stopping, learning-rate changes, and random naps of random
ranks in their callbacks, data and checkpoints. It ends well when the ranks' states are equal, the
journal has each epoch once, memory has not grown and an epoch takes no longer than it did. `make
soak` runs it with both engines.

tests/test_soak.py lets one collective of keras_candle.callback and keras_candle.resume after the
other depend on each rank's own clock, as one once did: no such training may end well.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import time
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import psutil

import keras_candle as candle
from keras_candle import engine as engines
from keras_candle.resume.checkpoint_schedule import Intervals

STALL_TIMEOUT_S = 30.0
# By how much memory and an epoch's cost may grow from an early tenth of the epochs to the last.
# Whatever else is running makes an epoch dearer; TensorFlow's pools take threads as they need.
MOST_MEMORY, MOST_CPU, MORE_THREADS = 1.1, 2.0, 10


class NappingData(keras.utils.PyDataset):
    """Rows that are sometimes late."""

    def __init__(self, batches, seed, nap):
        super().__init__()
        random = np.random.default_rng(seed)
        self._x = random.normal(size=(batches, 8, 6)).astype("float32")
        self._y = random.normal(size=(batches, 8, 1)).astype("float32")
        self._nap = nap

    def __len__(self):
        return len(self._x)

    def __getitem__(self, i):
        self._nap(0.002, 0.05)
        self._nap(0.0002, 1.0)
        return self._x[i], self._y[i]


class Seen(NamedTuple):
    """This process in an epoch, and at its end."""

    cpu_s: float
    memory_bytes: int
    files: int
    threads: int


class Naps(keras.callbacks.Callback):
    """Sleeps on one rank, ends the training by root's clock, and looks at this process."""

    def __init__(self, nap, seconds):
        super().__init__()
        self._nap, self._seconds = nap, seconds
        self._began_s, self._cpu_s = time.monotonic(), time.process_time()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self._nap(0.001, 0.1)

    def on_test_end(self, logs=None):
        self._nap(0.01, 0.05)

    def on_epoch_end(self, epoch, logs=None):
        self._nap(0.01, 0.3)
        process = psutil.Process()
        with process.oneshot():
            memory_bytes, threads = process.memory_info().rss, process.num_threads()
        cpu_s, self._cpu_s = time.process_time() - self._cpu_s, time.process_time()
        self.seen.append(Seen(cpu_s, memory_bytes, process.num_fds(), threads))
        if candle.is_root() and time.monotonic() - self._began_s > self._seconds:
            self.model.stop_training = True


def build_model():
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(1e-3), "mse", metrics=["mae"])
    return model


def train(run, seconds, epochs=10**6, batches=24, every_steps=50, stall_timeout_s=STALL_TIMEOUT_S):
    """Returns the model, its history and what Naps has seen."""
    own = random.Random(1000 + candle.rank())  # noqa: S311 - naps, no secrets

    def nap(probability, longest_s):
        if own.random() < probability:
            time.sleep(own.random() * longest_s)

    model = candle.scalable(build_model, learning_rate_scaling=None)()
    naps = Naps(nap, seconds)
    durable = candle.CandleCallback(
        run,
        candle.Checkpoint(10, every_steps, every_seconds=2, keep_best=2),
        trackers=["csv", "tensorboard"],
        guard=50,
        stall_timeout=stall_timeout_s,
    )
    durable.intervals = Intervals(consensus_s=0.02, record_s=0.3, line_s=1.0)
    callbacks = [
        naps,
        durable,
        keras.callbacks.EarlyStopping("val_loss", patience=10**6),
        keras.callbacks.ReduceLROnPlateau("val_loss", patience=200, factor=0.5, min_lr=1e-6),
    ]
    history = model.fit(
        NappingData(batches, 1, nap),
        validation_data=NappingData(6, 2, nap),
        epochs=epochs,
        verbose=0,
        callbacks=callbacks,
    )
    return model, history, naps.seen


def digest(model):
    """Of all that the ranks must hold alike."""
    values = [each.numpy().tobytes() for each in (*model.weights, *model.optimizer.variables)]
    return hashlib.sha256(b"".join(values)).hexdigest()


def middle(seen):
    """The medians of what was seen in some epochs."""
    return Seen(*np.median(np.array(seen), axis=0).tolist())


def problems_of(run, history, seen):
    """What is wrong with this rank, or on root with the run directory."""
    tenth = len(seen) // 10
    if tenth < 2:
        yield f"{len(seen)} epochs are too few to compare any"
        return
    early, late = middle(seen[tenth : 2 * tenth]), middle(seen[-tenth:])
    memory = late.memory_bytes / early.memory_bytes
    if memory > MOST_MEMORY:
        yield f"memory has grown by {memory:.3f}"
    if late.files > early.files + 2 or late.threads > early.threads + MORE_THREADS:
        yield f"open files or threads have grown: {early}, {late}"
    cost = late.cpu_s / early.cpu_s
    if cost > MOST_CPU:
        yield f"an epoch costs {cost:.2f} times as much"
    if not candle.is_root():
        return
    epochs = list(range(1, len(history.epoch) + 1))
    lines = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    if [each["epoch"] for each in lines if each["event"] == "epoch"] != epochs:
        yield "the journal has not each epoch once"
    if len((run / "log.csv").read_text().splitlines()) != len(epochs) + 1:
        yield "log.csv has not each epoch once"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    model, history, seen = train(given.run, given.seconds)
    engine = engines.current()
    problems = list(problems_of(given.run, history, seen))
    if len(set(engine.gather_objects(digest(model)))) > 1:
        problems.append("the ranks hold different weights")
    found = [f"rank {r}: {p}" for r, own in enumerate(engine.gather_objects(problems)) for p in own]
    if engine.is_root:
        early, late = seen[len(seen) // 10], seen[-1]
        print(
            f"{engine.name}, {engine.size} ranks: {len(seen)} epochs, {12 * len(seen)} steps; "
            f"root's memory {early.memory_bytes / 2**20:.0f} MiB after {len(seen) // 10} epochs, "
            f"{late.memory_bytes / 2**20:.0f} MiB after all. {'; '.join(found) or 'All is well.'}"
        )
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
