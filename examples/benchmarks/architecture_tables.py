"""Two small tasks, every architecture of a small space trained on each: tables to search in.

    python -m examples.benchmarks.architecture_tables --table architecture_tables.json

trains what is not in the table yet, one after the other with one thread, and prints how far it is.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

WORDS, LENGTH = 40, 24
BATCH_SIZE = 64
# Epochs of a training, and trainings of each architecture, whose mean the table has. With few of
# them the text's table would tell which initial weights had luck, not which architecture is good.
TRAINING = {"digits": (8, 1), "text": (12, 2)}


def digits(hp: Any) -> Any:
    """A cell of two convolutions over images of 8 by 8."""
    import keras

    from keras_candle.search import nas

    image = keras.Input((8, 8, 1))
    kinds = ("conv", "separable", "identity")
    x = nas.conv_cell(hp, image, "cell", nodes=2, kinds=kinds, widths=(12,))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(10, "softmax")(x))


def text(hp: Any) -> Any:
    """One or two layers over sequences of 24 words."""
    import keras

    from keras_candle.search import nas

    words = keras.Input((LENGTH,))
    x = keras.layers.Embedding(WORDS, 12)(words)
    options = {"kinds": ("conv", "attention"), "widths": (8, 24)}
    x = nas.stack(hp, x, "text", nas.text_block, (1, 2), kernels=(3, 7), heads=(4,), **options)
    x = keras.layers.GlobalMaxPooling1D()(x)
    return keras.Model(words, keras.layers.Dense(4, "softmax")(x))


def load_digits() -> tuple[Any, ...]:
    """The handwritten digits of scikit-learn: 600 to train with, as many to validate with."""
    from sklearn.datasets import load_digits as load

    images, labels = load(return_X_y=True)
    images = (images / 16).reshape(-1, 8, 8, 1).astype("float32")
    order = np.random.default_rng(0).permutation(len(images))
    return tuple(part[order[rows]] for rows in (slice(600), slice(600, 1200))
                 for part in (images, labels))  # fmt: skip


def load_text() -> tuple[Any, ...]:
    """Sentences of a small language: four classes, by word order and by words far apart.

    The first bit of the class is whether the words 1, 2 and 3 stand next to each other in this
    order; all of them are in each sentence. The second is whether the sentence has exactly one
    of the words 4 and 5, wherever they are.
    """
    rng = np.random.default_rng(0)
    sentences = rng.integers(6, WORDS, (2400, LENGTH))
    labels = rng.integers(4, size=len(sentences))
    for sentence, label in zip(sentences, labels, strict=True):
        places = rng.permutation(np.arange(0, LENGTH, 4))
        phrase = [1, 2, 3] if label % 2 else [[1, 3, 2], [3, 1, 2], [2, 1, 3]][rng.integers(3)]
        sentence[places[0] : places[0] + 3] = phrase
        marks = [[], [4, 5]][rng.integers(2)] if label < 2 else [[4], [5]][rng.integers(2)]
        for place, mark in zip(places[1:], marks, strict=False):
            sentence[place + rng.integers(3)] = mark
    return sentences[:1600], labels[:1600], sentences[1600:], labels[1600:]


TASKS: dict[str, tuple[Callable[[Any], Any], Callable[[], tuple[Any, ...]]]] = {
    "digits": (digits, load_digits),
    "text": (text, load_text),
}


def architectures(build: Callable[[Any], Any]) -> Iterator[dict[str, Any]]:
    """Each architecture of a space once, as the values of its hyperparameters."""
    known = space_of(build)

    def complete(values: dict[str, Any], left: list[Any]) -> Iterator[dict[str, Any]]:
        if not left:
            yield values
            return
        first, *others = left
        if not all(condition.is_active(values) for condition in first.conditions):
            yield from complete(values, others)
            return
        for value in first.values:
            yield from complete({**values, first.name: value}, others)

    yield from complete({}, list(known.space))


def space_of(build: Callable[[Any], Any]) -> Any:
    """The hyperparameters of a model; one build is enough, for all of them are registered."""
    import keras_tuner

    hp = keras_tuner.HyperParameters()
    build(hp)
    return hp


def key_of(values: dict[str, Any]) -> str:
    """The name of an architecture in the table."""
    return json.dumps(values, sort_keys=True)


def train(task: str, values: dict[str, Any], data: tuple[Any, ...]) -> list[float]:
    """Train one architecture.

    Returns:
        The validation loss and error after the last epoch, the number of parameters, and seconds.
    """
    began_s = time.perf_counter()
    epochs, seeds = TRAINING[task]
    ends = [_train_once(task, values, data, epochs, seed) for seed in range(seeds)]
    return [*np.mean(ends, axis=0).tolist(), time.perf_counter() - began_s]


def _train_once(
    task: str, values: dict[str, Any], data: tuple[Any, ...], epochs: int, seed: int
) -> tuple[float, float, int]:
    import keras
    import keras_tuner
    import tensorflow as tf

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    hp = keras_tuner.HyperParameters.from_config({"space": [], "values": dict(values)})
    model = TASKS[task][0](hp)
    x, y, x_val, y_val = (tf.constant(part) for part in data)
    step = _step(model, x, y)
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        order = rng.permutation(len(data[0]))
        for first in range(0, len(order) - BATCH_SIZE + 1, BATCH_SIZE):
            step(tf.constant(order[first : first + BATCH_SIZE]))
    predicted = model(x_val, training=False)
    loss = keras.losses.SparseCategoricalCrossentropy()(y_val, predicted)
    error = np.mean(np.argmax(predicted, axis=1) != data[3])
    return float(loss), float(error), model.count_params()


def _step(model: Any, x: Any, y: Any) -> Any:
    """One training step, traced once: `fit` would trace three functions for each architecture."""
    import keras
    import tensorflow as tf

    adam, loss = keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy()
    model.compile(adam, loss)
    adam.build(model.trainable_variables)

    @tf.function
    def step(rows: Any) -> None:
        with tf.GradientTape() as tape:
            value = loss(tf.gather(y, rows), model(tf.gather(x, rows), training=True))
        variables = model.trainable_variables
        adam.apply(tape.gradient(value, [each.value for each in variables]), variables)

    return step


def complete(path: Path, limit: int | None = None) -> dict[str, dict[str, list[float]]]:
    """Train what the table doesn't have.

    Args:
        path: of the table; written again after each 5 trainings, so that it can be gone on with.
        limit: how many trainings at most.
    """
    tables = json.loads(path.read_text()) if path.exists() else {}
    missing = [
        (task, values)
        for task, (build, _) in TASKS.items()
        for values in architectures(build)
        if key_of(values) not in tables.setdefault(task, {})
    ]
    data = {task: load() for task, (_, load) in TASKS.items()}
    for number, (task, values) in enumerate(missing[:limit], start=1):
        tables[task][key_of(values)] = train(task, values, data[task])
        if number % 5 == 0 or number == len(missing[:limit]):
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(tables))
            os.replace(partial, path)
            print(f"{len(missing) - number} trainings left", flush=True)
    return tables


if __name__ == "__main__":
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, default=Path("architecture_tables.json"))
    parser.add_argument("--limit", type=int)
    arguments = parser.parse_args()
    complete(arguments.table, arguments.limit)
