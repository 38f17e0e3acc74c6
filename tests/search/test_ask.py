from dataclasses import replace

import numpy as np
import pytest

from keras_candle.errors import SearchError
from keras_candle.search.acquisition import CostWeight, acquisition_of
from keras_candle.search.ask import AskSettings, suggest
from keras_candle.search.space import Dimension, SearchSpace
from keras_candle.search.subspaces import decompose, whole_space
from keras_candle.search.surrogate_data import History, surrogate_data_of
from keras_candle.search.trust_regions import incumbents, trust_box
from tests.search.spaces import CONDITIONAL, CONTINUOUS, FINITE, SPACES, history_of

FOUR = [Dimension(f"x{number}") for number in range(4)]


def ask(space, history, settings=None, seed=0, subspaces=1):
    settings = settings or AskSettings()
    boxes = decompose(space, subspaces)
    return suggest(space, history, boxes, seed % subspaces, settings, np.random.default_rng(seed))


def search(space, function, trials, settings=None, seed=0, subspaces=1):
    """Units and values of a search by one worker; `function` gives NaN where a trial fails."""
    units, values = np.empty((0, len(space))), np.empty(0)
    for number in range(trials):
        history = history_of(units, values)
        made = ask(space, history, settings, 1000 * seed + number, subspaces)
        units = np.vstack([units, made.unit])
        values = np.append(values, function(made.unit))
    return units, values


def bowl(unit):
    return float(np.nansum((unit - 0.31) ** 2))


@pytest.mark.parametrize("workers", [1, 8])
def test_a_bowl_is_searched_to_its_bottom(workers):
    settings = AskSettings(workers=workers, budget=40)
    _, values = search(CONTINUOUS, bowl, 40, settings, subspaces=workers)
    assert values.min() < 1e-4


@pytest.mark.parametrize("name", SPACES)
def test_the_same_arguments_give_the_same_suggestion(name):
    space = SPACES[name]
    points = space.sample(15, np.random.default_rng(1))
    history = history_of(points[:10], [bowl(unit) for unit in points[:10]], points[10:])
    settings = AskSettings(workers=8)
    first, second = (ask(space, history, settings, seed=5, subspaces=3) for _ in range(2))
    np.testing.assert_array_equal(first.unit, second.unit)
    assert first.subspace == second.subspace


@pytest.mark.parametrize("scale", [(1e6, 0.0), (1.0, 1e6)])
def test_the_units_of_the_objective_make_no_difference(scale):
    def coarse(unit):
        return round(1024 * (4 * unit[0] - 1) ** 2 + 1024 * unit[1]) / 1024

    factor, offset = scale
    plain, _ = search(CONTINUOUS, coarse, 16)
    other, _ = search(CONTINUOUS, lambda unit: factor * coarse(unit) + offset, 16)
    np.testing.assert_array_equal(plain, other)


@pytest.mark.parametrize("workers", [1, 8])
def test_a_finite_space_is_exhausted_exactly(workers):
    settings = AskSettings(workers=workers, budget=40)
    units, values = search(FINITE, bowl, 18, settings, subspaces=workers)
    assert len(set(FINITE.keys(units))) == 18
    assert ask(FINITE, history_of(units, values), settings, subspaces=workers) is None


@pytest.mark.parametrize("left", range(18))
def test_running_and_failed_points_are_not_asked_again(left):
    points = FINITE.all_points()
    others = np.delete(points, left, axis=0)
    values = np.append([1.0, 2.0, 3.0, 4.0], np.full(6, np.nan))
    history = history_of(others[:10], values, others[10:])
    np.testing.assert_array_equal(ask(FINITE, history).unit, points[left])


@pytest.mark.parametrize("seed", range(3))
def test_a_point_that_runs_already_promises_nothing_more(seed):
    rng, point = np.random.default_rng(seed), np.array([[0.5, 0.5]])
    units, values, every = CONTINUOUS.sample(12, rng), rng.random(12), np.arange(12)

    def promised(pending):
        data = surrogate_data_of(CONTINUOUS, history_of(units, values, pending))
        cost_weight, again = CostWeight(0.0, None), np.random.default_rng(0)
        score = acquisition_of(CONTINUOUS, data, every, every, cost_weight, again)
        return score(point)[0], score(point + 0.3)[0]

    (before, elsewhere), (after, elsewhere_after) = promised(None), promised(point)
    assert after < before - 100
    assert elsewhere_after == pytest.approx(elsewhere, rel=0.1)


def test_every_point_running_means_that_none_is_left():
    assert ask(FINITE, replace(History.empty(3), pending=FINITE.all_points())) is None


def test_where_trials_fail_fewer_are_sent():
    def half_fails(unit):
        return np.nan if unit[0] > 0.5 else bowl(1 - unit)

    # Without the failures all would go there: the minimum is at .69.
    units, _ = search(CONTINUOUS, half_fails, 40)
    assert (units[20:, 0] > 0.5).mean() < 0.5


def test_a_search_goes_on_while_a_third_of_the_trials_fail():
    random = np.random.default_rng(0)
    _, values = search(CONTINUOUS, lambda unit: np.nan if random.random() < 0.3 else bowl(unit), 50)
    assert np.nanmin(values) < 1e-3


def test_conditional_points_are_canonical_and_good():
    settings = AskSettings(workers=4, budget=50)
    units, values = search(CONDITIONAL, lambda u: bowl(u) + np.isnan(u[3]), 50, settings)
    np.testing.assert_array_equal(CONDITIONAL.canonical(units), units)
    assert not np.isnan(units[values.argmin(), 3])


def test_a_constant_objective_is_no_obstacle():
    units, _ = search(CONTINUOUS, lambda unit: 1.0, 12)
    assert len(set(CONTINUOUS.keys(units))) == 12


def test_what_one_subspace_finds_leads_the_others():
    rng = np.random.default_rng(0)
    points = np.vstack(
        [CONTINUOUS.sample(40, rng), np.full((5, 2), 0.8) + rng.normal(0, 0.02, (5, 2))]
    )
    history = history_of(points, [abs(unit - 0.8).sum() for unit in points])
    asked = [ask(CONTINUOUS, history, AskSettings(workers=8), s, 8).unit for s in range(24)]
    assert (np.linalg.norm(np.array(asked) - 0.8, axis=1) < 0.1).mean() > 0.4


def two_valleys(unit):
    """The deeper one is at 0.8; their bottoms are at -1.1 and -1.0."""
    shallow, deep = (np.exp(-(((unit - at) / 0.3) ** 2).sum()) for at in (0.25, 0.8))
    return -float(max(shallow, 1.1 * deep))


def known_valleys():
    """The shallow one is known to its bottom, of the other one its rim."""
    rng = np.random.default_rng(3)
    lengths = np.repeat([0.01, 0.05, 0.15], 20)[:, None]
    units = np.vstack([
        0.25 + lengths * rng.standard_normal((60, 4)),
        0.8 + 0.15 * rng.choice([-1, 1], (4, 4)),
        rng.random((20, 4)),
    ]).clip(0, 1)  # fmt: skip
    return units, np.array([two_valleys(unit) for unit in units])


def test_each_valley_has_one_incumbent():
    units, values = known_valleys()
    data = surrogate_data_of(SearchSpace(FOUR), history_of(units, values))
    chosen = incumbents(data, 0.2)
    assert chosen[0] == values.argmin()
    assert np.abs(units[chosen[1]] - 0.8).max() < 0.2
    for number in chosen:
        better = units[values < values[number]]
        assert not len(better) or np.linalg.norm(better - units[number], axis=1).min() > 0.2


def test_a_valley_is_gone_down_though_another_one_looks_better():
    space, settings = SearchSpace(FOUR), AskSettings(workers=8, budget=200)
    units, values = known_valleys()
    assert values[np.abs(units - 0.8).max(axis=1) < 0.2].min() > -0.5
    # What betters the best of all alone, not that of the box, is found after 23 trials or more.
    for number in range(18):
        made = ask(space, history_of(units, values), settings, number, 8)
        units = np.vstack([units, made.unit])
        values = np.append(values, two_valleys(made.unit))
    assert values.min() < -1.05


def rippled(unit):
    """Its minimum is 0; the ripples' length is a sixteenth of the cube."""
    away = unit - np.array([0.62, 0.34, 0.5])
    return float(20 * away @ away + (1 - np.cos(32 * np.pi * away)).sum())


def test_ripples_shorter_than_a_tenth_of_the_cube_are_learned_where_trials_are_many():
    space, settings, reached = SearchSpace(FOUR[:3]), AskSettings(workers=8, budget=400), []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        near = np.array([0.62, 0.34, 0.5]) + rng.uniform(-0.12, 0.12, (40, 3))
        units = np.concatenate([rng.random((40, 3)), near])
        values = np.array([rippled(unit) for unit in units])
        for number in range(20):
            made = ask(space, history_of(units, values), settings, 100 * seed + number, 8)
            units = np.vstack([units, made.unit])
            values = np.append(values, rippled(made.unit))
        reached.append(values.min())
    # With one model of the whole cube for all: 0.4.
    assert np.median(reached) < 0.2


def test_what_is_known_in_a_box_is_measured_in_its_widths():
    rng = np.random.default_rng(0)
    units = CONTINUOUS.sample(64, rng)
    values = [bowl(unit) for unit in units[:60]]
    values[0] = np.nan
    history = history_of(units[:60], values, units[60:])
    box = trust_box(CONTINUOUS, whole_space(CONTINUOUS), units[5], 0.6)
    inside = box.contains(units)
    data = surrogate_data_of(CONTINUOUS, history, None, box)
    assert len(data.values) + len(data.failed) == inside[:60].sum() < 60
    assert len(data.pending) == inside[60:].sum()
    assert data.features.min() >= 0
    assert data.features.max() <= 1
    known = inside[:60] & history.succeeded
    np.testing.assert_array_equal(data.features, data.features_of(CONTINUOUS, units[:60][known]))
    corners = np.stack([box.lower, box.upper])
    np.testing.assert_allclose(data.features_of(CONTINUOUS, corners), [[0, 0], [1, 1]], atol=1e-12)


@pytest.mark.parametrize(("exponent", "least", "most"), [(1.0, 0.8, 1.0), (0.0, 0.25, 0.75)])
def test_the_cheap_one_of_two_equal_regions_gets_the_trials(exponent, least, most):
    def both_halves_alike(unit):
        away = np.array([2 * unit[0] % 1, unit[1]]) - 0.37
        return (away**2 + 0.1 * (1 - np.cos(12 * away))).sum()

    units = CONTINUOUS.sample(8, np.random.default_rng(0))
    settings = AskSettings(workers=8, budget=80, cost_exponent=exponent)
    for number in range(72):
        cost = np.where(units[:, 0] < 0.5, 10.0, 1.0)
        history = history_of(units, [both_halves_alike(unit) for unit in units], cost=cost)
        units = np.vstack([units, ask(CONTINUOUS, history, settings, number, 4).unit])
    assert least <= (units[40:, 0] > 0.5).mean() <= most


def test_a_limit_of_the_cost_is_kept():
    units = CONTINUOUS.sample(20, np.random.default_rng(0))
    for number in range(20):
        history = history_of(units, [bowl(1 - u) for u in units], cost=0.1 + units[:, 0])
        made = ask(CONTINUOUS, history, AskSettings(cost_limit=0.6, budget=40), number)
        units = np.vstack([units, made.unit])
    assert (units[20:, 0] < 0.55).mean() > 0.8
    assert min(abs(units[20:, 0] - 0.5)) < 0.05


def test_trials_at_a_part_of_the_fidelity_tell_of_whole_ones():
    units = CONTINUOUS.sample(30, np.random.default_rng(0))
    fidelity = np.where(np.arange(30) % 3, 1 / 9, 1.0)
    # At a low fidelity all looks better than it is.
    objective = [bowl(u) - 1.0 + f for u, f in zip(units, fidelity, strict=True)]
    history = history_of(units, objective, fidelity=fidelity)
    asked = np.array([ask(CONTINUOUS, history, seed=seed).unit for seed in range(5)])
    assert np.median(np.linalg.norm(asked - 0.31, axis=1)) < 0.15


def test_the_order_of_categories_does_not_matter():
    space = SearchSpace([Dimension("kind", 8, ordered=False), Dimension("x")])
    for best in (0, 3, 7):
        _, values = search(space, lambda u, best=best: bowl(u[1:]) + (int(u[0] * 8) != best), 35)
        assert values.min() < 0.01


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"budget": 0}])
def test_settings_out_of_range_are_named(wrong):
    with pytest.raises(SearchError, match=str(next(iter(wrong)))):
        AskSettings(**wrong)
