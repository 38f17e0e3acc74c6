"""What the divergence guard costs of an epoch.

    candle run -np 2 -m examples.benchmarks.guard

A text model of about 10 million parameters with Adam trains with the guard and without it,
interleaved. The guard compares some 30 million numbers at each epoch's end. Printed are the medians
of an epoch's time, the time of one comparison, and their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import time

import keras
import numpy as np
from keras import layers

import keras_candle as candle
from examples.benchmarks.claims import claim

ROWS, LENGTH, VOCABULARY = 1_600, 200, 40_000


def make_model(*, guard: bool) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((LENGTH,), dtype="int32"),
            layers.Embedding(VOCABULARY, 240),
            layers.Conv1D(128, 5, activation="relu"),
            layers.GlobalMaxPooling1D(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return candle.scale(model, guard=guard)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    engine = candle.engine.start()
    random = np.random.default_rng(0)
    x = random.integers(0, VOCABULARY, (ROWS, LENGTH)).astype("int32")
    y = x[:, 0] % 2
    models = {guard: make_model(guard=guard) for guard in (True, False)}
    epochs: dict[bool, list[float]] = {True: [], False: []}
    for number in range(options.rounds + 1):
        for guard, model in models.items():
            engine.barrier()
            began = time.perf_counter()
            model.fit(x, y, batch_size=16, verbose=0)
            if number:
                epochs[guard].append(time.perf_counter() - began)
    comparisons = []
    watch = models[True]._candle_trainer._watch
    for _ in range(10):
        engine.barrier()
        began = time.perf_counter()
        watch.check_epoch(0)
        comparisons.append(time.perf_counter() - began)
    if engine.is_root:
        with_it, without = (statistics.median(epochs[guard]) for guard in (True, False))
        once = statistics.median(comparisons)
        claim("an epoch with the guard", with_it, "s", peer=("without", without))
        claim("one comparison of the ranks' states", once, "s", peer=("an epoch", without))


if __name__ == "__main__":
    main()
