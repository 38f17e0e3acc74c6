"""Laws of Pareto fronts, against definitions written out."""

from __future__ import annotations

import numpy as np
import pytest

from keras_candle.errors import SearchError
from keras_candle.search.leaderboard import non_dominated, scalarise


def _table(seed: int, trials: int = 60, objectives: int = 3) -> np.ndarray:
    # Few distinct values, so that ties and equal trials occur.
    return np.random.default_rng(seed).integers(0, 7, (trials, objectives)).astype(float)


def _dominates(one: np.ndarray, other: np.ndarray) -> bool:
    return bool((one <= other).all() and (one < other).any())


@pytest.mark.parametrize("objectives", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_what_nobody_dominates(seed: int, objectives: int) -> None:
    table = _table(seed, objectives=objectives)
    expected = [not any(_dominates(other, one) for other in table) for one in table]
    assert non_dominated(table).tolist() == expected


def test_trials_without_a_number_are_never_on_the_front_and_hide_nobody() -> None:
    table = _table(0)
    with_holes = np.vstack([table, np.full((1, 3), np.nan), [[-1, np.nan, -1], [-np.inf, 0, 0]]])
    assert non_dominated(with_holes).tolist() == [*non_dominated(table).tolist(), *[False] * 3]


def test_no_trials_have_no_front() -> None:
    assert non_dominated(np.empty((0, 2))).shape == (0,)
    assert scalarise(np.empty((0, 2)), [1, 1]).shape == (0,)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_scalarised_trial_is_on_the_front(seed: int) -> None:
    table = _table(seed)
    best = np.argmin(scalarise(table, np.random.default_rng(seed)))
    assert non_dominated(table)[best]
    assert non_dominated(table)[np.argmin(scalarise(table, [1, 0, 0]))]


def test_only_the_order_of_an_objective_counts() -> None:
    table = np.random.default_rng(2).random((30, 2))
    stretched = np.column_stack([1e6 * table[:, 0] ** 3 + 7, np.exp(9 * table[:, 1])])
    np.testing.assert_array_equal(scalarise(table, [2, 1]), scalarise(stretched, [4, 2]))


def test_drawn_weights_reach_every_part_of_a_front_that_is_not_convex() -> None:
    angle = np.linspace(0, np.pi / 2, 11)
    front = np.column_stack([np.sin(angle), np.cos(angle)])
    rng = np.random.default_rng(0)
    assert {int(np.argmin(scalarise(front, rng))) for _ in range(500)} == set(range(11))


def test_a_trial_without_a_number_has_none() -> None:
    values = scalarise([[1, 2], [np.nan, 0], [2, 1]], [1, 1])
    assert np.isnan(values).tolist() == [False, True, False]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: scalarise([[1, 2]], [1]),
        lambda: scalarise([[1, 2]], [1, -1]),
        lambda: scalarise([[1, 2]], [0, 0]),
        lambda: non_dominated([1, 2]),
    ],
)
def test_what_does_not_fit_is_named(wrong) -> None:
    with pytest.raises(SearchError, match=r"got|have"):
        wrong()
