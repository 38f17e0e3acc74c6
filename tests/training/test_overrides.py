"""Options from the environment win over the program's own."""

from __future__ import annotations

import json
import os

import keras
import pytest

import keras_candle as candle
from keras_candle.errors import CandleError
from keras_candle.training.options import VARIABLE, Options, with_overrides
from tests.training.cases import SPARSE_LOSS, difference, digits_like

ONE_RANKS_BATCHES = {"batch": "uneven", "learning_rate_scaling": None, "warmup_epochs": 0}


def test_without_the_variable_the_options_stay(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    options = Options(batch="global")
    assert with_overrides(options) is options


def test_what_it_names_is_overridden_and_the_rest_stays(monkeypatch):
    monkeypatch.setenv(VARIABLE, json.dumps(ONE_RANKS_BATCHES))
    options = with_overrides(Options(warmup_epochs=3, sync_batch_norm=True))
    assert options == Options(None, None, 0, "uneven", sync_batch_norm=True)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{batch: global}", "is no JSON object"),
        ('["global"]', "is no JSON object"),
        ('{"batches": "global"}', "names batches; expected some of precision, "),
        ('{"batch": "rank"}', "batch='rank' is unknown, expected one of 'replica', 'global'."),
    ],
)
def test_bad_ones_are_refused(monkeypatch, value, words):
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(CandleError) as caught:
        with_overrides(Options())
    assert VARIABLE in str(caught.value)
    assert words in str(caught.value)


def small_model():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, activation="softmax")])
    model.compile(keras.optimizers.Adam(0.05), SPARSE_LOSS)
    return model


def trained(build, kind, batch_size):
    import tensorflow as tf

    x, y = digits_like(rows=40)
    model = build()
    if kind == "arrays":
        model.fit(x, y, batch_size=batch_size, epochs=2, verbose=0)
    else:
        data = tf.data.Dataset.from_tensor_slices((x, y))
        model.fit(data.batch(batch_size, drop_remainder=kind == "fixed"), epochs=2, verbose=0)
    return model


def uneven(kind, batch_size):
    """The difference of this rank's weights to those of plain Keras."""
    reference = trained(small_model, kind, batch_size)
    os.environ[VARIABLE] = json.dumps(ONE_RANKS_BATCHES)
    try:
        return difference(trained(candle.scalable(small_model), kind, batch_size), reference)
    finally:
        del os.environ[VARIABLE]


@pytest.mark.parametrize("batch_size", [7, 2])
@pytest.mark.parametrize("kind", ["arrays", "batches", "fixed"])
def test_batches_that_the_ranks_cannot_divide_are_exact(ranks, kind, batch_size):
    assert all(each <= 1e-6 for each in ranks(3).run(uneven, kind=kind, batch_size=batch_size))
