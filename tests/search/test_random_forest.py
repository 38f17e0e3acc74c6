import numpy as np

from keras_candle.search.random_forest import fit_random_forest


def steps(points):
    return np.floor(4 * points[:, 0]) + (points[:, 1] > 0.5)


def fit(count=200, seed=0):
    points = np.random.default_rng(0).random((count, 3))
    return fit_random_forest(points, steps(points), np.random.default_rng(seed))


def test_most_of_a_step_function_is_learned():
    new = np.random.default_rng(1).random((200, 3))
    mean, _ = fit().predict(new)
    assert np.corrcoef(mean, steps(new))[0, 1] > 0.9


def test_there_is_more_doubt_at_a_step_than_on_a_plain():
    _, std = fit().predict(np.array([[0.5, 0.2, 0.5], [0.125, 0.2, 0.5]]))
    assert std[0] > std[1] > 0


def test_one_trial_is_enough_to_predict():
    model = fit_random_forest(np.zeros((1, 2)), np.ones(1), np.random.default_rng(0))
    mean, std = model.predict(np.ones((3, 2)))
    np.testing.assert_array_equal(mean, 1.0)
    assert (std > 0).all()


def test_the_same_generator_gives_the_same_forest():
    new = np.random.default_rng(1).random((20, 3))
    np.testing.assert_array_equal(fit(seed=3).predict(new)[0], fit(seed=3).predict(new)[0])
