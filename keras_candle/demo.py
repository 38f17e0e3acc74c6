"""`python -m keras_candle.demo`: train real models on real data; `candle demo` runs it.

It is written as a user's script: one decorator, and the rest is plain Keras.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

import keras_candle as candle
from keras_candle.errors import CandleError
from keras_candle.optional import load

Data = tuple[Any, Any, Any, Any]


def digits() -> tuple[Data, list[Any]]:
    """Load 1,797 images of handwritten digits of 8 x 8 pixels, and make a convolutional network."""
    images, labels = load("sklearn.datasets", "the demo").load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype("float32") / 16
    network = [
        keras.Input((8, 8, 1)),
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.Conv2D(64, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dropout(0.2),
        layers.Dense(128, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ]
    return _divided(images, labels), network


def breast_cancer() -> tuple[Data, list[Any]]:
    """Load 569 tumours described by 30 numbers each, and make a small dense network."""
    features, labels = load("sklearn.datasets", "the demo").load_breast_cancer(return_X_y=True)
    features = ((features - features.mean(0)) / features.std(0)).astype("float32")
    network = [
        keras.Input((30,)),
        layers.Dense(64, activation="relu"),
        layers.Dropout(0.3),
        layers.Dense(32, activation="relu"),
        layers.Dense(2, activation="softmax"),
    ]
    return _divided(features, labels), network


DATASETS: dict[str, Callable[[], tuple[Data, list[Any]]]] = {
    "digits": digits,
    "breast_cancer": breast_cancer,
}


@candle.scalable(warmup_epochs=2)
def build_model(network: list[Any]) -> Any:
    """Build and compile the model."""
    model = keras.Sequential(network)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


class EpochTimes(keras.callbacks.Callback):  # type: ignore[misc]
    """Record the duration of each epoch in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._begin = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        self._begin = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        self.seconds.append(time.perf_counter() - self._begin)


def train(dataset: str, epochs: int, runs: Path | None = None) -> dict[str, Any]:
    """Train one model and measure it.

    Args:
        dataset: one of `DATASETS`.
        epochs: number of epochs; at least 2, as the first one is not timed.
        runs: the folder for its run directory; None makes none.

    Returns:
        The measurements that `candle demo` shows.
    """
    keras.utils.set_random_seed(0)
    begin = time.perf_counter()
    (x, y, x_test, y_test), network = DATASETS[dataset]()
    model, times = build_model(network), EpochTimes()
    engine = candle.engine.current()
    callbacks: list[Any] = [times]
    if runs is not None:
        # Saved at the end only: the epochs are timed.
        run = runs / f"{dataset} on {engine.size} ({engine.name})"
        callbacks.append(candle.CandleCallback(run, candle.Checkpoint(None, keep_best=0)))
    model.fit(x, y, batch_size=32, epochs=epochs, verbose=2, callbacks=callbacks)
    _, accuracy = model.evaluate(x_test, y_test, verbose=0)
    weights = hashlib.sha256(b"".join(np.asarray(each).tobytes() for each in model.get_weights()))
    return {
        "dataset": dataset,
        "engine": engine.name,
        "size": engine.size,
        "accuracy": accuracy,
        # The first epoch traces the step, and other processes slow single epochs down.
        "samples_per_s": len(x) / float(np.median(times.seconds[1:])),
        "weights_equal": len(set(engine.gather_objects(weights.hexdigest()))) == 1,
        "seconds": time.perf_counter() - begin,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--json", type=Path, help="where the root writes the results")
    parser.add_argument("--runs", type=Path, help="where the run directories go; none by default")
    options = parser.parse_args()
    if options.epochs < 2:
        raise CandleError(f"--epochs {options.epochs}, expected 2 or more.")
    engine = candle.engine.start(options.engine)
    results = [train(dataset, options.epochs, options.runs) for dataset in options.dataset]
    if engine.is_root and options.json:
        options.json.write_text(json.dumps(results))
    return 0


def _divided(x: Any, y: Any) -> Data:
    """Hold out a fifth, the same fifth on every rank."""
    order = np.random.default_rng(0).permutation(len(x))
    test, train = np.split(order, [len(x) // 5])
    return x[train], y[train], x[test], y[test]


if __name__ == "__main__":
    sys.exit(main())
