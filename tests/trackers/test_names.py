"""What may be asked for, what it needs, and what must not leave."""

from __future__ import annotations

import copy
import importlib.util
import re
import sys
from pathlib import Path

import pytest

import keras_candle as candle
from keras_candle.trackers import base
from keras_candle.trackers.base import SECRETS, redacted
from tests.trackers.cases import Recorder


@pytest.mark.parametrize("trackers", ["tensorbord", ("csv", 3), 7, [Recorder]])
def test_what_is_no_tracker_is_refused(tmp_path, trackers):
    with pytest.raises(candle.CandleError, match=r"trackers=.*(csv|candle.Tracker)"):
        candle.CandleCallback(tmp_path, trackers=trackers)


def test_one_tracker_twice_is_refused(tmp_path):
    own = Recorder()
    for given, named in ((["csv", "mlflow", "csv"], "'csv'"), ([own, own], "one Recorder object")):
        with pytest.raises(candle.CandleError, match=f"trackers has {named} twice.*Remove one"):
            candle.CandleCallback(tmp_path, trackers=given)


def test_two_trackers_of_a_class_have_two_names():
    found = base.names_of([Recorder(), "csv", Recorder()])
    assert list(found) == ["Recorder", "csv", "Recorder 2"]


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
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(candle.CandleError, match="wandb is needed"):
        base.check_packages(["wandb"])


@pytest.mark.parametrize(
    "key",
    [
        *("token", "secret_token", "HF_TOKEN", "accessToken", "OAuthToken", "authToken"),
        *("AWS_SECRET_KEY", "AWS_ACCESS_KEY_ID", "access_key", "private_key", "privateKey"),
        *("db_password", "dbpassword", "DBPassword", "passwords", "password2", "passwd", "pwd"),
        *("apikey", "Api-Key", "api-key", "APIKey", "api_keys", "credentials", "clientsecret"),
        *("passphrase", "auth", "http-auth", "Authorization"),
    ],
)
@pytest.mark.parametrize("value", ["hush", ["hush"], {"a": "hush"}])
def test_values_of_secrets_are_masked(key, value):
    assert redacted({"a": [{key: value, "b": 1}]}) == {"a": [{key: "***", "b": 1}]}


@pytest.mark.parametrize(
    "key",
    [
        *("tokens", "num_tokens", "token_mixing", "tokenMixing", "token_dim", "tokenizer"),
        *("author", "authors", "authority", "secretary", "key_dim", "keys", "monkey", "signature"),
        *("compass", "forward_pass", "accesses", "keyboard_api"),
    ],
)
def test_values_of_other_names_are_not(key):
    config = {"a": [{key: "shown"}]}
    assert redacted(config) == config


def test_what_language_models_count_is_no_secret():
    config = {"max_token": 512, "token": 7, "use_auth": True, "password": None}
    assert redacted(config) == config
    assert redacted({"secret_token": 7, "pwd": 1234}) == {"secret_token": "***", "pwd": "***"}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://h/a?access_token=hush&b=2#c", "https://h/a?access_token=***&b=2#c"),
        ("https://h/a?b=2&sig=hush", "https://h/a?b=2&sig=***"),
        ("https://me:p@hush@h/a", "https://***@h/a"),
        ("host=db password=hush user=me", "host=db password=*** user=me"),
        ("--api-key=hush", "--api-key=***"),
        ("sort key=5, tokens=7", "sort key=5, tokens=7"),
    ],
)
def test_secrets_in_texts_are_masked(text, masked):
    assert redacted({"a": [text]}) == {"a": [masked]}


def test_the_page_lists_the_words_of_secrets():
    page = (Path(__file__).parents[2] / "docs" / "trackers.md").read_text()
    for place, words in SECRETS.items():
        (line,) = re.findall(rf"^\| {place} \| (.*) \|$", page, re.MULTILINE)
        assert re.findall("`(.*?)`", line.partition(", unless")[0]) == list(words)
