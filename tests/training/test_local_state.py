"""Weights that no optimizer updates: reduced where it is known how, else the same or refused."""

from __future__ import annotations

import keras
import pytest

import keras_candle as candle
from tests.training import local_state_cases as cases
from tests.training.jobs import JOBS, only


@pytest.mark.parametrize(("engine", "size"), JOBS)
@pytest.mark.parametrize("batch", ["global", "replica"])
def test_registered_state_is_that_of_all_rows(ranks, engine, size, batch):
    for plain, scaled in ranks(size).run(cases.counted, engine=engine, batch=batch):
        assert scaled[0] == plain[0] == 75
        assert scaled[1:] == pytest.approx(plain[1:], abs=1e-4)


@pytest.mark.parametrize("guard", [True, False])
def test_state_that_differs_is_refused_where_ranks_divide_a_batch(ranks, guard):
    for error in ranks(2).errors(cases.with_queue, guard=guard, **cases.GLOBAL):
        assert error.startswith("DivergenceError: The weight sequential")
        assert "/queue/queue differs by rank. No optimizer updates it" in error
        assert "candle.register_state_reduction(Queue, {'queue': 'mean'})" in error


def test_state_that_differs_is_the_roots_where_each_rank_has_a_batch(ranks):
    results = ranks(3).run(cases.with_queue)
    only([state for state, _ in results])
    assert results[0][1].count("/queue/queue differs by rank; at the end") == 1
    assert [said for _, said in results[1:]] == ["", ""]


def test_state_registered_as_the_roots_is_the_roots(ranks):
    results = ranks(2).run(cases.with_queue, known=True, **cases.GLOBAL)
    only([state for state, _ in results])
    assert results[0][1] == ""


@pytest.mark.parametrize(("engine", "size"), JOBS)
def test_weights_that_follow_trained_ones_equal_those_of_one_rank(ranks, engine, size):
    results = ranks(size).run(cases.taught, engine=engine)
    assert all(difference <= 1e-6 for difference, _ in results)
    only([bits for _, bits in results])


def test_spectral_normalization_equals_one_rank(ranks):
    results = ranks(3).run(cases.spectral)
    assert all(difference <= 1e-6 for difference, *_ in results)


def test_evaluate_after_batches_reduces_state_first(ranks):
    results = ranks(2).run(cases.batches_then_evaluate)
    for state, difference, said in results:
        assert state[0] == 16
        assert difference <= 1e-6
        assert "hand-written" not in said
    only([state for state, *_ in results])


def test_a_resumed_epoch_goes_on_adding(ranks):
    for rank, (before, rows) in enumerate(ranks(2).run(cases.taken_and_put_back, ranks_before=2)):
        assert before == pytest.approx([13 + rank, 2.0, 50.0 + rank], abs=1e-4)
        assert rows == 12 + 1 + 2


@pytest.mark.parametrize("size", [1, 3])
def test_state_of_other_ranks_is_combined(ranks, size):
    for before, rows in ranks(2).run(cases.taken_and_put_back, ranks_before=size):
        expected = 12 + sum(range(1, size + 1))
        assert before == pytest.approx([expected, 2.0 * size, 49.0 + size], abs=1e-4)
        assert rows == expected


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((keras.metrics.Mean, {}), "expected a subclass of keras.layers.Layer"),
        ((cases.Counts, {"rows": "median"}), "got 'median' for the variable 'rows'"),
    ],
)
def test_a_registration_that_says_nothing_is_refused(arguments, problem):
    with pytest.raises(candle.CandleError, match=problem):
        candle.register_state_reduction(*arguments)


def test_constants_that_a_layer_draws_are_the_roots(ranks):
    results = ranks(2).run(cases.constants_drawn_apart)
    assert results[0][0] != results[1][0]
    only([after for _, after, _ in results])
    said = results[0][2]
    assert said.count("differs by rank; all ranks take the root's") == 1
    assert "array of Constants 'constants' (and 7 more) is no weight" in said
    assert results[1][2] == ""


def test_constants_are_those_of_plain_keras_on_one_rank():
    plain, scaled = cases.constants_on_one_rank()
    assert plain == scaled


def test_a_constant_of_the_graph_that_differs_is_refused(ranks):
    for error in ranks(2).errors(cases.constant_of_the_graph):
        assert error.startswith("DivergenceError: a constant of the graph of Functional")
        assert "differs by rank and cannot be replaced. Draw it from a seed" in error


def test_an_attribute_of_some_ranks_is_refused_on_all(ranks):
    for error in ranks(3).errors(cases.attribute_of_some_ranks):
        assert error.startswith("DivergenceError: scales[0] of Identity 'identity'")
        assert "only 2 of 3 ranks hold it in this place and form (ranks 1, 2)" in error


def test_a_number_of_some_ranks_is_left_alone(ranks):
    (log, *root), *others = ranks(3).run(cases.numbers_of_some_ranks)
    assert log == [0.5, 0.25]
    assert root[0] == 0.0
    assert "scale of Identity 'identity' is no weight and differs by rank" in root[1]
    assert others == [([], 0.0, "")] * 2


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("guard", [True, 1, False])
def test_a_variable_of_rows_is_refused_where_ranks_divide_a_batch(ranks, late, guard):
    for error in ranks(2).errors(cases.variable_of_rows, late=late, guard=guard, **cases.GLOBAL):
        assert error.startswith("DivergenceError: The variable top of Largest 'largest' differs")
        assert "Make it a weight, self.add_weight(name=..., trainable=False)" in error


def test_a_variable_of_rows_is_the_roots_where_each_rank_has_a_batch(ranks):
    results = ranks(3).run(cases.variable_of_rows)
    only([top for top, _ in results])
    assert results[0][1].count("The variable top of Largest 'largest' differs by rank") == 1
    assert [said for _, said in results[1:]] == ["", ""]
