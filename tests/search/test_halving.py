"""Laws of successive halving; in a search all trials are spent, and the best is trained in full."""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import keras_tuner
import numpy as np
import pytest

import keras_candle as candle
from keras_candle.errors import SearchError
from keras_candle.search.groups import Group
from keras_candle.search.halving import (
    BRACKET,
    EPOCHS,
    INITIAL_EPOCH,
    PARENT,
    ROUND,
    RungTraining,
    is_waiting,
    next_promotion,
    rungs,
)
from tests.search.searches import noisy, searched

RUNGS = (1, 3, 9, 27)


@pytest.mark.parametrize("eta", [2, 3, 4, 2.5])
@pytest.mark.parametrize(("least", "most"), [(1, 1), (1, 81), (2, 100), (5, 7), (3, 1000)])
def test_rungs_grow_by_eta_from_the_least_to_the_most(eta: float, least: int, most: int) -> None:
    found = rungs(most, eta, least)
    assert found[-1] == most
    assert found[0] >= least
    assert list(found) == sorted(set(found))
    ratios = [high / low for low, high in itertools.pairwise(found) if low >= 5]
    assert all(eta / 1.25 < ratio < eta * 1.25 for ratio in ratios)


@pytest.mark.parametrize("wrong", [(0, 3, 1), (5, 1, 1), (5, 3, 6), (5, 3, 0)])
def test_rungs_that_cannot_be_are_named(wrong: tuple[int, float, int]) -> None:
    with pytest.raises(SearchError, match=f"max_epochs={wrong[0]}"):
        rungs(*wrong)


def _simulate(
    trials: int,
    workers: int,
    value: Callable[[int, int], float],
    subspaces: int = 1,
) -> list[RungTraining]:
    """All trainings of a search in which workers ask whenever they are free."""
    rng, log = np.random.default_rng(0), {}
    running: list[tuple[float, str, int]] = []
    begun, now = 0, 0.0
    while True:
        while len(running) < workers:
            found = next_promotion(log.values(), RUNGS, closing=begun == trials)
            if found is not None:
                new = RungTraining(found.trial, found.rung, None, found.subspace)
            elif begun < trials:
                new = RungTraining(f"{begun:04}", 0, None, begun % subspaces)
                begun += 1
            else:
                break
            log[new.trial, new.rung] = new
            length = RUNGS[new.rung] * rng.lognormal(0, 0.3)
            heapq.heappush(running, (now + length, new.trial, new.rung))
        if not running:
            return list(log.values())
        now, trial, rung = heapq.heappop(running)
        ended = value(int(trial), RUNGS[rung])
        log[trial, rung] = replace(log[trial, rung], objective=ended)


def _by_rung(trainings: list[RungTraining]) -> dict[int, list[RungTraining]]:
    found = defaultdict(list)
    for each in trainings:
        found[each.rung].append(each)
    return found


def _quality(trial: int, _epochs: int) -> float:
    return float(np.random.default_rng(trial).random())


@pytest.mark.parametrize("trials", [1, 2, 4, 7, 27, 50])
def test_one_after_the_other_the_last_rung_is_the_best_of_the_rung_before(trials: int) -> None:
    levels = _by_rung(_simulate(trials, 1, _quality))
    assert len(levels[0]) == trials
    for rung in (1, 2, 3):
        before = sorted(levels[rung - 1], key=lambda each: each.objective)
        assert before[0].trial in {each.trial for each in levels[rung]}
    best = min(range(trials), key=lambda trial: _quality(trial, 1))
    assert f"{best:04}" in {each.trial for each in levels[3]}


@pytest.mark.parametrize("workers", [1, 4, 16])
def test_each_rung_costs_about_the_same(workers: int) -> None:
    levels = _by_rung(_simulate(243, workers, _quality))
    costs = [len(levels[rung]) * RUNGS[rung] / 243 for rung in range(4)]
    assert min(costs) >= 0.9
    assert max(costs) <= 2.0


def test_nobody_is_promoted_twice_or_past_a_rung() -> None:
    keys = [(each.trial, each.rung) for each in _simulate(100, 8, _quality)]
    assert len(keys) == len(set(keys))
    assert all((trial, rung - 1) in keys for trial, rung in keys if rung)


@pytest.mark.parametrize("workers", [1, 16])
def test_each_subspace_keeps_its_best_one_at_no_further_cost(workers: int) -> None:
    def slow_in_subspace_three(trial: int, epochs: int) -> float:
        return _quality(trial, epochs) + 10 * (trial % 4 == 3)

    trainings = _simulate(108, workers, slow_in_subspace_three, subspaces=4)
    levels = _by_rung(trainings)
    assert {each.subspace for each in levels[1]} == {0, 1, 2, 3}
    hopeless = [each for each in levels[0] if each.subspace == 3]
    kept = [each for each in levels[1] if each.subspace == 3]
    assert 1 <= len(kept) <= 4 + workers
    # Only those that had begun before a better one ended can have been promoted beside it.
    best = min(hopeless, key=lambda each: each.objective)
    assert best.trial in {each.trial for each in kept}
    assert len(levels[1]) <= 108 / 3 * 1.5 + workers


def test_a_failed_training_is_never_promoted() -> None:
    def half_fail(trial: int, epochs: int) -> float:
        return float("nan") if trial % 2 else _quality(trial, epochs)

    trainings = _simulate(60, 4, half_fail)
    assert all(int(each.trial) % 2 == 0 for each in trainings if each.rung)
    assert _by_rung(trainings)[3]
    assert not _by_rung(_simulate(20, 4, lambda *_: float("nan")))[1]


def test_the_order_of_the_records_does_not_matter() -> None:
    trainings = _simulate(40, 1, lambda trial, _: float(trial % 5), subspaces=3)[:47]
    rng = np.random.default_rng(0)
    found = {
        str(next_promotion([trainings[i] for i in rng.permutation(47)], RUNGS)) for _ in range(10)
    }
    assert len(found) == 1


def test_a_promoted_trial_goes_on_where_it_stopped() -> None:
    three = [
        RungTraining(name, 1, value, 7) for name, value in (("a", 2.0), ("b", 1.0), ("c", 3.0))
    ]
    found = next_promotion(three, RUNGS)
    assert found is not None
    assert (found.trial, found.rung, found.initial_epoch, found.epochs) == ("b", 2, 3, 9)
    assert found.subspace == 7
    assert next_promotion([*three, RungTraining("b", 2, None, 7)], RUNGS) is None


def test_a_search_that_ends_takes_the_next_best_where_the_best_has_failed() -> None:
    ended = [
        RungTraining("a", 0, 1.0),
        RungTraining("b", 0, 2.0),
        RungTraining("a", 1, float("nan")),
    ]
    found = next_promotion(ended, RUNGS, closing=True)
    assert found is not None
    assert (found.trial, found.rung) == ("b", 1)
    assert next_promotion([*ended, RungTraining("b", 1, float("nan"))], RUNGS, closing=True) is None


def test_a_search_that_ends_waits_for_what_may_be_trained_in_full_and_for_nothing_else() -> None:
    running, failed = RungTraining("a", 0, None), RungTraining("a", 0, float("nan"))
    full = RungTraining("b", 3, 0.5)
    assert is_waiting([running], RUNGS)
    assert not is_waiting([failed], RUNGS)
    assert not is_waiting([running, full], RUNGS)
    assert not is_waiting([running, replace(full, objective=None)], RUNGS)
    assert is_waiting([running, replace(full, objective=float("nan"))], RUNGS)


# In a search.


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
def test_halving_spends_all_trials(tmp_path, max_trials, max_epochs):
    tuner = searched(noisy, tmp_path, max_trials, max_epochs=max_epochs)
    values = [trial.hyperparameters.values for trial in tuner.oracle.trials.values()]
    assert len(values) == max_trials
    assert max(each[EPOCHS] for each in values) == max_epochs
    for each in values:
        assert each[BRACKET] == 0
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
