"""Losses that look across the rows of a batch are those of the global batch."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_candle as candle
from keras_candle.training.probe_rows import looks_across_rows
from tests.training import loss_cases as cases
from tests.training.jobs import JOBS, only

ACROSS = set(cases.LOSSES) - {"rows_of_one", "keras_mse"}


def assert_equal(results, tolerance=1e-6):
    assert max(weights for weights, *_ in results) <= tolerance
    assert max(logs for _, logs, *_ in results) <= tolerance
    only([bits for *_, bits in results])


@pytest.mark.parametrize("name", cases.LOSSES)
def test_a_loss_equals_that_of_one_rank(ranks, name):
    assert_equal(ranks(3).run(cases.trained, name=name))


@pytest.mark.parametrize(("engine", "size"), JOBS)
def test_with_both_engines(ranks, engine, size):
    assert_equal(ranks(size).run(cases.trained, name="contrastive", engine=engine))
    assert_equal(ranks(size).run(cases.weighted, name="root", engine=engine))


@pytest.mark.parametrize(
    "case", [cases.accumulated, cases.two_outputs, cases.masked_output], ids=lambda c: c.__name__
)
def test_with_what_else_a_model_has(ranks, case):
    assert_equal(ranks(2).run(case))


def test_exact_loss_makes_one_batch_of_the_ranks_own(ranks):
    for weights, logs in ranks(2).run(cases.replicas):
        assert weights <= 1e-6
        assert logs <= 1e-6


def test_xla_has_no_collectives(ranks):
    for error in ranks(2).errors(cases.with_xla):
        assert "Use jit_compile=False" in error


@pytest.mark.parametrize(("engine", "size"), JOBS)
def test_rows_gathered_by_a_training_step_are_those_of_one_rank(ranks, engine, size):
    results = ranks(size).run(cases.queued, engine=engine)
    assert max(weights for weights, _ in results) <= 1e-6
    only([bits for _, bits in results])


def test_outside_of_a_step_nothing_is_gathered(ranks):
    assert ranks(2).run(cases.gathered_outside) == [(2, 1)] * 2


@pytest.mark.parametrize("name", cases.LOSSES)
def test_what_looks_across_rows_is_found(name):
    loss = cases.LOSSES[name]
    if not isinstance(loss, keras.losses.Loss):
        model = cases.model_of(loss)
        model.train_on_batch(np.ones((2, 4)), np.ones((2, 2)))
        loss = model._compile_loss._flat_losses[0].loss
    y = np.ones((5, 2), "float32")
    assert looks_across_rows(loss, y, y) is (name in ACROSS)


def test_exact_loss_is_yes_or_no():
    with pytest.raises(candle.CandleError, match="exact_loss='yes', expected True or False"):
        candle.scalable(exact_loss="yes")


@pytest.mark.parametrize("kind", ["rows", "cells", "parts", "penalty"])
def test_a_loss_with_one_value_a_row_trains_as_on_one_rank(ranks, kind):
    results = ranks(3).run(cases.one_value_a_row, kind=kind)
    assert max(weights for weights, _ in results) <= 1e-6
    only([bits for _, bits in results])
