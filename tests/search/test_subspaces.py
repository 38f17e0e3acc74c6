import numpy as np
import pytest

from keras_candle.errors import SearchError
from keras_candle.search.space import Dimension, SearchSpace
from keras_candle.search.subspaces import decompose
from tests.search.spaces import CONTINUOUS, FINITE, random_space


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 64])
@pytest.mark.parametrize("seed", range(10))
def test_together_they_are_the_space(count, seed):
    rng = np.random.default_rng([seed, count])
    space = random_space(rng)
    boxes = decompose(space, count, overlap=float(rng.choice([0.0, 0.25, 0.6])), seed=seed)
    points = space.canonical(rng.random((2_000, len(space))))
    assert np.any([box.contains(points) for box in boxes], axis=0).all()
    assert [box.index for box in boxes] == list(range(count))


def test_forty_dimensions_are_covered():
    space = SearchSpace([Dimension(str(number)) for number in range(40)])
    points = np.random.default_rng(0).random((2_000, 40))
    assert np.any([box.contains(points) for box in decompose(space, 64)], axis=0).all()


@pytest.mark.parametrize("count", [2, 5, 16])
def test_no_two_are_equal_while_there_are_points_enough(count):
    for space in (CONTINUOUS, FINITE):
        boxes = decompose(space, count)
        assert len({(*box.lower, *box.upper, box.allowed) for box in boxes}) == count


def test_two_to_the_dimensions_are_the_boxes_of_hyperspace():
    boxes = decompose(CONTINUOUS, 4)
    halves = {(0.0, 0.625), (0.375, 1.0)}
    found = {tuple(zip(box.lower.tolist(), box.upper.tolist(), strict=True)) for box in boxes}
    assert found == {(a, b) for a in halves for b in halves}


def test_two_categories_are_parted_without_an_overlap():
    boxes = decompose(SearchSpace([Dimension("on", 2, ordered=False)]), 2)
    assert sorted(box.allowed for box in boxes) == [((0,),), ((1,),)]


def test_the_important_dimension_is_cut_first_and_most():
    widths = np.array([box.widths() for box in decompose(CONTINUOUS, 8, importance=[1, 10])])
    assert (widths[:, 1] < widths[:, 0]).all()


def test_a_conditional_dimension_is_cut_only_where_it_is_active():
    space = SearchSpace(
        [Dimension("kind", 2, False), Dimension("x", parents=((0, frozenset({1})),))]
    )
    widths = {(box.allowed[0], box.widths()[1] < 1) for box in decompose(space, 6)}
    assert widths == {((0,), False), ((1,), True)}


def test_the_same_arguments_give_the_same_boxes():
    for first, second in zip(
        decompose(FINITE, 7, seed=4), decompose(FINITE, 7, seed=4), strict=True
    ):
        assert first.allowed == second.allowed
        np.testing.assert_array_equal(first.lower, second.lower)


@pytest.mark.parametrize("wrong", [{"count": 0}, {"overlap": 1.0}, {"importance": [1.0]}])
def test_arguments_out_of_range_are_named(wrong):
    with pytest.raises(SearchError, match=str(next(iter(wrong)))):
        decompose(CONTINUOUS, **{"count": 2, **wrong})
