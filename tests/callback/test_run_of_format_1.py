"""A run directory of a version whose state had no format yet resumes as it would have then."""

from __future__ import annotations

import shutil
from pathlib import Path

import keras
import numpy as np

import keras_candle as candle
from tests.callback import cases

RUN = Path(__file__).with_name("run_of_format_1")
# What that version came to without interruption.
WEIGHTS = [[[0.005599223], [-1.175032139], [0.792845845]], [0.011165963]]
LOSSES = [2.818800449, 2.751361847, 2.472761393]


def test_it_resumes(tmp_path, capsys):
    shutil.copytree(RUN, tmp_path / "run")
    keras.utils.set_random_seed(3)
    layers = [keras.Input((3,)), keras.layers.Dense(1), keras.layers.Dropout(0.5)]
    model = keras.Sequential(layers)
    model.compile("adam", "mse", metrics=["mae"])
    checkpoint = candle.Checkpoint(every_steps=2, every_epochs=None)
    history = cases.small_fit(tmp_path / "run", model, 3, rows=16, checkpoint=checkpoint)
    assert "step-00000008 (epoch 2, 4 steps of it done)" in capsys.readouterr().err
    assert history.epoch == [0, 1, 2]
    assert np.allclose(history.history["loss"], LOSSES, rtol=1e-5)
    for weight, expected in zip(model.get_weights(), WEIGHTS, strict=True):
        assert np.allclose(weight, expected, rtol=1e-4)
