"""Successive halving in a search: all trials are spent, and the best is trained whole."""

from __future__ import annotations

import keras_tuner
import numpy as np
import pytest

import keras_candle as candle
from keras_candle.errors import SearchError
from keras_candle.search.groups import Group
from keras_candle.search.halving import BRACKET, EPOCHS, INITIAL_EPOCH, PARENT, ROUND
from tests.search.searches import noisy, searched


@pytest.mark.parametrize(
    ("before", "now", "says"),
    [
        ({}, {"max_epochs": 9}, "max_epochs is None, here it is 9"),
        ({"max_epochs": 9}, {}, "max_epochs is 9, here it is None"),
        ({"max_epochs": 3}, {"max_epochs": 9}, "max_epochs is 3, here it is 9"),
        ({"max_epochs": 9}, {"max_epochs": 9, "eta": 2}, "eta is 3, here it is 2"),
        ({"max_epochs": 9}, {"max_epochs": 9, "min_epochs": 2}, "min_epochs is 1, here it is 2"),
    ],
)
def test_other_rungs_are_another_search(tmp_path, before, now, says):
    searched(noisy, tmp_path, 3, **before)
    with pytest.raises(SearchError, match=f"{says}.*overwrite=True"):
        searched(noisy, tmp_path, 6, **now)
    assert len(list(tmp_path.glob("untitled_project/trial_*"))) == 3


@pytest.mark.parametrize(("max_trials", "max_epochs"), [(20, 9), (20, 27), (5, 9), (23, 8)])
@pytest.mark.parametrize("brackets", [1, None])
def test_halving_spends_all_trials(tmp_path, max_trials, max_epochs, brackets):
    tuner = searched(noisy, tmp_path, max_trials, max_epochs=max_epochs, brackets=brackets)
    values = [trial.hyperparameters.values for trial in tuner.oracle.trials.values()]
    assert len(values) == max_trials
    assert max(each[EPOCHS] for each in values) == max_epochs
    for each in values:
        assert each[ROUND] >= each[BRACKET]
        assert (each[INITIAL_EPOCH] > 0) == (PARENT in each)


@pytest.mark.parametrize("max_trials", [5, 6, 7, 20])
def test_halving_spends_all_trials_when_a_promoted_one_fails(tmp_path, max_trials):
    promoted = []

    def first_promoted_fails(hp):
        if hp.values.get(ROUND) == 1:
            promoted.append(hp.values)
            if len(promoted) == 1:
                raise keras_tuner.errors.FailedTrialError("no")
        return noisy(hp)

    tuner = searched(first_promoted_fails, tmp_path, max_trials, max_epochs=9)
    values = [trial.hyperparameters.values for trial in tuner.oracle.trials.values()]
    assert len(values) == max_trials
    assert max(each[EPOCHS] for each in values) == (3 if max_trials == 5 else 9)


def groups_of(count, folder, **options):
    """One oracle for each group, all in this process."""
    space = keras_tuner.HyperParameters()
    noisy(space)
    made = []
    for number in range(count):
        oracle = candle.search.HyperSpaceOracle(
            keras_tuner.Objective("score", "min"), hyperparameters=space.copy(), **options
        )
        oracle.group = Group(number, count)
        oracle._set_project_dir(str(folder), "p")
        made.append(oracle)
    return made


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("groups", [2, 5])
def test_groups_spend_all_trials_and_none_waits_for_ever(tmp_path, groups, seed):
    rng = np.random.default_rng(seed)
    oracles = groups_of(groups, tmp_path, max_trials=17, max_epochs=9, seed=None,
                        max_consecutive_failed_trials=100)  # fmt: skip
    running = {}
    for _ in range(1000):
        number = int(rng.integers(groups))
        oracle = oracles[number]
        oracle.read()
        if number not in running:
            found = oracle.coordinator.next(f"group{number}")
            if found is not None:
                running[number] = oracle._begin(*found, "tuner")
            elif oracle.coordinator.is_over():
                break
        elif rng.random() < 0.5:
            trial = running.pop(number)
            oracle.update_trial(trial.trial_id, {"score": rng.random()})
            trial.status = "FAILED" if rng.random() < 0.2 else "COMPLETED"
            oracle.end_trial(trial)
    assert not running
    assert len({oracle.seed for oracle in oracles}) == 1
    for oracle in oracles:
        oracle.read()
        assert oracle.coordinator.is_over()
        assert len(oracle.trials) == 17


def test_halving_of_a_finite_space_ends_with_a_full_training(tmp_path):
    tuner = searched(lambda hp: hp.Int("n", 1, 4), tmp_path, 40, max_epochs=9)
    values = [trial.hyperparameters.values for trial in tuner.oracle.trials.values()]
    assert sum(each[ROUND] == 0 for each in values) == 4
    assert max(each[EPOCHS] for each in values) == 9


def test_what_is_above_max_cost_is_not_promoted(tmp_path):
    def wider_is_better(hp):
        return {"score": 1 / hp.Int("width", 1, 100), "parameters": hp.get("width")}

    class Wide(candle.CandleTuner):
        def run_trial(self, trial, *args, **kwargs):
            return wider_is_better(trial.hyperparameters)

    objective = keras_tuner.Objective("score", "min")
    tuner = Wide(objective=objective, max_trials=24, max_epochs=9, cost="parameters", max_cost=20,
                 directory=tmp_path)  # fmt: skip
    tuner.search(verbose=0)
    values = [trial.hyperparameters.values for trial in tuner.oracle.trials.values()]
    promoted = [each["width"] for each in values if each[ROUND] > 0]
    assert 0 < max(promoted) <= 20
    assert max(each["width"] for each in values) > 20
    assert max(each[EPOCHS] for each in values) == 9
