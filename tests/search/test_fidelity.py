"""Laws of successive halving and Hyperband, and of stopping by the learning curve."""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from keras_candle.errors import SearchError
from keras_candle.search.fidelity import (
    RungTraining,
    is_waiting,
    next_bracket,
    next_promotion,
    rungs,
)
from keras_candle.search.learning_curve import probability_of_winning, should_stop

EPOCHS = (1, 3, 9, 27)


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
    brackets: int | None = 1,
) -> list[RungTraining]:
    """All trainings of a search in which workers ask whenever they are free."""
    rng, log = np.random.default_rng(0), {}
    running: list[tuple[float, str, int]] = []
    begun, now = 0, 0.0
    while True:
        while len(running) < workers:
            found = next_promotion(log.values(), EPOCHS, closing=begun == trials)
            if found is not None:
                new = RungTraining(found.trial, found.rung, None, found.subspace, found.bracket)
            elif begun < trials:
                bracket = next_bracket(log.values(), EPOCHS, brackets)
                new = RungTraining(f"{begun:04}", bracket, None, begun % subspaces, bracket)
                begun += 1
            else:
                break
            log[new.trial, new.rung] = new
            length = EPOCHS[new.rung] * rng.lognormal(0, 0.3)
            heapq.heappush(running, (now + length, new.trial, new.rung))
        if not running:
            return list(log.values())
        now, trial, rung = heapq.heappop(running)
        ended = value(int(trial), EPOCHS[rung])
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
    costs = [len(levels[rung]) * EPOCHS[rung] / 243 for rung in range(4)]
    assert min(costs) >= 0.9
    assert max(costs) <= 2.0


def test_nobody_is_promoted_twice_or_past_a_rung() -> None:
    for each in _simulate(100, 8, _quality, brackets=None):
        assert each.rung >= each.bracket
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


def test_brackets_get_equal_budgets_and_keep_a_slow_starter() -> None:
    def slow_starter(trial: int, epochs: int) -> float:
        # The first trial of the last bracket wins, and looks worst before.
        return -1.0 if trial == last and epochs == EPOCHS[-1] else _quality(trial, epochs)

    last = -1
    trainings = _simulate(300, 4, slow_starter, brackets=None)
    budgets = defaultdict(int)
    for each in trainings:
        done = EPOCHS[each.rung - 1] if each.rung > each.bracket else 0
        budgets[each.bracket] += EPOCHS[each.rung] - done
    assert max(budgets.values()) < 2 * min(budgets.values())
    last = int(next(each.trial for each in trainings if each.bracket == 3))
    ends = [each.objective for each in _simulate(300, 4, slow_starter, brackets=None)]
    assert min(ends) == -1.0


def test_the_order_of_the_records_does_not_matter() -> None:
    trainings = _simulate(40, 1, lambda trial, _: float(trial % 5), subspaces=3)[:47]
    rng = np.random.default_rng(0)
    found = {
        str(next_promotion([trainings[i] for i in rng.permutation(47)], EPOCHS)) for _ in range(10)
    }
    assert len(found) == 1


def test_a_promoted_trial_goes_on_where_it_stopped() -> None:
    three = [
        RungTraining(name, 1, value, 7, 1) for name, value in (("a", 2.0), ("b", 1.0), ("c", 3.0))
    ]
    found = next_promotion(three, EPOCHS)
    assert found is not None
    assert (found.trial, found.rung, found.initial_epoch, found.epochs) == ("b", 2, 3, 9)
    assert (found.subspace, found.bracket) == (7, 1)
    assert next_promotion([*three, RungTraining("b", 2, None, 7, 1)], EPOCHS) is None


def test_a_search_that_ends_takes_the_next_best_where_the_best_has_failed() -> None:
    ended = [
        RungTraining("a", 0, 1.0),
        RungTraining("b", 0, 2.0),
        RungTraining("a", 1, float("nan")),
    ]
    found = next_promotion(ended, EPOCHS, closing=True)
    assert found is not None
    assert (found.trial, found.rung) == ("b", 1)
    assert (
        next_promotion([*ended, RungTraining("b", 1, float("nan"))], EPOCHS, closing=True) is None
    )


def test_a_search_that_ends_waits_for_what_may_be_trained_in_full_and_for_nothing_else() -> None:
    running, failed = RungTraining("a", 0, None), RungTraining("a", 0, float("nan"))
    full = RungTraining("b", 3, 0.5)
    assert is_waiting([running], EPOCHS)
    assert not is_waiting([failed], EPOCHS)
    assert not is_waiting([running, full], EPOCHS)
    assert not is_waiting([running, replace(full, objective=None)], EPOCHS)
    assert is_waiting([running, replace(full, objective=float("nan"))], EPOCHS)
    assert is_waiting([running, replace(full, bracket=1)], EPOCHS)


def test_brackets_that_cannot_be_are_named() -> None:
    with pytest.raises(SearchError, match="brackets=5"):
        next_bracket([], EPOCHS, 5)


# Learning curves.

CURVES = {
    "power": lambda t: 0.2 + 0.8 * t**-0.5,
    "slow power": lambda t: 0.1 + 0.9 * t**-0.2,
    "decay": lambda t: 0.2 + 0.8 * np.exp(-t / 8),
    "late": lambda t: 0.2 + 0.8 / (1 + np.exp((t - 10) / 4)),
}


def _curve(name: str, epochs: int, noise: float = 0.0, seed: int = 0) -> tuple:
    times = np.arange(1, epochs + 1)
    return times, CURVES[name](times) + noise * np.random.default_rng(seed).normal(size=epochs)


@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize("name", CURVES)
def test_a_curve_that_will_win_is_not_stopped(name: str, noise: float) -> None:
    goal, wrong = CURVES[name](50) + 0.02, 0
    for seed in range(20):
        times, values = _curve(name, 50, noise, seed)
        wrong += any(should_stop(times[:n], values[:n], 50, goal) for n in range(1, 51, 3))
    assert wrong <= (noise > 0)


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_a_plateau_above_the_incumbent_is_stopped_and_soon(noise: float) -> None:
    for seed in range(10):
        times, values = _curve("decay", 50, noise, seed)
        values = values + 0.3
        stopped = [should_stop(times[:n], values[:n], 50, 0.2) for n in range(1, 51)]
        assert stopped.index(True) < 35


def test_what_has_come_far_behind_is_stopped_at_the_first_chance() -> None:
    times = np.arange(1, 6)
    values = 2.0 + 0.01 * np.sin(times)
    assert should_stop(times, values, 50, 0.2)
    assert not should_stop(times[:4], values[:4], 50, 0.2)
    assert not should_stop(times, values, 50, 0.2, min_epochs=6)


def test_more_epochs_left_and_a_worse_incumbent_never_make_winning_less_likely() -> None:
    times, values = _curve("power", 12, 0.02)
    by_incumbent = [probability_of_winning(times, values, 50, goal) for goal in (0.1, 0.25, 0.35)]
    by_epochs = [probability_of_winning(times, values, most, 0.3) for most in (14, 25, 100)]
    assert by_incumbent == sorted(by_incumbent)
    assert by_epochs == sorted(by_epochs)


def test_units_do_not_matter() -> None:
    times, values = _curve("power", 12, 0.02)
    one = probability_of_winning(times, values, 50, 0.3)
    other = probability_of_winning(times, 1e6 * values - 5e5, 50, 1e6 * 0.3 - 5e5)
    assert 0.01 < one < 0.99
    assert other == pytest.approx(one, rel=1e-6)


def test_a_diverged_training_is_stopped_and_a_missing_value_is_not_one() -> None:
    times, values = _curve("power", 12)
    diverged = np.where(times > 9, np.nan, values)
    assert should_stop(times, diverged, 50, 0.3)
    assert not should_stop(times[:3], np.full(3, np.inf), 50, 0.3)
    missing = np.where(times == 5, np.nan, values)
    assert not should_stop(times, missing, 50, CURVES["power"](50) + 0.01)


@pytest.mark.parametrize("nobody", [float("nan"), float("inf")])
def test_without_an_incumbent_nobody_is_stopped(nobody: float) -> None:
    times, values = _curve("power", 40)
    assert not should_stop(times, values + 9, 50, nobody)
    assert not should_stop([], [], 50, 0.1)


def test_stopping_saves_epochs_and_keeps_the_best() -> None:
    rng, best, spent = np.random.default_rng(0), np.inf, 0
    plateaus = rng.uniform(0.1, 0.9, 40)
    times = np.arange(1, 51)
    for plateau, speed in zip(plateaus, rng.uniform(0.3, 1.0, 40), strict=True):
        values = plateau + times**-speed + 0.01 * rng.normal(size=50)
        until = next((n for n in range(1, 51) if should_stop(times[:n], values[:n], 50, best)), 50)
        best, spent = min(best, values[:until].min()), spent + until
    full = min(p + 50**-1.0 for p in plateaus)
    assert best < full + 0.15
    assert spent < 0.5 * 40 * 50


def test_epochs_that_do_not_ascend_are_named() -> None:
    with pytest.raises(SearchError, match="ascend"):
        should_stop([1, 1, 2], [1, 1, 1], 9, 0.1)
