"""A search of counted values ends when all were tried, or when max_trials are: never before."""

from __future__ import annotations

import json

import keras_tuner
import numpy as np
import pytest

import keras_candle as candle
from keras_candle.errors import SearchError
from keras_candle.search.groups import Group
from keras_candle.search.halving import BRACKET, EPOCHS, INITIAL_EPOCH, PARENT, ROUND
from keras_candle.search.hyperparameters import UnitCube


def searched(function, folder, max_trials, **options):
    class Quick(candle.CandleTuner):
        def run_trial(self, trial, *args, **kwargs):
            return function(trial.hyperparameters)

    options.setdefault("max_consecutive_failed_trials", 1000)
    tuner = Quick(
        lambda hp: function(hp) and None, max_trials=max_trials, directory=folder, **options
    )
    tuner.search(verbose=0)
    return tuner


def distinct(tuner):
    values = (trial.hyperparameters.values for trial in tuner.oracle.trials.values())
    return len({json.dumps(each, sort_keys=True) for each in values})


def batch_and_optimizer(hp):
    return hp.Int("batch", 8, 256, sampling="log") + 300 * (hp.Choice("opt", ["a", "b"]) == "b")


def test_values_on_a_logarithmic_scale_do_not_end_a_search_early(tmp_path):
    tuner = searched(batch_and_optimizer, tmp_path, 60)
    assert distinct(tuner) == len(tuner.oracle.trials) == 60
    assert tuner.oracle.get_best_trials()[0].score == 8


@pytest.mark.parametrize("search", ["subspaces", "evolution", "random"])
@pytest.mark.parametrize("sampling", ["log", "reverse_log"])
def test_all_values_of_a_scale_are_tried_once_and_then_the_search_stops(tmp_path, search, sampling):
    tuner = searched(lambda hp: hp.Int("n", 1, 36, sampling=sampling), tmp_path, 50, search=search)
    assert distinct(tuner) == len(tuner.oracle.trials) == 36


@pytest.mark.parametrize("search", ["subspaces", "random"])
def test_a_condition_that_never_holds_adds_no_point(tmp_path, search):
    def never(hp):
        kind = hp.Fixed("kind", "a")
        with hp.conditional_scope("kind", ["b"]):
            hp.Float("rate", 0.0, 1.0)
        return hp.Int("n", 1, 5) + len(kind)

    tuner = searched(never, tmp_path, 20, search=search)
    assert distinct(tuner) == len(tuner.oracle.trials) == 5


@pytest.mark.parametrize("search", ["subspaces", "random"])
def test_a_small_part_without_an_end_is_searched_when_the_rest_is_used_up(tmp_path, search):
    def mostly_counted(hp):
        kind = hp.Choice("kind", list(range(12)))
        with hp.conditional_scope("kind", [3]):
            return kind + (hp.Float("rate", 0.0, 1.0) if kind == 3 else 0.0)

    assert distinct(searched(mostly_counted, tmp_path, 24, search=search)) == 24


@pytest.mark.parametrize("sampling", ["log", "reverse_log"])
@pytest.mark.parametrize(("least", "most"), [(1, 40), (8, 256), (3, 100_000)])
def test_the_cells_of_a_scale_are_keras_tuners_own(sampling, least, most):
    hp = keras_tuner.HyperParameters()
    hp.Int("n", least, most, sampling=sampling)
    cube, scale = UnitCube(hp), hp.space[0]
    units = np.random.default_rng(0).random(2000)
    ours = [cube.values_of(np.array([unit]))["n"] for unit in units]
    assert ours == [scale.prob_to_value(unit) for unit in units]
    again = np.array([cube.unit_of({"n": value}) for value in ours])
    assert cube.space.keys(again) == cube.space.keys(units[:, None])
    assert cube.space.count == most - least + 1


@pytest.mark.parametrize(
    "made",
    [
        lambda hp: hp.Int("n", 2, 1024, step=2, sampling="log"),
        lambda hp: hp.Int("n", 2, 1024, step=2, sampling="reverse_log"),
        lambda hp: hp.Float("n", 1e-5, 1.0, step=10, sampling="log"),
        lambda hp: hp.Float("n", 1e-5, 1.0, step=10, sampling="reverse_log"),
        lambda hp: hp.Float("n", 0.0, 1.0, step=0.05),
        lambda hp: hp.Choice("n", [8, 8, 16]),
    ],
)
def test_each_value_with_a_step_is_one_point(made):
    hp = keras_tuner.HyperParameters()
    made(hp)
    cube = UnitCube(hp)
    values = [cube.values_of(point)["n"] for point in cube.space.all_points()]
    assert len(set(values)) == len(values) == cube.space.count


def test_a_seed_is_drawn_shared_and_kept(tmp_path):
    def two(hp):
        return hp.Float("x", 0.0, 1.0) + hp.Float("y", 0.0, 1.0)

    first = searched(two, tmp_path / "a", 4, seed=None)
    drawn = first.oracle.seed
    again = searched(two, tmp_path / "a", 8, seed=None)
    assert isinstance(drawn, int)
    assert again.oracle.seed == drawn == again.oracle.coordinator.proposals.seed
    named = searched(two, tmp_path / "b", 4, seed=drawn)
    for trial_id, trial in named.oracle.trials.items():
        assert again.oracle.trials[trial_id].hyperparameters.values == trial.hyperparameters.values
    other = searched(two, tmp_path / "c", 1, seed=None)
    assert other.oracle.seed != drawn


def noisy(hp):
    return abs(hp.Float("x", 0.0, 1.0) - 0.4) + hp.Float("y", 0.0, 0.1)


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
