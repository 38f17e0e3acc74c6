"""Laws of what a search tells of itself, on functions of which it is known."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from keras_candle.errors import SearchError
from keras_candle.search.insight import importance, summarise, table
from keras_candle.search.space import Dimension, SearchSpace
from keras_candle.search.surrogate_data import History


def _history(units: Any, objective: Any, subspace: Any = None, cost: Any = None) -> History:
    count = len(units)
    return History(
        units=np.asarray(units, float),
        objective=np.asarray(objective, float),
        cost=np.full(count, np.nan) if cost is None else np.asarray(cost, float),
        fidelity=np.ones(count),
        subspace=np.zeros(count, int) if subspace is None else np.asarray(subspace),
        pending=np.empty((0, np.shape(units)[1])),
    )


def _of(function: Any, space: SearchSpace, trials: int = 300) -> dict[str, float]:
    units = space.sample(trials, np.random.default_rng(0))
    return importance(space, _history(units, [function(unit) for unit in units]))


CUBE = SearchSpace([Dimension("a"), Dimension("b"), Dimension("c")])


def test_the_importance_of_a_sum_is_each_ones_part_of_the_variance() -> None:
    found = _of(lambda u: 4 * u[0] + 2 * u[1], CUBE)
    assert found["a"] == pytest.approx(0.8, abs=0.07)
    assert found["b"] == pytest.approx(0.2, abs=0.07)
    assert found["c"] < 0.02
    assert list(found) == ["a", "b", "c", "interactions"]
    assert sum(found.values()) == pytest.approx(1)


def test_what_only_works_together_is_an_interaction() -> None:
    found = _of(lambda u: (u[0] > 0.5) != (u[1] > 0.5), CUBE)
    assert found["interactions"] > 0.8


def test_units_and_a_few_terrible_trials_do_not_matter() -> None:
    def function(unit: Any) -> float:
        return 4 * unit[0] + 2 * unit[1] + 1e6 * (unit[2] > 0.98)

    found, scaled = _of(function, CUBE), _of(lambda u: 1e6 * function(u) - 3e5, CUBE)
    assert max(found, key=found.__getitem__) == "a"
    assert scaled == pytest.approx(found, abs=0.02)


def test_categories_and_conditional_dimensions_are_seen() -> None:
    space = SearchSpace(
        [
            Dimension("kind", 3, ordered=False),
            Dimension("inner", parents=((0, frozenset({2})),)),
            Dimension("idle", parents=((0, frozenset({0})),)),
        ]
    )
    found = _of(lambda u: (5 * u[1] if u[0] > 0.67 else 2.5) + 0.5 * (u[0] < 0.33), space)
    assert found["inner"] > 0.6
    assert found["kind"] < 0.2
    assert found["idle"] < 0.05


@pytest.mark.parametrize("trials", [0, 5, 50])
def test_too_few_or_equal_trials_have_no_importance(trials: int) -> None:
    assert importance(CUBE, _history(np.random.default_rng(0).random((trials, 3)),
                                     np.ones(trials))) == {}  # fmt: skip


FIVE = _history(
    np.linspace(0, 1, 15).reshape(5, 3),
    [3.0, np.nan, 1.0, 2.0, 0.5],
    subspace=[0, 1, 1, 0, -1],
    cost=[1, 1, 2, 4, 2],
)


def test_each_subspace_is_told_with_its_share_and_its_best() -> None:
    rows = {row["subspace"]: row for row in summarise(CUBE, FIVE)["subspaces"]}
    assert [rows[i]["best"] for i in (-1, 0, 1)] == [0.5, 2.0, 1.0]
    assert [rows[i]["best_trial"] for i in (-1, 0, 1)] == ["4", "3", "2"]
    assert [rows[i]["share"] for i in (-1, 0, 1)] == [0.2, 0.5, 0.3]
    assert [rows[i]["failed"] for i in (-1, 0, 1)] == [0, 0, 1]
    assert [rows[i]["improvements"] for i in (-1, 0, 1)] == [1, 1, 1]


def test_the_best_so_far_never_rises_and_follows_the_ends() -> None:
    found = summarise(CUBE, FIVE)["best_so_far"]
    assert found["objective"] == [3.0, 3.0, 1.0, 1.0, 0.5]
    began, ended = [10, 10, 11, 12, 12], [30, 12, 16, 14, 13]
    found = summarise(CUBE, FIVE, began, ended, trials=list("abcde"))["best_so_far"]
    assert found["trial"] == list("bedca")
    assert found["objective"] == [None, 0.5, 0.5, 0.5, 0.5]
    assert found["time_s"] == [2, 3, 4, 6, 20]


def test_trials_above_the_limit_are_the_best_of_nothing() -> None:
    found = summarise(CUBE, FIVE, max_cost=1.5)
    assert found["best"] == {"trial": "0", "objective": 3.0}
    assert found["best_so_far"]["objective"] == [3.0] * 5
    assert {row["subspace"]: row["best"] for row in found["subspaces"]} == {
        -1: None,
        0: 3.0,
        1: None,
    }
    assert "best 3 (trial 0)" in table(found)
    assert summarise(CUBE, FIVE, max_cost=0.5) == summarise(CUBE, FIVE)


def test_the_share_is_that_of_time_where_costs_are_not_known() -> None:
    history = _history(FIVE.units, FIVE.objective, FIVE.subspace)
    rows = summarise(CUBE, history, [0] * 5, [1, 1, 1, 1, 4])["subspaces"]
    assert [row["share"] for row in rows] == [0.5, 0.25, 0.25]
    assert [row["share"] for row in summarise(CUBE, history)["subspaces"]] == [0.2, 0.4, 0.4]


@pytest.mark.parametrize("history", [FIVE, History.empty(3)])
def test_it_is_json_and_a_table(history: History) -> None:
    summary = summarise(CUBE, history)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    text = table(summary)
    assert text.startswith(f"{len(history.units)} trials, ")
    assert max(map(len, text.splitlines())) <= 80


def test_the_table_names_the_best_and_what_matters() -> None:
    units = np.random.default_rng(0).random((60, 3))
    history = _history(units, units[:, 1], subspace=np.arange(60) % 12)
    text = table(summarise(CUBE, history), most=4)
    assert f"trial {units[:, 1].argmin()})" in text
    assert "importance: b " in text
    assert "... and 8 more" in text


def test_times_that_do_not_belong_are_named() -> None:
    with pytest.raises(SearchError, match="for 5 trials"):
        summarise(CUBE, FIVE, [1, 2, 3])
