"""Rounding is told from divergence: the one is repaired, the other refused."""

from __future__ import annotations

import pytest

from tests.training import rounding_cases as cases
from tests.training.jobs import JOBS, only


@pytest.mark.parametrize(("engine", "size"), [*JOBS, ("mpi", 2)])
def test_sharpness_aware_minimisation_ends_every_epoch_alike(ranks, engine, size):
    results = ranks(size).run(cases.sharpness_aware, engine=engine)
    weights, state, refused, repairs = zip(*results, strict=True)
    assert len(only(weights)) == 3
    only(state)
    assert len(set(only(weights)[-1])) > 1
    assert all(each == [False] * len(each) for each in refused)
    assert min(repairs[0]) >= 5  # two steps at the beginning, and the end of each epoch
    assert ranks(size).log().count("weights differ by rounding") >= 1


def test_perturbations_that_begin_later(ranks):
    results = ranks(2).run(cases.sharpness_aware, from_epoch=2, epochs=4, rows=600)
    only([weights for weights, *_ in results])
    assert all(refused == [False, False] for _, _, refused, _ in results)


def test_a_perturbation_that_stays_is_divergence(ranks):
    for error in ranks(2).errors(cases.sharpness_aware, undone=0.999):
        assert error.startswith("DivergenceError: The ranks differ after step 1")
        assert "Its gradient was averaged, but" in error


def test_a_gradient_that_is_not_averaged_is_divergence_however_small(ranks):
    for error in ranks(2).errors(cases.tiny):
        assert error.startswith("DivergenceError: The ranks differ after step ")
        assert "was not averaged over the ranks" in error


def test_each_list_of_variables_is_traced_once(ranks):
    traced, iterations = only(ranks(2).run(cases.comparisons_traced))
    assert iterations == 15  # six epochs of five steps, of which two make an update
    assert traced <= 4
