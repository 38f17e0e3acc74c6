"""Searches the layers and the learning rate of a small network for scikit-learn's digits.

    python -m examples.search
    candle run -np 2 -m examples.search

On 2 cores both take less than 3 minutes. The second searches in two groups at once; started
again, it has nothing left to do.
"""

from __future__ import annotations

from typing import Any

import keras
from sklearn.datasets import load_digits

import keras_candle as candle

TRIALS, EPOCHS = 24, 6


def build_model(hp: Any) -> Any:
    model = keras.Sequential([keras.Input((64,))])
    for layer in range(hp.Int("layers", 1, 3)):
        model.add(keras.layers.Dense(hp.Int(f"units_{layer}", 8, 128, sampling="log"), "relu"))
        model.add(keras.layers.Dropout(hp.Float(f"dropout_{layer}", 0.0, 0.5, step=0.1)))
    model.add(keras.layers.Dense(10, "softmax"))
    rate = hp.Float("learning_rate", 1e-5, 1e-1, sampling="log")
    optimizer = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}
    chosen = optimizer[hp.Choice("optimizer", ["adam", "sgd"])](rate)
    model.compile(chosen, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def main() -> None:
    x, y = load_digits(return_X_y=True)
    tuner = candle.CandleTuner(
        build_model,
        "val_accuracy",
        max_trials=TRIALS,
        directory="runs",
        project_name="search-digits",
    )
    tuner.search(x / 16, y, validation_split=0.2, epochs=EPOCHS, batch_size=32, verbose=0)
    best = tuner.oracle.get_best_trials()[0]
    print(f"{len(tuner.oracle.trials)} trials, best accuracy {best.score:.3f} with")
    print(best.hyperparameters.values)


if __name__ == "__main__":
    main()
