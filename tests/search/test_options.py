"""What a user asks of a search is taken as it is meant, or named before the first trial."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import keras_candle as candle
from keras_candle.errors import SearchError
from tests.search.searches import noisy, searched


def test_a_seed_is_drawn_shared_and_kept(tmp_path):
    def two(hp):
        return hp.Float("x", 0.0, 1.0) + hp.Float("y", 0.0, 1.0)

    first = searched(two, tmp_path / "a", 4, seed=None)
    drawn = first.oracle.seed
    again = searched(two, tmp_path / "a", 8, seed=None)
    assert isinstance(drawn, int)
    assert again.oracle.seed == drawn == again.oracle.coordinator.candidates.seed
    named = searched(two, tmp_path / "b", 4, seed=drawn)
    for trial_id, trial in named.oracle.trials.items():
        assert again.oracle.trials[trial_id].hyperparameters.values == trial.hyperparameters.values
    other = searched(two, tmp_path / "c", 1, seed=None)
    assert other.oracle.seed != drawn


@pytest.mark.parametrize(
    "given",
    [
        {"max_epochs": 9.5},
        {"max_epochs": "a"},
        {"max_epochs": True},
        {"max_epochs": 9, "min_epochs": 1.5},
        {"max_epochs": 9, "eta": "a"},
        {"max_epochs": 9, "eta": float("nan")},
        {"max_trials": "a"},
        {"max_trials": 2.5},
        {"max_trials": True},
        {"max_trials": -1},
        {"seed": "a"},
        {"seed": -1},
        {"overlap": "a"},
        {"overlap": True},
        {"overlap": float("nan")},
        {"max_cost": True},
        {"lease_s": True},
        {"max_epochs": 0},
    ],
)
def test_what_makes_no_sense_is_named_at_construction(given):
    name, value = list(given.items())[-1]
    with pytest.raises(SearchError, match=f"{name}={value!r}.*expected"):
        candle.search.HyperSpaceOracle("val_loss", **given)


def test_max_trials_may_be_raised_between_two_calls(tmp_path):
    tuner = searched(noisy, tmp_path, 3)
    tuner.oracle.max_trials = 5
    tuner.search(verbose=0)
    assert len(tuner.oracle.trials) == 5


def test_numpys_numbers_are_numbers(tmp_path):
    count, rate = np.int64(6), np.float64(0.3)
    tuner = searched(noisy, tmp_path, count, max_epochs=np.int64(3), overlap=rate,
                     seed=np.int64(3))  # fmt: skip
    assert len(tuner.oracle.trials) == 6


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"objective": "unheard_of"}, "direction='min'"),
        ({"objective": ["val_loss"]}, "at least two"),
        ({"subspaces": 0}, "subspaces=0"),
        ({"overlap": 1.5}, "overlap=1.5"),
        ({"search": "evolution"}, "expected one of 'subspaces', 'random'"),
        ({"cost": "tears"}, "device_seconds"),
        ({"max_cost": -1}, "max_cost=-1"),
    ],
)
def test_what_is_not_known_or_out_of_range_is_named(options, says):
    with pytest.raises(SearchError, match=says):
        candle.search.HyperSpaceOracle(**options)


def made_before(folder):
    """The folder of a search whose process died in its ninth trial.

    It had `search="evolution"`, `surrogate="random_forest"`, `brackets=None`,
    `inherit_weights=True` and `stop_hopeless=True`, which are gone.
    """
    made = json.loads(Path(__file__).with_name("folder_of_removed_options.json").read_text())
    project = folder / "untitled_project"
    (project / "journals").mkdir(parents=True)
    (project / "search.json").write_text(json.dumps(made["search"]))
    lines = [json.dumps(line) + "\n" for line in made["journal"]]
    (project / "journals/group-00000-1-a.jsonl").write_text("".join(lines))
    for number in range(9):
        (project / f"trial_{number:04d}").mkdir()
    return made["journal"]


def test_a_search_with_options_that_are_gone_is_resumed(tmp_path):
    journal = made_before(tmp_path)
    tuner = searched(noisy, tmp_path, 24, max_epochs=9, lease_s=0.1)
    trials = tuner.oracle.trials
    assert len(trials) == 24
    assert all(each.status == "COMPLETED" for each in trials.values())
    ended = {line["trial"]: line for line in journal if line["event"] == "ended"}
    assert len(ended) == 8
    for trial_id, line in ended.items():
        assert trials[trial_id].score == line["score"]
        assert trials[trial_id].hyperparameters.values == line["values"]
    assert trials["0008"].hyperparameters.values["tuner/bracket"] == 1  # the same values again
    new = [trials[f"{number:04d}"].hyperparameters.values for number in range(9, 24)]
    assert {each["tuner/round"] for each in new} == {0, 1, 2}


@pytest.mark.parametrize(
    "gone",
    [
        {"search": "evolution"},
        {"surrogate": "random_forest"},
        {"brackets": None},
        {"stop_hopeless": True},
        {"inherit_weights": True},
    ],
)
def test_an_option_that_is_gone_is_named(tmp_path, gone):
    with pytest.raises((SearchError, ValueError, TypeError), match=next(iter(gone))):
        candle.CandleTuner(lambda hp: noisy(hp) and None, directory=tmp_path, **gone)
