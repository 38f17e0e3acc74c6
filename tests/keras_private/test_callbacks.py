"""A contract: Keras's callbacks keep their state where a resume looks for it."""

from __future__ import annotations

import keras
import pytest

import keras_candle as candle
from keras_candle.keras_private import callbacks as keras_callbacks

# Beside what a resume keeps: a setting that is worked out again, or what belongs to a file.
UNIMPORTANT = {"_model", "params", "min_delta", "mode", "monitor_op", "learning_rate"}


@pytest.mark.parametrize("name", ["EarlyStopping", "ModelCheckpoint", "ReduceLROnPlateau"])
def test_all_that_a_callback_of_keras_changes_is_known(name):
    kind = getattr(keras.callbacks, name)
    assert keras_callbacks.ignored_attributes(kind) - UNIMPORTANT <= {
        "stop_training",
        "validation_data",
    }


def test_the_state_of_a_callback_of_keras_or_one_that_derives_from_it():
    class Own(keras.callbacks.EarlyStopping):
        """A user's."""

    own = Own(patience=2)
    own.wait, own.best = 3, 0.5
    assert keras_callbacks.kind_of(own) == "EarlyStopping"
    assert keras_callbacks.state_of(own).items() >= {"wait": 3, "best": 0.5}.items()
    assert keras_callbacks.kind_of(keras.callbacks.LambdaCallback()) == "LambdaCallback"
    assert keras_callbacks.state_of(keras.callbacks.LambdaCallback()) == {}


def test_a_renamed_attribute_of_a_callback_is_an_error(monkeypatch):
    keras_callbacks.check_names()
    monkeypatch.setitem(keras_callbacks.STATE, "EarlyStopping", ("wait", "patience_left"))
    with pytest.raises(candle.CandleError, match="patience_left"):
        keras_callbacks.check_names()
