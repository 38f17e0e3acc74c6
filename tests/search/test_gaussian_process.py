import numpy as np
import pytest
from scipy.optimize import approx_fprime

from keras_candle.search.acquisition import log_expected_improvement, log_probability_below
from keras_candle.search.gaussian_process import (
    fit_gaussian_process,
    negative_log_posterior,
    squared_differences,
    starts,
)


def waves(points):
    return np.sin(6 * points[:, 0]) + points[:, 1] ** 2


def points_of(count, columns=3, seed=0):
    return np.random.default_rng(seed).random((count, columns))


def fit(points, values, seed=0):
    return fit_gaussian_process(points, values, np.random.default_rng(seed))


@pytest.mark.parametrize("columns", [1, 3])
def test_the_gradient_is_that_of_the_posterior(columns):
    x = points_of(20, columns)
    y = np.sin(5 * x).sum(axis=1)
    rest = (x, y - y.mean(), squared_differences(x), np.triu_indices(20, 1))
    for start in starts(columns):
        at = start + 0.2
        numeric = approx_fprime(at, lambda p: negative_log_posterior(p, *rest)[0], 1e-7)
        exact = negative_log_posterior(at, *rest)[1]
        np.testing.assert_allclose(exact, numeric, rtol=1e-3, atol=1e-3)


def test_known_values_are_predicted_and_unknown_ones_doubted():
    x = points_of(40)
    model = fit(x, waves(x))
    mean, std = model.predict(x)
    np.testing.assert_allclose(mean, waves(x), atol=1e-2)
    _, far = model.predict(x + 5.0)
    assert far.min() > 10 * std.max()


@pytest.mark.parametrize(("factor", "offset"), [(1e6, 0.0), (1.0, 1e3)])
def test_the_prediction_follows_the_units_of_the_values(factor, offset):
    x, new = points_of(30), points_of(10, seed=1)
    mean, std = fit(x, waves(x)).predict(new)
    other_mean, other_std = fit(x, factor * waves(x) + offset).predict(new)
    np.testing.assert_allclose(other_mean, factor * mean + offset, rtol=1e-3, atol=1e-3 * factor)
    np.testing.assert_allclose(other_std, factor * std, rtol=0.05)


def test_noise_is_found():
    x = points_of(100)
    noise = 0.3 * np.random.default_rng(1).standard_normal(100)
    assert 0.15 < fit(x, waves(x) + noise).noise < 0.5


def test_a_point_that_is_added_is_known_like_the_others():
    x, new = points_of(30), points_of(1, seed=1)
    model = fit(x, waves(x)).with_points(new, np.array([5.0]))
    mean, std = model.predict(new)
    assert abs(mean[0] - 5) < 0.2
    assert std[0] < 0.2


def test_equal_points_and_equal_values_are_no_obstacle():
    mean, std = fit(np.full((10, 2), 0.5), np.full(10, 3.0)).predict(points_of(5, 2))
    np.testing.assert_allclose(mean, 3.0)
    assert np.isfinite(std).all()


def test_the_same_arguments_give_the_same_fit():
    x = points_of(300)
    first, second = fit(x, waves(x)), fit(x, waves(x))
    np.testing.assert_array_equal(first.logarithms, second.logarithms)


def test_improvement_grows_with_doubt_and_falls_with_the_mean():
    mean, std = np.array([0.0, 0.0, 1.0, 40.0]), np.array([1.0, 2.0, 1.0, 1.0])
    worth = log_expected_improvement(mean, std, 0.0)
    assert worth[1] > worth[0] > worth[2] > worth[3] > -np.inf


def test_the_logarithm_of_the_improvement_is_continuous():
    mean = np.linspace(0.5, 1.5, 2001)
    worth = log_expected_improvement(mean, np.ones_like(mean), 0.0)
    assert abs(np.diff(worth, 2)).max() < 1e-5


def test_half_of_a_value_is_below_its_mean():
    np.testing.assert_allclose(np.exp(log_probability_below(np.ones(1), np.ones(1), 1.0)), 0.5)
