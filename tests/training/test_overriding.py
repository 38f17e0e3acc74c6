"""Models whose classes override Keras's methods: N ranks equal one."""

from __future__ import annotations

import keras
import pytest

import keras_candle as candle
from tests.training import override_cases as cases
from tests.training.jobs import JOBS, only


def assert_equal(results):
    assert all(weights <= 1e-6 for weights, *_ in results)
    assert all(logs <= 1e-6 for _, logs, _ in results)
    only([bits for *_, bits in results])


@pytest.mark.parametrize("kind", cases.KINDS)
def test_overriding_fit_and_evaluate(ranks, kind):
    assert_equal(ranks(3).run(cases.overriding, kind=kind))


@pytest.mark.parametrize(("engine", "size"), JOBS)
def test_what_maps_its_data_maps_them_once(ranks, engine, size):
    assert_equal(ranks(size).run(cases.overriding, kind="Preprocessing", engine=engine))
    assert all(each <= 1e-6 for each in ranks(size).run(cases.by_batches, engine=engine))


@pytest.mark.parametrize("what", ["evaluate", "train_on_batch", "another fit"])
def test_a_callback_calls_the_model_while_it_is_trained(ranks, what):
    assert_equal(ranks(3).run(cases.within_fit, what=what))


def test_an_overridden_save_runs_on_the_root_and_keeps_its_names(ranks, tmp_path):
    names, described = only(ranks(2).run(cases.saved, folder=str(tmp_path)))
    assert names == ["model.weights.h5", "model.weights.json"]
    assert described == {"rank": 0}


def test_on_one_rank_nothing_is_replaced():
    before = {name: getattr(keras.Model, name) for name in dir(keras.Model)}
    model = candle.scale(cases.compiled("Preprocessing")())
    assert type(model) is cases.Preprocessing
    assert {name: getattr(keras.Model, name) for name in dir(keras.Model)} == before


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("kind", ["inside", "given"])
def test_a_candle_callback_resumes_what_overrides_fit(ranks, tmp_path, size, kind):
    whole, resumed = only(ranks(size).run(cases.durable, kind=kind, folder=str(tmp_path)))
    assert resumed == whole
