"""Keras Tuner's hyperparameters as a unit cube, and back."""

from __future__ import annotations

import json

import keras_tuner
import numpy as np
import pytest

from keras_candle.search.hyperparameters import UnitCube, with_values


def everything(hp):
    hp.Fixed("fixed", 3)
    hp.Boolean("bias")
    hp.Float("dropout", 0.0, 0.5, step=0.1)
    hp.Float("rate", 1e-5, 1e-1, sampling="log")
    hp.Float("late", 0.5, 0.999, sampling="reverse_log")
    hp.Int("batch", 16, 256, step=2, sampling="log")
    hp.Int("one", 1, 1)
    hp.Int("wide", 1, 1000, sampling="log")
    hp.Int("many", 0, 10**6)
    hp.Choice("width", [8, 16, 32])
    kind = hp.Choice("kind", ["mlp", "cnn", "rnn"])
    with hp.conditional_scope("kind", ["mlp"]):
        hp.Int("units", 1, 4)
    with hp.conditional_scope("kind", ["cnn", "rnn"]):
        hp.Int("units", 8, 9)
        layers = hp.Int("layers", 1, 3)
        with hp.conditional_scope("layers", [2, 3]):
            hp.Boolean("skip")
    return kind, layers


@pytest.fixture
def hyperparameters():
    hp = keras_tuner.HyperParameters()
    everything(hp)
    return hp


def points(cube, count=100):
    return cube.space.sample(count, np.random.default_rng(0))


def test_a_trial_has_the_values_of_what_is_active_and_of_pythons_own_types(hyperparameters):
    cube = UnitCube(hyperparameters)
    for point in points(cube):
        values = cube.values_of(point)
        hp = with_values(hyperparameters, values)
        assert set(values) == {each.name for each in hp.space if hp.is_active(each)}
        assert json.loads(json.dumps(values)) == values
        everything(hp)  # as the user's function asks for them
        assert hp.values == values


def test_values_come_back_from_the_cube(hyperparameters):
    cube = UnitCube(hyperparameters)
    for point in points(cube):
        values = cube.values_of(point)
        again = cube.values_of(cube.unit_of(values))
        assert again == pytest.approx(values)


def test_a_point_comes_back_from_its_values(hyperparameters):
    cube = UnitCube(hyperparameters)
    counted = [each.size is not None for each in cube.space.dimensions]
    for point in points(cube):
        again = cube.unit_of(cube.values_of(point))
        np.testing.assert_allclose(again[counted], point[counted])


@pytest.mark.parametrize("at", [0.0, 0.999999, 1.0])
def test_the_borders_are_inside_the_range(hyperparameters, at):
    values = UnitCube(hyperparameters).values_of(np.full(20, at))
    assert 1 <= values["wide"] <= 1000
    assert 0 <= values["many"] <= 10**6
    assert 1e-5 <= values["rate"] <= 1e-1
    assert 16 <= values["batch"] <= 256


def test_the_scale_is_the_priors():
    hp = keras_tuner.HyperParameters()
    hp.Float("rate", 1e-5, 1e-1, sampling="log")
    assert UnitCube(hp).values_of(np.array([0.5]))["rate"] == pytest.approx(1e-3)


def test_one_name_under_two_conditions_is_two_dimensions(hyperparameters):
    cube = UnitCube(hyperparameters)
    names = [each.name for each in cube.space.dimensions]
    assert sum(name.startswith("units") for name in names) == 2
    for point in points(cube):
        values = cube.values_of(point)
        assert values["units"] in ({1, 2, 3, 4} if values["kind"] == "mlp" else {8, 9})


def test_what_was_found_later_had_its_default_before(hyperparameters):
    before = UnitCube(hyperparameters).values_of(points(UnitCube(hyperparameters))[0])
    hyperparameters.Choice("found", [1, 2, 3], default=2)
    cube = UnitCube(hyperparameters)
    assert cube.values_of(cube.unit_of(before))["found"] == 2


def test_nothing_free_has_no_dimension():
    hp = keras_tuner.HyperParameters()
    hp.Fixed("a", 1)
    hp.Choice("b", ["x"])
    cube = UnitCube(hp)
    assert cube.space.dimensions == ()
    assert cube.values_of(np.empty(0)) == {"a": 1, "b": "x"}
