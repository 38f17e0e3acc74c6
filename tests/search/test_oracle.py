"""HyperSpaceOracle keeps what Keras Tuner promises, in one process."""

from __future__ import annotations

import json
import math
from pathlib import Path

import keras_tuner
import numpy as np
import pytest

from keras_candle.errors import SearchError
from keras_candle.search.leaderboard import TooManyFailuresError
from keras_candle.search.oracle import HyperSpaceOracle


def bowl(hp):
    x, y = hp.Float("x", -1.0, 1.0), hp.Float("y", 1e-3, 1e3, sampling="log")
    return (x - 0.37) ** 2 + (math.log10(y) - 1.3) ** 2


class Plain(keras_tuner.Tuner):
    """A stock tuner of functions."""

    def __init__(self, function, oracle, folder, **options):
        self.function = function
        super().__init__(oracle, directory=str(folder), project_name="p", **options)

    def run_trial(self, trial, *args, **kwargs):
        return self.function(trial.hyperparameters)


def search(function, folder, objective=None, max_trials=12, **options):
    space = keras_tuner.HyperParameters()
    function(space)
    oracle = HyperSpaceOracle(objective, max_trials, hyperparameters=space, **options)
    tuner = Plain(function, oracle, folder)
    tuner.search(verbose=0)
    return tuner


def values_of(tuner):
    return [tuner.oracle.trials[key].hyperparameters.values for key in sorted(tuner.oracle.trials)]


def score(value):
    return keras_tuner.Objective("score", value)


def test_it_finds_the_bottom_of_a_bowl(tmp_path):
    tuner = search(bowl, tmp_path, max_trials=30)
    assert tuner.oracle.get_best_trials()[0].score < 1e-2
    assert len(tuner.oracle.trials) == 30
    tuner.results_summary(3)


def test_the_same_seed_takes_the_same_way_and_another_another(tmp_path):
    one, same, other = (
        values_of(search(bowl, tmp_path / name, seed=seed))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert one == same != other


def test_large_is_the_mirror_of_small(tmp_path):
    low = search(lambda hp: {"score": bowl(hp)}, tmp_path / "a", score("min"))
    high = search(lambda hp: {"score": -bowl(hp)}, tmp_path / "b", score("max"))
    assert values_of(low) == values_of(high)
    assert low.oracle.get_best_trials()[0].score == -high.oracle.get_best_trials()[0].score


def test_a_finite_space_is_tried_whole_and_no_point_twice(tmp_path):
    def small(hp):
        return hp.Int("a", 0, 2) + hp.Boolean("b") + ord(hp.Choice("c", ["x", "y", "z"]))

    tuner = search(small, tmp_path, max_trials=40)
    assert len({json.dumps(each, sort_keys=True) for each in values_of(tuner)}) == 18
    assert len(tuner.oracle.trials) == 18


def test_a_search_goes_on_where_it_was(tmp_path):
    first = search(bowl, tmp_path, max_trials=8)
    again = search(bowl, tmp_path, max_trials=12)
    whole = search(bowl, tmp_path / "other", max_trials=12)
    assert values_of(again)[:8] == values_of(first)
    assert values_of(again) == values_of(whole)
    assert len(values_of(whole)) == 12


@pytest.mark.filterwarnings("ignore:currentThread:DeprecationWarning", "ignore:getName")
def test_a_stock_tuner_opens_the_folder(tmp_path):
    ours = search(bowl, tmp_path, max_trials=5)
    stock = Plain(bowl, keras_tuner.RandomSearch(bowl, max_trials=7, directory=str(tmp_path),
                  project_name="other", objective=None).oracle, tmp_path)  # fmt: skip
    stock.reload()
    assert values_of(stock) == values_of(ours)
    stock.search(verbose=0)
    assert len(stock.oracle.trials) == 7


def test_what_is_found_while_building_is_searched(tmp_path):
    def growing(hp):
        return sum(hp.Float(f"x{i}", 0.0, 1.0) for i in range(hp.Int("n", 1, 4)))

    oracle = HyperSpaceOracle(max_trials=25)
    tuner = Plain(growing, oracle, tmp_path)
    tuner.search(verbose=0)
    last = {each.get("x3") for each in values_of(tuner)} - {None, 0.0}
    assert len(last) > 2


def test_what_only_a_trial_finds_is_known_to_all_and_after_a_start(tmp_path):
    def growing(hp):
        return sum(hp.Float(f"x{i}", 0.1, 1.0) for i in range(hp.Int("n", 1, 3)))

    tuner = Plain(growing, HyperSpaceOracle(max_trials=8), tmp_path)
    tuner.search(verbose=0)
    known = values_of(tuner)
    assert all(each[f"x{i}"] >= 0.1 for each in known for i in range(each["n"]))
    again = Plain(growing, HyperSpaceOracle(max_trials=8), tmp_path)
    again.oracle.read()
    assert values_of(again) == known
    assert growing(again.get_best_hyperparameters()[0]) == again.oracle.get_best_trials()[0].score


def test_a_try_that_failed_is_made_again_with_what_it_had_found(tmp_path):
    tried = []

    def found_then_fails(hp):
        tried.append((hp.Float("x", 0.0, 1.0), hp.Int("n", 1, 5)))
        if len(tried) < 3:
            raise ValueError("not yet")
        return tried[-1][0]

    tuner = Plain(
        found_then_fails, HyperSpaceOracle(max_trials=1, max_retries_per_trial=2), tmp_path
    )
    tuner.search(verbose=0)
    assert len(set(tried)) == 1
    assert tuner.oracle.get_best_trials()[0].score == tried[0][0]


def test_what_an_earlier_try_gave_does_not_count(tmp_path):
    ran = []

    def better_the_second_time(hp):
        ran.append(hp.Float("x", 0.0, 1.0))
        return float("nan") if len(ran) % 2 else 0.5

    tuner = search(better_the_second_time, tmp_path, max_trials=3, max_retries_per_trial=1)
    assert [each.score for each in tuner.oracle.get_best_trials(3)] == [0.5] * 3


@pytest.mark.parametrize("same_tuner", [True, False])
def test_a_search_that_was_interrupted_goes_on_in_the_same_process(tmp_path, same_tuner):
    ran = []

    def interrupted(hp):
        ran.append(hp.Float("x", 0.0, 1.0))
        if len(ran) == 2:
            raise KeyboardInterrupt
        return ran[-1]

    tuner = Plain(interrupted, HyperSpaceOracle(max_trials=4), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        tuner.search(verbose=0)
    if not same_tuner:
        tuner = Plain(interrupted, HyperSpaceOracle(max_trials=4), tmp_path)
    tuner.search(verbose=0)
    assert len(values_of(tuner)) == 4
    assert len(ran) == 5
    assert ran[1] == ran[2]


def test_a_trial_that_is_left_is_run_by_another_and_no_try_is_counted(tmp_path):
    def made(name):
        space = keras_tuner.HyperParameters()
        bowl(space)
        oracle = HyperSpaceOracle(max_trials=1, hyperparameters=space, max_retries_per_trial=0)
        oracle._set_project_dir(tmp_path, "p")
        return oracle, oracle.create_trial(name) if name else None

    one, left = made("one")
    one.leave()
    other, _ = made("")
    trial = other.create_trial("other")
    assert trial.hyperparameters.values == left.hyperparameters.values
    assert other.coordinator.trial_log.trials[trial.trial_id].tries == 0


def test_the_users_hyperparameters_stay_as_they_are(tmp_path):
    def growing(hp):
        return sum(hp.Float(f"x{i}", 0.1, 1.0) for i in range(hp.Int("n", 1, 3)))

    space = keras_tuner.HyperParameters()
    space.Int("n", 1, 3)
    for most in (3, 6):
        oracle = HyperSpaceOracle(max_trials=most, hyperparameters=space)
        Plain(growing, oracle, tmp_path).search(verbose=0)
        assert [each.name for each in space.space] == ["n"]
    assert len(oracle.trials) == 6


def test_a_search_that_another_group_begins_meanwhile_is_no_stock_one(tmp_path, monkeypatch):
    found = Path.exists

    def begun_after_the_first_look(path):
        there = found(path)
        if path.name in ("search.json", "oracle.json"):
            monkeypatch.undo()
            search(bowl, tmp_path, max_trials=2)
        return there

    monkeypatch.setattr(Path, "exists", begun_after_the_first_look)
    assert len(values_of(search(bowl, tmp_path, max_trials=4))) == 4


@pytest.mark.filterwarnings("ignore:currentThread:DeprecationWarning", "ignore:getName")
def test_a_folder_of_a_stock_search_is_refused_and_left_as_it_is(tmp_path):
    options = {"directory": str(tmp_path), "project_name": "p", "objective": None}
    Plain(bowl, keras_tuner.RandomSearch(bowl, max_trials=2, **options).oracle, tmp_path).search(
        verbose=0
    )
    files = {each: each.read_bytes() for each in tmp_path.rglob("*.json")}
    assert len(files) > 2
    with pytest.raises(SearchError, match="Keras Tuner's own tuners"):
        search(bowl, tmp_path)
    assert {each: each.read_bytes() for each in tmp_path.rglob("*.json")} == files
    assert not (tmp_path / "p" / "search.json").exists()


def test_a_trial_that_fails_is_kept_with_its_traceback_and_the_search_goes_on(tmp_path):
    def half(hp):
        if hp.Float("x", 0.0, 1.0) > 0.5:
            raise ValueError("too large")
        return hp.get("x") if hp.get("x") > 0.2 else float("nan")

    tuner = search(half, tmp_path, max_trials=12, max_consecutive_failed_trials=100)
    told = {trial.status: trial.message for trial in tuner.oracle.trials.values()}
    assert set(told) == {"COMPLETED", "FAILED"}
    messages = [each.message or "" for each in tuner.oracle.trials.values()]
    assert any("ValueError: too large" in each and "Traceback" in each for each in messages)


def test_too_many_failures_end_the_search_and_all_is_kept(tmp_path):
    def broken(hp):
        hp.Float("x", 0.0, 1.0)
        if hp.values:
            raise ValueError("out of order")

    space = keras_tuner.HyperParameters()
    space.Float("x", 0.0, 1.0)
    oracle = HyperSpaceOracle(max_trials=9, hyperparameters=space)
    with pytest.raises(TooManyFailuresError, match=r"3 trials failed(.|\n)*out of order"):
        Plain(broken, oracle, tmp_path).search(verbose=0)
    assert len(list(tmp_path.glob("p/trial_*/trial.json"))) == 3


@pytest.mark.parametrize(("retries", "runs"), [(0, 1), (2, 3)])
def test_a_failing_trial_is_tried_as_often_as_asked(tmp_path, retries, runs):
    ran = []

    def broken(hp):
        ran.append(hp.Int("a", 1, 1 + len(hp.values) * 0))
        raise ValueError

    space = keras_tuner.HyperParameters()
    space.Boolean("a")
    oracle = HyperSpaceOracle(max_trials=1, hyperparameters=space, max_retries_per_trial=retries)
    Plain(broken, oracle, tmp_path).search(verbose=0)
    assert len(ran) == runs
    assert oracle.trials["0000"].status == "FAILED"


def test_an_error_of_the_engine_locks_nobody_out(tmp_path, monkeypatch):
    oracle = HyperSpaceOracle(max_trials=3)
    oracle._set_project_dir(str(tmp_path), "p")
    oracle.open()
    monkeypatch.setattr(oracle.coordinator, "propose", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        oracle.create_trial("a")
    monkeypatch.undo()
    assert oracle.create_trial("a").status == "RUNNING"


def test_with_two_objectives_the_front_is_what_nothing_betters(tmp_path):
    def both(x):  # below 0 and above 1 both of them are worse
        return x**2, (1 - x) ** 2

    def two(hp):
        score, cost = both(hp.Float("x", -1.0, 2.0))
        # Keras Tuner's own tuners refuse a dict without the last one.
        return {"score": score, "cost": cost, "multi_objective": 0.0}

    tuner = search(two, tmp_path, [score("min"), "cost"], max_trials=20)
    found = {name: both(each.hyperparameters["x"]) for name, each in tuner.oracle.trials.items()}
    undominated = {
        name
        for name, (score, cost) in found.items()
        if not any(s <= score and c <= cost and (s, c) != (score, cost) for s, c in found.values())
    }
    front = tuner.oracle.front()
    assert set(front) == undominated
    assert 8 < len(front) < 18
    assert front == sorted(front, key=lambda name: found[name])


def test_cheap_trials_come_first_when_asked(tmp_path):
    def two_valleys(hp):
        x, y = hp.Float("x", 0.0, 1.0), hp.Float("y", 0.0, 1.0)
        score = min(abs(x - 0.25), abs(x - 0.75)) + (y - 0.3) ** 2
        return {"score": score, "device_seconds": 10.0 if x > 0.5 else 1.0}

    tuner = search(two_valleys, tmp_path, score("min"), max_trials=40, per_cost=True)
    later = values_of(tuner)[10:]
    assert np.mean([each["x"] < 0.5 for each in later]) >= 0.8


def test_a_limit_of_the_cost_is_kept(tmp_path):
    def slow_is_good(hp):
        x = hp.Float("x", 0.0, 1.0)
        return {"score": -x, "device_seconds": 10 * x + 1e-3}

    tuner = search(slow_is_good, tmp_path, score("min"), max_trials=30, max_cost=5.0)
    later = np.array([each["x"] for each in values_of(tuner)[10:]])
    assert np.mean(later <= 0.5) > 0.8
    assert 0.45 < tuner.get_best_hyperparameters()[0]["x"] <= 0.5


def test_another_space_is_refused_before_the_first_trial(tmp_path):
    search(bowl, tmp_path, max_trials=2)

    def other(hp):
        return hp.Float("x", -1.0, 2.0)

    with pytest.raises(SearchError, match=r"'x' was Float.*max_value=1.0.*max_value=2.0"):
        search(other, tmp_path, max_trials=4)
    assert len(list(Path(tmp_path, "p").glob("trial_*"))) == 2


def test_another_objective_is_refused(tmp_path):
    search(lambda hp: {"score": bowl(hp)}, tmp_path, score("min"), max_trials=1)
    with pytest.raises(SearchError, match="belongs to another search"):
        search(lambda hp: {"score": bowl(hp)}, tmp_path, score("max"), max_trials=2)
