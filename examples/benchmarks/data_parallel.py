"""What data parallelism costs a training step: keras_candle against plain and hand-written loops.

    candle run -np 2 -m examples.benchmarks.data_parallel --json result.json

Everything is measured in one job, interleaved, and compared by medians, because machines are
noisy and drift. Variants:

    plain        Keras on the root, the other ranks idle
    decorated    the same model through @candle.scalable as one rank's program has it
    unhooked     Keras on every rank at once, no communication
    mpi          keras_candle, engine mpi
    horovod      keras_candle, engine horovod
    mpi, slices summed      the same with sum_embedding_slices=True, where there is an Embedding
    horovod, slices summed
    horovod, one bucket     the same, where no gradient travels before all are computed
    hand-written GradientTape and Horovod's allreduce in a tf.function, as its guide has it
    hand-hooked  Keras's own training step, with Horovod's allreduce of each gradient in it

Models: a small MLP (9,000 parameters), a deep one (25 million), and a text CNN with an Embedding
(10 million) on words that are all equally frequent, and on words as frequent as in a language
(Zipf's law).
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import horovod.tensorflow as hvd
import keras
import numpy as np
import tensorflow as tf
from keras import layers

import keras_candle as candle
from examples.benchmarks.claims import claim
from keras_candle.backend.tensorflow import collectives
from keras_candle.engine.horovod import HorovodEngine
from keras_candle.engine.mpi import MpiEngine
from keras_candle.engine.single import SingleEngine
from keras_candle.training.gradients import transform_gradients

LOSS = "sparse_categorical_crossentropy"
Variant = Callable[[], None]


def mlp() -> tuple[list[Any], Any, int]:
    """9,000 parameters in 6 tensors, 32 rows a step."""
    hidden = [layers.Dense(64, activation="relu") for _ in range(2)]
    network = [keras.Input((64,)), *hidden, layers.Dense(10, activation="softmax")]
    return network, np.random.default_rng(0).normal(size=(64, 64)).astype("float32"), 32


def dense() -> tuple[list[Any], Any, int]:
    """25 million parameters in 14 tensors, 64 rows a step."""
    hidden = [layers.Dense(2048, activation="relu") for _ in range(6)]
    network = [keras.Input((2048,)), *hidden, layers.Dense(10, activation="softmax")]
    return network, np.random.default_rng(0).normal(size=(64, 2048)).astype("float32"), 64


def text(frequencies: Any = None) -> tuple[list[Any], Any, int]:
    """9.9 million parameters, 9.6 million of them in the Embedding, 16 rows of 200 words a step."""
    network = [
        keras.Input((200,), dtype="int32"),
        layers.Embedding(40_000, 240),
        layers.Conv1D(128, 3, activation="relu"),
        layers.Conv1D(128, 3, activation="relu"),
        layers.Conv1D(128, 3, activation="relu"),
        layers.GlobalMaxPooling1D(),
        layers.Dropout(0.5),
        layers.Dense(10, activation="softmax"),
    ]
    return network, np.random.default_rng(0).choice(40_000, (32, 200), p=frequencies), 16


def zipf() -> tuple[list[Any], Any, int]:
    """`text`, in which the n-th word is 1 / n as frequent as the first."""
    frequencies = 1 / np.arange(1, 40_001)
    return text(frequencies / frequencies.sum())


MODELS = {"mlp": mlp, "dense": dense, "text": text, "zipf": zipf}


def compiled(name: str) -> tuple[Any, Any, Any]:
    """A model, and one rank's batch for it."""
    network, x, rows = MODELS[name]()
    model = keras.Sequential(network)
    model.compile("adam", LOSS)
    return model, x[:rows], np.arange(rows) % 10


def stepping(model: Any, x: Any, y: Any, steps: int) -> Variant:
    """`steps` steps of Keras's train function on one batch that is already in memory.

    They are what `fit` calls in each step; `fit` itself runs once, and is not timed.
    """
    batch = tf.data.Dataset.from_tensors((tf.constant(x), tf.constant(y))).repeat()
    # Each rank has its own batch: dividing data is not what is measured here.
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    batch = batch.with_options(options)
    model.fit(batch, steps_per_epoch=2, verbose=0, shuffle=False)
    iterator = iter(batch)

    def run() -> None:
        for _ in range(steps):
            model.train_function(iterator)

    return run


def with_engine(name: str, engine: Any, steps: int, **options: Any) -> Variant:
    """keras_candle on an engine."""
    with candle.engine.use(engine):
        model, x, y = compiled(name)
        return stepping(candle.scale(model, engine=engine.name, **options), x, y, steps)


def hand_written(name: str, steps: int) -> Variant:
    """The loop that a careful user writes for Horovod with Keras 3."""
    model, x, y = compiled(name)
    x, y = tf.constant(x), tf.constant(y)
    loss_of, optimizer = keras.losses.SparseCategoricalCrossentropy(), model.optimizer

    @tf.function
    def step() -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        averaged = [hvd.allreduce(each, op=hvd.Average) for each in gradients]
        optimizer.apply_gradients(zip(averaged, model.trainable_variables, strict=True))
        return loss

    def run() -> None:
        for _ in range(steps):
            step()

    return run


def hand_hooked(name: str, steps: int) -> Variant:
    """Keras's training step, in which the optimizer's gradients are averaged one by one."""
    model, x, y = compiled(name)

    def average(gradients: list[Any], _: Any) -> list[Any]:
        return [
            hvd.allreduce(each, op=hvd.Average, name=f"by_hand.{i}", ignore_name_scope=True)
            for i, each in enumerate(gradients)
        ]

    transform_gradients(model.optimizer, average)
    return stepping(model, x, y, steps)


class Variants:
    """The variants of one model, each a function that makes `steps` steps.

    Horovod's own thread polls a thousand times a second, on every rank. It is stopped while
    something else is measured.
    """

    def __init__(self, name: str, steps: int) -> None:
        self._horovod = HorovodEngine()
        plain = compiled(name)
        with candle.engine.use(SingleEngine()):
            decorated = candle.scalable(lambda: compiled(name)[0])()
        self.on_root_alone = {
            "plain": stepping(*plain, steps),
            "decorated": stepping(decorated, *plain[1:], steps),
        }
        self.on_all_ranks = {
            "unhooked": stepping(*compiled(name), steps),
            "mpi": with_engine(name, MpiEngine(), steps),
        }
        self.with_horovod = {
            "horovod": with_engine(name, self._horovod, steps),
            "hand-written": hand_written(name, steps),
            "hand-hooked": hand_hooked(name, steps),
        }
        if name == "dense":
            bucket, collectives._BUCKET_BYTES = collectives._BUCKET_BYTES, 2**40
            self.with_horovod["horovod, one bucket"] = with_engine(name, self._horovod, steps)
            self.with_horovod["horovod, one bucket"]()  # traces
            collectives._BUCKET_BYTES = bucket
        if name in ("text", "zipf"):
            summed = {"sum_embedding_slices": True}
            self.on_all_ranks["mpi, slices summed"] = with_engine(
                name, MpiEngine(), steps, **summed
            )
            self.with_horovod["horovod, slices summed"] = with_engine(
                name, self._horovod, steps, **summed
            )
        for run in self.with_horovod.values():
            run()  # traces
        hvd.shutdown()

    def round(self, measure: Callable[[str, Variant], None], number: int) -> None:
        """Measure each variant once, in another order each time."""
        alone = self.on_root_alone if self._horovod.is_root else dict.fromkeys(self.on_root_alone)
        for group in (alone, self.on_all_ranks):
            for name, run in rotated(group, number):
                measure(name, run or (lambda: None))
        self._horovod._start_horovod()
        for name, run in rotated(self.with_horovod, number):
            measure(name, run)
        hvd.shutdown()


def rotated(group: dict[str, Any], number: int) -> list[tuple[str, Any]]:
    items = list(group.items())
    return items[number % len(items) :] + items[: number % len(items)]


def measure(name: str, steps: int, rounds: int, clock: MpiEngine) -> dict[str, float]:
    """Median milliseconds of a step, for each variant."""
    times: dict[str, list[float]] = {}

    def timed(variant: str, run: Variant) -> None:
        wait_asleep(clock)
        begin = time.perf_counter()
        run()
        times.setdefault(variant, []).append((time.perf_counter() - begin) / steps * 1000)

    variants = Variants(name, steps)
    for number in range(rounds):
        variants.round(timed, number)
    return {variant: statistics.median(values) for variant, values in times.items()}


def wait_asleep(clock: MpiEngine) -> None:
    """A barrier whose waiting ranks leave the processor to the others."""
    request = clock._host.Ibarrier()
    while not request.Test():
        time.sleep(0.001)


RATIOS = (
    ("decorated", "plain"),
    ("mpi", "unhooked"),
    ("horovod", "unhooked"),
    ("mpi, slices summed", "unhooked"),
    ("horovod, slices summed", "unhooked"),
    ("mpi", "hand-written"),
    ("horovod", "hand-written"),
    ("horovod", "hand-hooked"),
    ("horovod", "horovod, one bucket"),
    ("unhooked", "plain"),
)


def report(medians: dict[str, dict[str, float]]) -> None:
    """Print medians and ratios."""
    for name, by_variant in medians.items():
        for ours, theirs in RATIOS:
            if not {ours, theirs} <= by_variant.keys():
                continue
            peer = (theirs, by_variant[theirs])
            claim(f"a step of the {name} model, {ours}", by_variant[ours], "ms", peer=peer)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    clock = MpiEngine()
    steps = {"mlp": 200, "dense": 10, "text": 10, "zipf": 10}
    medians = {name: measure(name, steps[name], options.rounds, clock) for name in options.models}
    if clock.is_root:
        report(medians)
        if options.json:
            facts = {"ranks": clock.size, "machine": platform.processor() or platform.machine()}
            options.json.write_text(json.dumps({**facts, "median_ms": medians}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
