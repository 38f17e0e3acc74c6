"""What data parallelism costs a training step: keras_candle against plain and hand-written loops.

    candle run -np 2 -m examples.benchmarks.data_parallel --json result.json

Everything is measured in one job, interleaved, and compared by medians, because machines are
noisy and drift. Variants:

    plain        Keras on the root, the other ranks idle
    decorated    the same model through @candle.scalable as one rank's program has it
    unhooked     Keras on every rank at once, no communication
    mpi          keras_candle, engine mpi
    horovod      keras_candle, engine horovod
    hand-written GradientTape and Horovod's allreduce in a tf.function, as its guide has it

Models: a small MLP (9,000 parameters), and a text CNN with an Embedding (10 million).
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

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import keras_candle as candle
from keras_candle.engine.horovod import HorovodEngine
from keras_candle.engine.mpi import MpiEngine
from keras_candle.engine.single import SingleEngine

LOSS = "sparse_categorical_crossentropy"
Variant = Callable[[], None]


def mlp() -> tuple[list[Any], Any, int]:
    """9,000 parameters in 6 tensors, 32 rows a step."""
    hidden = [layers.Dense(64, activation="relu") for _ in range(2)]
    network = [keras.Input((64,)), *hidden, layers.Dense(10, activation="softmax")]
    return network, np.random.default_rng(0).normal(size=(64, 64)).astype("float32"), 32


def text() -> tuple[list[Any], Any, int]:
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
    return network, np.random.default_rng(0).integers(0, 40_000, size=(32, 200)), 16


MODELS = {"mlp": mlp, "text": text}


def compiled(name: str) -> tuple[Any, Any, Any]:
    """A model, and one rank's batch for it."""
    network, x, rows = MODELS[name]()
    model = keras.Sequential(network)
    model.compile("adam", LOSS)
    return model, x[:rows], np.arange(rows) % 10


def fitting(model: Any, x: Any, y: Any, steps: int) -> Variant:
    """`steps` steps of fit on one batch that is already in memory."""
    batch = tf.data.Dataset.from_tensors((tf.constant(x), tf.constant(y))).repeat()
    # Each rank has its own batch: sharding is not what is measured here.
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    batch = batch.with_options(options)
    return lambda: model.fit(batch, steps_per_epoch=steps, epochs=1, verbose=0)


def with_engine(name: str, engine: Any, steps: int) -> Variant:
    """keras_candle on an engine."""
    with candle.engine.use(engine):
        model, x, y = compiled(name)
        run = fitting(candle.scale(model, engine=engine.name), x, y, steps)
        run()
    return run


def hand_written(name: str, engine: HorovodEngine, steps: int) -> Variant:
    """The loop that a careful user writes for Horovod with Keras 3."""
    hvd = engine._hvd
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


def variants(name: str, steps: int) -> dict[str, tuple[bool, Variant]]:
    """Each variant: whether the root runs it alone, and the function that makes `steps` steps."""
    single, mpi, horovod = SingleEngine(), MpiEngine(), HorovodEngine()
    plain, unhooked = compiled(name), compiled(name)
    with candle.engine.use(single):
        decorated = candle.scalable(lambda: compiled(name)[0])()
    return {
        "plain": (True, fitting(*plain, steps)),
        "decorated": (True, fitting(decorated, *plain[1:], steps)),
        "unhooked": (False, fitting(*unhooked, steps)),
        "mpi": (False, with_engine(name, mpi, steps)),
        "horovod": (False, with_engine(name, horovod, steps)),
        "hand-written": (False, hand_written(name, horovod, steps)),
    }


def measure(name: str, steps: int, rounds: int, clock: MpiEngine) -> dict[str, float]:
    """Median milliseconds of a step, for each variant."""
    each = variants(name, steps)
    for alone, run in each.values():
        if clock.is_root or not alone:
            run()  # trace
        clock.barrier()
    times: dict[str, list[float]] = {variant: [] for variant in each}
    for _ in range(rounds):
        for variant, (alone, run) in each.items():
            wait_asleep(clock)
            begin = time.perf_counter()
            if clock.is_root or not alone:
                run()
            times[variant].append((time.perf_counter() - begin) / steps * 1000)
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
    ("mpi", "hand-written"),
    ("horovod", "hand-written"),
    ("unhooked", "plain"),
)


def report(medians: dict[str, dict[str, float]]) -> str:
    """The table of medians and ratios."""
    lines = []
    for name, by_variant in medians.items():
        lines.append(f"{name}: median ms a step")
        lines += [f"  {variant:<14}{ms:8.2f}" for variant, ms in by_variant.items()]
        lines += [
            f"  {ours} / {theirs}: {by_variant[ours] / by_variant[theirs]:.3f}"
            for ours, theirs in RATIOS
        ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    clock = MpiEngine()
    steps = {"mlp": 200, "text": 10}
    medians = {name: measure(name, steps[name], options.rounds, clock) for name in options.models}
    if clock.is_root:
        print(report(medians))
        if options.json:
            facts = {"ranks": clock.size, "machine": platform.processor() or platform.machine()}
            options.json.write_text(json.dumps({**facts, "median_ms": medians}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
