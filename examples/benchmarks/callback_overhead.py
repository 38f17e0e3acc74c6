"""What CandleCallback costs a step that is as short as steps get.

    python -m examples.benchmarks.callback_overhead
    candle run -np 2 -m examples.benchmarks.callback_overhead

A dense model whose step takes about so many milliseconds trains with the callback (its watchdog on,
its checkpoints at the end of each fit only) and without it, interleaved. Printed are the medians of
a step's time and their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

import keras_candle as candle
from examples.benchmarks.claims import claim

EPOCHS, STEPS = 5, 200
BATCH = 32
# Milliseconds of a step -> units of each of four layers, about, on one core.
WIDTHS = {1: 64, 5: 640}
MOST = {1: 1.03, 5: 1.01}


class StepTimes(keras.callbacks.Callback):
    """Notes when each step begins."""

    def __init__(self) -> None:
        super().__init__()
        self.stamps: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:  # noqa: ARG002
        self.stamps.append(time.perf_counter())

    def steps(self) -> list[float]:
        """Seconds of each step but for those at an epoch's end."""
        stamps = [self.stamps[at : at + STEPS] for at in range(0, len(self.stamps), STEPS)]
        return [float(each) for epoch in stamps[1:] for each in np.diff(epoch)]


def make_model(width: int) -> keras.Model:
    hidden = [keras.layers.Dense(width, "relu") for _ in range(4)]
    model = keras.Sequential([keras.Input((width,)), *hidden, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return candle.scale(model)


def compare(width: int, rounds: int, folder: Path) -> tuple[float, float]:
    """Median seconds of a step with the callback and without it."""
    size = candle.size()
    rows = np.random.default_rng(0).random((STEPS * BATCH * size, width), "float32")
    found: dict[bool, list[float]] = {True: [], False: []}
    for number in range(rounds + 1):
        for durable in (True, False) if number % 2 else (False, True):
            # A new one each time: a step that was traced with the callback measures itself from
            # then on, and where a model lies in memory makes some per cent.
            model = make_model(width)
            times = StepTimes()
            callbacks: list[keras.callbacks.Callback] = [times]
            if durable:
                cadence = candle.Checkpoint(every_epochs=None, keep_best=0)
                run = folder / f"{width}-{number}"
                callbacks.append(candle.CandleCallback(run, cadence, stall_timeout=600.0))
            model.fit(
                rows, rows[:, :1], batch_size=BATCH, epochs=EPOCHS, verbose=0, callbacks=callbacks
            )
            if number:
                found[durable] += times.steps()
    return statistics.median(found[True]), statistics.median(found[False])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    engine = candle.engine.start()
    for about, width in WIDTHS.items():
        with tempfile.TemporaryDirectory() as own:
            place = Path(engine.broadcast(own))
            with_it, without = compare(width, options.rounds, place)
        if engine.is_root:
            claim(
                f"a step of about {about} ms with the callback on {engine.size} ranks",
                1000 * with_it,
                "ms",
                peer=("without", 1000 * without),
                at_most=MOST[about],
            )


if __name__ == "__main__":
    main()
