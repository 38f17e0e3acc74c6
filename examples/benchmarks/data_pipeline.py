"""What dividing arrays among the ranks costs for each batch, against Keras's own adapter.

    candle run -np 2 -m examples.benchmarks.data_pipeline

Both sides make the same number of batches of the same size on every rank, in turns: Keras's
adapter from as many rows as a rank has, ours from all of them. Printed is the slowest rank's median
over the rounds, in microseconds for each batch, and the ratio.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

import keras_candle as candle
from examples.benchmarks.claims import claim
from keras_candle.data.array_shard import ArrayShard
from keras_candle.keras_private.data import ArrayDataAdapter

# name -> (rows, the shape of a row)
DATA = {
    "numbers": (38_400, (64,)),
    "images": (9_600, (32, 32, 3)),
    "tokens": (19_200, (200,)),
}
BATCH_SIZE = 32


def reader(dataset: Any) -> Callable[[int], float]:
    """A function that reads an epoch of so many batches as `fit` does, and returns the seconds."""

    @tf.function
    def read_one(iterator: Any) -> Any:
        return tf.shape(tf.nest.flatten(next(iterator))[-1])

    def read(batches: int) -> float:
        began = time.perf_counter()
        iterator = iter(dataset)
        for _ in range(batches):
            read_one(iterator)
        seconds = time.perf_counter() - began
        if next(iterator, None) is not None:
            raise RuntimeError(f"the data have more than {batches} batches")
        return seconds

    return read


def measure(name: str, rounds: int) -> tuple[float, float]:
    """Microseconds for each batch: Keras's adapter, and a rank's part of the same arrays."""
    engine = candle.engine.current()
    rows, shape = DATA[name]
    random = np.random.default_rng(0)
    inputs = (random.normal(size=(rows, *shape)).astype("float32"), random.integers(0, 9, rows))
    some = [each[: rows // engine.size] for each in inputs]
    stock = ArrayDataAdapter(*some, batch_size=BATCH_SIZE, shuffle=True).get_tf_dataset()
    ours = ArrayShard(inputs, BATCH_SIZE * engine.size, True, engine).get_tf_dataset()
    batches = rows // (BATCH_SIZE * engine.size)
    sides = [("stock", reader(stock)), ("ours", reader(ours))]
    times: dict[str, list[float]] = {"stock": [], "ours": []}
    for number in range(rounds + 1):
        sides.reverse()
        for side, read in sides:
            engine.barrier()
            seconds = read(batches)
            if number:  # the first round builds the pipelines
                times[side].append(1e6 * seconds / batches)
    both = [statistics.median(times["stock"]), statistics.median(times["ours"])]
    slowest = engine.allreduce(both, "max")
    return float(slowest[0]), float(slowest[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    engine = candle.engine.start()
    for name in DATA:
        stock, ours = measure(name, options.rounds)
        if engine.is_root:
            what = f"dividing {name} on {engine.size} ranks, {engine.name}, a batch"
            claim(what, ours, "us", peer=("Keras's adapter", stock), at_most=1.0)


if __name__ == "__main__":
    main()
