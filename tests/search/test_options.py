"""What a user asks of a search is taken as it is meant, or named before the first trial."""

from __future__ import annotations

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
        {"brackets": 0},
        {"brackets": "a"},
        {"max_epochs": 9, "brackets": 4},
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
