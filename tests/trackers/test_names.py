"""What may be asked for, what it needs, and what must not leave."""

from __future__ import annotations

import copy
import importlib.util

import pytest

import keras_candle as candle
from keras_candle.trackers import base
from keras_candle.trackers.base import redacted
from tests.trackers.cases import Recorder


@pytest.mark.parametrize("trackers", ["tensorbord", ("csv", 3), 7, [Recorder]])
def test_what_is_no_tracker_is_refused(tmp_path, trackers):
    with pytest.raises(candle.CandleError, match=r"trackers=.*(csv|candle.Tracker)"):
        candle.CandleCallback(tmp_path, trackers=trackers)


def test_names_and_objects_are_taken_in_any_number(tmp_path):
    own = Recorder()
    for given in ("csv", own, ["csv", "mlflow"], ("csv", own), ()):
        durable = candle.CandleCallback(tmp_path, trackers=given)
        assert len(copy.deepcopy(durable).trackers) == len(durable.trackers)


@pytest.mark.parametrize("missing", ["wandb", "mlflow", "sqlalchemy", "tensorboard"])
def test_a_package_that_is_missing_is_said_with_what_to_install(monkeypatch, missing):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else find(name)
    )
    with pytest.raises(candle.CandleError, match=rf"{missing} is needed for .*pip install"):
        base.check_packages(["csv", "wandb", "mlflow", "tensorboard"])


def test_a_folder_of_the_packages_name_is_no_package(monkeypatch, tmp_path):
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    with pytest.raises(candle.CandleError, match="wandb is needed"):
        base.check_packages(["wandb"])


@pytest.mark.parametrize(
    "key", ["token", "AWS_SECRET_KEY", "db_password", "passwd", "apikey", "Api-Key", "credentials"]
)
def test_values_of_secrets_are_masked(key):
    found = redacted({"a": [{key.replace("-", "_"): "hush", "b": 1}]})
    assert "hush" not in str(found)
    assert found["a"][0]["b"] == 1


def test_what_language_models_count_is_no_secret():
    config = {"num_tokens": 512, "tokenizer": "bpe", "token": "hush", "secret_token": 7}
    wanted = {"num_tokens": 512, "tokenizer": "bpe", "token": "***", "secret_token": "***"}
    assert redacted(config) == wanted
