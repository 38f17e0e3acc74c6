"""Options from the environment win over the program's own."""

from __future__ import annotations

import json

import pytest

from keras_candle.errors import CandleError
from keras_candle.launcher_messages import OPTIONS
from keras_candle.training.options import ScalingOptions, with_overrides

ONE_RANKS_BATCHES = {"batch": "global", "learning_rate_scaling": None, "warmup_epochs": 0}


def test_without_the_variable_the_options_stay(monkeypatch):
    monkeypatch.delenv(OPTIONS, raising=False)
    options = ScalingOptions(batch="global")
    assert with_overrides(options) is options


def test_what_it_names_is_overridden_and_the_rest_stays(monkeypatch):
    monkeypatch.setenv(OPTIONS, json.dumps(ONE_RANKS_BATCHES))
    options = with_overrides(ScalingOptions(warmup_epochs=3, sync_batch_norm=True))
    assert options == ScalingOptions(None, None, 0, "global", sync_batch_norm=True)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{batch: global}", "is not a JSON object"),
        ('["global"]', "is not a JSON object"),
        ('{"batches": "global"}', "has unknown arguments: batches; expected some of precision, "),
        ('{"batch": "rank"}', "batch='rank' is unknown, expected one of 'replica', 'global'."),
    ],
)
def test_bad_ones_are_refused(monkeypatch, value, words):
    monkeypatch.setenv(OPTIONS, value)
    with pytest.raises(CandleError) as caught:
        with_overrides(ScalingOptions())
    assert OPTIONS in str(caught.value)
    assert words in str(caught.value)
