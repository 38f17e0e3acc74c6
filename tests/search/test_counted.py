"""A search of counted values ends when all were tried, or when max_trials are: never before."""

from __future__ import annotations

import json

import keras_tuner
import numpy as np
import pytest

from keras_candle.search.hyperparameters import UnitCube
from tests.search.searches import searched


def distinct(tuner):
    values = (trial.hyperparameters.values for trial in tuner.oracle.trials.values())
    return len({json.dumps(each, sort_keys=True) for each in values})


def batch_and_optimizer(hp):
    return hp.Int("batch", 8, 256, sampling="log") + 300 * (hp.Choice("opt", ["a", "b"]) == "b")


def test_values_on_a_logarithmic_scale_do_not_end_a_search_early(tmp_path):
    tuner = searched(batch_and_optimizer, tmp_path, 60)
    assert distinct(tuner) == len(tuner.oracle.trials) == 60
    assert tuner.oracle.get_best_trials()[0].score == 8


@pytest.mark.parametrize("search", ["subspaces", "random"])
@pytest.mark.parametrize("sampling", ["log", "reverse_log"])
def test_all_values_of_a_scale_are_tried_once_and_then_the_search_stops(tmp_path, search, sampling):
    tuner = searched(lambda hp: hp.Int("n", 1, 36, sampling=sampling), tmp_path, 50, search=search)
    assert distinct(tuner) == len(tuner.oracle.trials) == 36


@pytest.mark.parametrize("search", ["subspaces", "random"])
def test_a_condition_that_never_holds_adds_no_point(tmp_path, search):
    def never(hp):
        kind = hp.Fixed("kind", "a")
        with hp.conditional_scope("kind", ["b"]):
            hp.Float("rate", 0.0, 1.0)
        return hp.Int("n", 1, 5) + len(kind)

    tuner = searched(never, tmp_path, 20, search=search)
    assert distinct(tuner) == len(tuner.oracle.trials) == 5


@pytest.mark.parametrize("search", ["subspaces", "random"])
def test_a_small_part_without_an_end_is_searched_when_the_rest_is_used_up(tmp_path, search):
    def mostly_counted(hp):
        kind = hp.Choice("kind", list(range(12)))
        with hp.conditional_scope("kind", [3]):
            return kind + (hp.Float("rate", 0.0, 1.0) if kind == 3 else 0.0)

    assert distinct(searched(mostly_counted, tmp_path, 24, search=search)) == 24


@pytest.mark.parametrize("sampling", ["log", "reverse_log"])
@pytest.mark.parametrize(("least", "most"), [(1, 40), (8, 256), (3, 100_000)])
def test_the_cells_of_a_scale_are_keras_tuners_own(sampling, least, most):
    hp = keras_tuner.HyperParameters()
    hp.Int("n", least, most, sampling=sampling)
    cube, scale = UnitCube(hp), hp.space[0]
    units = np.random.default_rng(0).random(2000)
    ours = [cube.values_of(np.array([unit]))["n"] for unit in units]
    assert ours == [scale.prob_to_value(unit) for unit in units]
    again = np.array([cube.unit_of({"n": value}) for value in ours])
    assert cube.space.keys(again) == cube.space.keys(units[:, None])
    assert cube.space.count == most - least + 1


@pytest.mark.parametrize(
    "made",
    [
        lambda hp: hp.Int("n", 2, 1024, step=2, sampling="log"),
        lambda hp: hp.Int("n", 2, 1024, step=2, sampling="reverse_log"),
        lambda hp: hp.Float("n", 1e-5, 1.0, step=10, sampling="log"),
        lambda hp: hp.Float("n", 1e-5, 1.0, step=10, sampling="reverse_log"),
        lambda hp: hp.Float("n", 0.0, 1.0, step=0.05),
        lambda hp: hp.Choice("n", [8, 8, 16]),
    ],
)
def test_each_value_with_a_step_is_one_point(made):
    hp = keras_tuner.HyperParameters()
    made(hp)
    cube = UnitCube(hp)
    values = [cube.values_of(point)["n"] for point in cube.space.all_points()]
    assert len(set(values)) == len(values) == cube.space.count
