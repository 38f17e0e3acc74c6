"""What 16 bits are worth here: the step time of four models in each precision.

    python -m examples.benchmarks.precision

The models train in float32, mixed_bfloat16, mixed_float16 and in what `precision="auto"` takes, in
turns: a few steps of each, round after round. Printed are a step's time in float32 and how many
times as fast the others are: by the median time of a step, by the fastest step, and by the median
of the processor's time, which other programs on a busy machine disturb least.

An optimizer's own work is done in float32 in all of them; that of Adam is a good part of a step of
dense layers (`--optimizer adam`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from keras import layers

import keras_candle as candle
from examples.benchmarks.claims import claim
from keras_candle.training.precision import precision_of_this_node

# A model, the shape of a row, and the rows of a batch.
Case = tuple[keras.Model, tuple[int, ...], int]
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "auto")
STEPS_A_ROUND = 3


def dense() -> Case:
    hidden = [layers.Dense(1024, activation="relu") for _ in range(4)]
    return keras.Sequential([*hidden, layers.Dense(10, dtype="float32")]), (1024,), 128


def conv2d() -> Case:
    hidden = [layers.Conv2D(64, 3, padding="same", activation="relu") for _ in range(3)]
    last = [layers.GlobalAveragePooling2D(), layers.Dense(10, dtype="float32")]
    return keras.Sequential([*hidden, *last]), (32, 32, 3), 32


def conv1d() -> Case:
    """As the NT3 benchmark for tumours in gene expressions, with shorter rows."""
    hidden = [
        layers.Conv1D(128, 20, activation="relu"),
        layers.Conv1D(128, 10, activation="relu"),
        layers.MaxPooling1D(10),
        layers.Flatten(),
        layers.Dense(200, activation="relu"),
    ]
    return keras.Sequential([*hidden, layers.Dense(10, dtype="float32")]), (1500, 1), 16


def text() -> Case:
    tokens = keras.Input((128,))
    x = layers.Embedding(20_000, 128)(tokens)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 32)(x, x))
    x = layers.GlobalAveragePooling1D()(layers.Dense(256, activation="relu")(x))
    return keras.Model(tokens, layers.Dense(10, dtype="float32")(x)), (128,), 32


def trained(make: Callable[[], Case], precision: str, optimizer: str) -> Callable[[], object]:
    """A function that runs one step."""
    kept: list[tuple[int, ...]] = []

    @candle.scalable(precision=precision)
    def build() -> keras.Model:
        model, shape, batch = make()
        kept.append((batch, *shape))
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    model = build()
    random = np.random.default_rng(0)
    high = 20_000 if make is text else 1
    x = (random.random(kept[0]) * high).astype("float32")
    y = random.integers(0, 10, kept[0][0])
    return lambda: model.train_on_batch(x, y)


def measure(
    make: Callable[[], Case], rounds: int, optimizer: str
) -> dict[str, list[tuple[float, float]]]:
    """The time and the processor's time of each step, by precision."""
    steps = {precision: trained(make, precision, optimizer) for precision in PRECISIONS}
    times: dict[str, list[tuple[float, float]]] = {precision: [] for precision in PRECISIONS}
    for step in steps.values():
        step()
        step()
    for number in range(rounds):
        for precision in PRECISIONS if number % 2 else reversed(PRECISIONS):
            for _ in range(STEPS_A_ROUND):
                began, worked = time.perf_counter(), time.process_time()
                steps[precision]()
                passed = time.perf_counter() - began, time.process_time() - worked
                times[precision].append(passed)
    return times


def summary(times: list[tuple[float, float]]) -> dict[str, float]:
    passed, worked = zip(*times, strict=True)
    return {
        "median": statistics.median(passed),
        "fastest": min(passed),
        "processor": statistics.median(worked),
    }


def most_of(make: Callable[[], Case]) -> float:
    """The most that a step may take of one in float32: less where this CPU has bfloat16."""
    has_bfloat16 = precision_of_this_node().precision == "mixed_bfloat16"
    return 1 / 1.4 if has_bfloat16 and make is not text else 1 / 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--optimizer", default="sgd")
    parser.add_argument("--json", type=Path, help="write all ratios here")
    options = parser.parse_args()
    told = {}
    print(f"{'':8}{'float32':>10}" + "".join(f"{each:>20}" for each in PRECISIONS[1:]))
    for make in (dense, conv2d, conv1d, text):
        measured = measure(make, options.rounds, options.optimizer)
        times = {name: summary(each) for name, each in measured.items()}
        plain = times["float32"]
        ratios = {
            precision: {what: plain[what] / own[what] for what in own}
            for precision, own in times.items()
        }
        told[make.__name__] = ratios
        cells = [" ".join(f"{each:.2f}" for each in ratios[name].values()) for name in ratios]
        row = f"{make.__name__:8}{1000 * plain['median']:>7.1f} ms"
        print(row + "".join(f"{each:>20}" for each in cells[1:]))
        for name in PRECISIONS[1:]:
            claim(
                f"{make.__name__}: a step in {name}, the processor's time",
                times[name]["processor"],
                "s",
                peer=("float32", plain["processor"]),
                at_most=most_of(make) if name == "auto" else None,
            )
    if options.json is not None:
        options.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
