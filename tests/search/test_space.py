import itertools
from dataclasses import replace

import numpy as np
import pytest

from keras_candle.errors import SearchError
from keras_candle.search.space import Dimension, SearchSpace
from keras_candle.search.subspaces import decompose, whole_space
from keras_candle.search.surrogate_data import features_of
from tests.search.spaces import CONDITIONAL, CONTINUOUS, FINITE, SPACES, random_space


@pytest.mark.parametrize("seed", range(20))
def test_a_canonical_point_stays_what_it_is(seed):
    rng = np.random.default_rng(seed)
    space = random_space(rng)
    points = space.canonical(rng.random((50, len(space))))
    np.testing.assert_array_equal(space.canonical(points), points)
    assert (np.isnan(points) == ~space.active(points)).all()


def small_spaces(count):
    """So many random spaces of at most 500 points, each with another seed."""
    made = ((seed, random_space(np.random.default_rng(seed))) for seed in itertools.count())
    counted = ((seed, space) for seed, space in made if 1 < (space.count or 0) <= 500)
    return list(itertools.islice(counted, count))


@pytest.mark.parametrize(("seed", "space"), small_spaces(20))
def test_counted_points_are_all_that_sampling_ever_finds(seed, space):
    rng = np.random.default_rng(seed)
    listed = set(space.keys(space.all_points()))
    assert len(listed) == space.count
    assert set(space.keys(rng.random((20_000, len(space))))) <= listed


def test_a_conditional_finite_space_is_counted():
    space = SearchSpace(
        [Dimension("kind", 3), Dimension("layers", 4, parents=((0, frozenset({1})),))]
    )
    assert space.count == 4 + 2
    assert FINITE.count == 18
    assert CONDITIONAL.count is None


def test_what_is_not_active_makes_no_difference():
    points = np.array([[0.1, 0.2, 0.5, 0.9, 0.3], [0.1, 0.8, 0.5, 0.1, 0.3]])
    first, second = CONDITIONAL.keys(points)
    assert first == second
    features = features_of(CONDITIONAL, points)
    np.testing.assert_array_equal(features[0], features[1])


def test_in_a_box_what_is_ordered_is_measured_in_its_widths():
    space = SearchSpace([
        Dimension("kind", 3, ordered=False),
        Dimension("rate", parents=((0, frozenset({1})),)),
        Dimension("layers", 4),
    ])  # fmt: skip
    box = replace(
        whole_space(space), lower=np.array([0, 0.5, 0.25]), upper=np.array([1, 0.75, 0.75])
    )
    points = np.array([[0.5, 0.55, 0.4], [0.1, 0.6, 0.7]])
    features = features_of(space, points, box)
    np.testing.assert_array_equal(features[:, :3], features_of(space, points)[:, :3])
    np.testing.assert_allclose(features[:, 3:], [[0.2, 1, 0.25], [0.5, 0, 0.75]], atol=1e-12)


def test_two_values_of_one_cell_are_one_trial():
    assert FINITE.key([0.1, 0.1, 0.1]) == FINITE.key([0.4, 0.3, 0.2])
    assert FINITE.key([0.1, 0.1, 0.1]) != FINITE.key([0.6, 0.1, 0.1])


def test_categories_are_equally_far_from_each_other():
    features = features_of(FINITE, [[0.1, 0.1, value] for value in (0.1, 0.5, 0.9)])
    distances = np.linalg.norm(features[:, None] - features, axis=2)
    np.testing.assert_allclose(distances, 1 - np.eye(3), atol=1e-12)


@pytest.mark.parametrize("name", SPACES)
def test_samples_lie_in_their_subspace_and_reach_all_values(name):
    space = SPACES[name]
    for box in decompose(space, 5):
        points = space.sample(300, np.random.default_rng(0), box)
        assert box.contains(points).all()
        np.testing.assert_array_equal(space.canonical(points), points)


def test_samples_are_the_same_for_the_same_seed():
    first, second = (CONTINUOUS.sample(100, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("dimensions", "named"),
    [
        ([Dimension("empty", 0)], "'empty' has 0 values"),
        ([Dimension("child", parents=((0, frozenset({0})),))], "'child'"),
        ([Dimension("x"), Dimension("y", parents=((0, frozenset({0})),))], "counted values"),
    ],
)
def test_an_impossible_dimension_is_named(dimensions, named):
    with pytest.raises(SearchError, match=named):
        SearchSpace(dimensions)


def test_points_of_another_space_are_refused():
    with pytest.raises(SearchError, match=r"shape \(1, 3\)"):
        CONTINUOUS.canonical([[0.1, 0.2, 0.3]])


def test_an_infinite_space_is_not_listed():
    with pytest.raises(SearchError, match="Sample it"):
        CONTINUOUS.all_points()
