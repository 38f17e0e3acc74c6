"""Kills trainings at random moments on 1, 2 and 3 ranks, and compares each end with one without.

    python -m examples.benchmarks.faults [--kills 200]

A training with batch normalisation, dropout, moving averages of its weights, early stopping, a CSV
log and a callback of its own makes a checkpoint every few steps, from arrays and from `tf.data`.
`candle verify-resume` kills one random rank in it with SIGKILL: in steps, in writes, in between.
Printed are, for each number of ranks, the kills, those whose training ended to the bit as the one
without kills, the most steps that were taken again against the steps between two checkpoints, and
the damaged run directories. The exit code is 1 when one of them is not as it should be.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from examples.benchmarks.claims import claim

RANKS, DATA = (1, 2, 3), ("arrays", "dataset")
EVERY_STEPS, ROWS, BATCH_SIZE, EPOCHS = 4, 240, 24, 5


def train(kind: str) -> None:
    """Two fits in one run directory."""
    import keras
    import numpy as np
    import tensorflow as tf
    from keras import layers

    import keras_candle as candle

    class Draws(keras.callbacks.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.drawn: list[float] = []

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
            self.drawn.append(float(np.random.random()))

    keras.utils.set_random_seed(7)
    random = np.random.default_rng(7)
    x = random.normal(size=(ROWS, 16)).astype("float32")
    y = (x[:, :3].sum(1) > 0).astype("float32")
    inputs = keras.Input((16,))
    hidden = layers.BatchNormalization()(layers.Dense(32, "relu")(inputs))
    outputs = layers.Dense(1, "sigmoid")(layers.Dropout(0.3)(hidden))
    model = keras.Model(inputs, outputs)
    optimizer = keras.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=7)
    model.compile(optimizer, "binary_crossentropy", metrics=["auc"])
    model = candle.scale(model, batch="global")
    given: dict[str, Any] = {"x": x, "y": y, "batch_size": BATCH_SIZE}
    if kind == "dataset":
        rows = tf.data.Dataset.from_tensor_slices((x, y))
        given = {"x": rows.shuffle(100, seed=5).batch(BATCH_SIZE)}
    cadence = candle.Checkpoint(every_steps=EVERY_STEPS, keep_last=2)
    for number in (1, 2):
        callbacks = [
            keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True),
            keras.callbacks.CSVLogger(f"log-{number}.csv"),
            candle.CandleCallback("run", cadence),
            Draws(),
        ]
        model.fit(
            **given,
            epochs=EPOCHS,
            validation_data=(x[:60], y[:60]),
            callbacks=callbacks,
            verbose=0,
        )


def kill(ranks: int, kind: str, kills: int, seed: int) -> dict[str, Any]:
    """What `candle verify-resume` says of the training."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder, "told.json")
        command = [sys.executable, "-m", "keras_candle.launch.cli", "verify-resume"]
        command += ["-np", str(ranks), "--kills", str(kills), "--seed", str(seed)]
        command += ["--timeout", "300", "--json", str(told)]
        command += [str(Path(__file__).resolve()), "--train", kind]
        done = subprocess.run(command, check=False, cwd=folder, stdout=subprocess.DEVNULL)
        if not told.exists():
            sys.exit(f"candle verify-resume ended with code {done.returncode}")
        result: dict[str, Any] = json.loads(told.read_text())
    return result


def summary(where: str, told: dict[str, Any]) -> None:
    """Print what became of one training's kills."""
    kills, rounds = told["kills"], told["rounds"]
    exact = [not each["differences"] and not each["failure"] for each in rounds]
    resumed = sum(each["kills"] for each, is_exact in zip(rounds, exact, strict=True) if is_exact)
    lost = max((each["lost"] for each in kills), default=0)
    damaged = sum(bool(each["damage"]) for each in kills)
    claim(f"kills {where} after which it ends to the bit", resumed, at_least=len(kills))
    # Where the newest checkpoint was still being written the one before counts.
    claim(f"most steps lost {where}", lost, "steps", at_most=2 * EVERY_STEPS)
    claim(f"damaged run directories {where}", damaged, at_most=0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="of all trainings together")
    parser.add_argument("--seed", type=int, default=1, help="of the kills")
    parser.add_argument("--train", choices=DATA, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train(options.train)
        return 0
    cases = [(ranks, kind) for ranks in RANKS for kind in DATA]
    good = True
    for place, (ranks, kind) in enumerate(cases):
        share = options.kills // len(cases) + (place < options.kills % len(cases))
        if not share:
            continue
        told = kill(ranks, kind, share, options.seed + place)
        summary(f"on {ranks} ranks from {kind}", told)
        if told["verdict"] != "EXACT":
            good = False
            print("\n".join(f"       {each}" for each in told["sentences"]), flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
