from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_candle.checkpoints.layout import layout_of
from keras_candle.checkpoints.writing import Contents, HostSnapshot


def build(kind="adam"):
    """A trained model with layers, optimizer and precision of a kind."""
    keras.utils.set_random_seed(0)
    policy = kind if kind in ("mixed_float16", "bfloat16") else "float32"
    inputs = keras.Input((8,))
    hidden = keras.layers.Dense(6, "relu", dtype=policy)(inputs)
    hidden = keras.layers.BatchNormalization(dtype=policy)(hidden)
    outputs = keras.layers.Dense(3, dtype=policy)(keras.layers.Dropout(0.5)(hidden))
    model = keras.Model(inputs, outputs)
    optimizer = {
        "mixed_float16": lambda: keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.1, momentum=0.9, use_ema=True)
        ),
        "rmsprop": lambda: keras.optimizers.RMSprop(0.01, momentum=0.9, centered=True),
    }.get(kind, lambda: keras.optimizers.Adam(0.01))()
    model.compile(optimizer, "mse", metrics=["mae"])
    data = np.random.default_rng(0).normal(size=(20, 11)).astype("float32")
    model.fit(data[:, :8], data[:, 8:], batch_size=7, epochs=2, verbose=0)
    return model


def save(model, folder):
    """A checkpoint's files of two ranks, the manifest last."""
    snapshot = HostSnapshot(layout_of(model))
    snapshot.take()
    of_ranks = [{"drawn": np.arange(rank, 9)} for rank in range(2)]
    Contents(2, snapshot, {"epoch": 2, "best": np.ones(3)}, of_ranks).write(folder)


@pytest.fixture
def whole(tmp_path):
    """A checkpoint on disk."""
    save(build(), tmp_path)
    return tmp_path
