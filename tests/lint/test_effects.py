"""What findings claim: the faults do that on ranks, and the remedies help."""

from __future__ import annotations

import pytest

from tests.lint import effect_cases as cases


@pytest.mark.parametrize("case", [cases.order_of_each_rank, cases.rows_of_the_moment])
def test_draws_of_each_rank_are_refused(ranks, case):
    assert all("The ranks differ in the data" in error for error in ranks(2).errors(case))


def test_ranks_draw_the_same_rows_from_a_seed_of_tensorflow(ranks):
    first, second = ranks(2).run(cases.rows_of_tensorflow)
    assert first == second


@pytest.mark.parametrize("gathered", [True, False])
def test_a_loss_over_pairs_needs_the_rows_of_all_ranks(ranks, gathered):
    assert ranks(2).run(cases.pairs, gathered=gathered) == [gathered] * 2


@pytest.mark.parametrize(
    ("by_size", "batch", "count"),
    [(False, "replica", 3), (True, "replica", 6), (False, "global", 6)],
)
def test_ranks_count_fewer_steps(ranks, by_size, batch, count):
    assert ranks(2).run(cases.counted, by_size=by_size, batch=batch) == [count] * 2


@pytest.mark.parametrize(("of_step", "rows"), [(False, 48), (True, 40)])
def test_rows_of_the_step_and_whole_steps_train(ranks, of_step, rows):
    assert ranks(2).run(cases.noise, of_step=of_step, rows=rows) == [None] * 2


def test_the_ranks_divide_the_rows_of_the_last_step(ranks):
    errors = ranks(2).errors(cases.noise, of_step=False, rows=40)
    assert all("InvalidArgumentError" in error for error in errors)


def test_an_optimizer_of_a_part_is_found_by_the_guard(ranks):
    errors = ranks(2).errors(cases.part, keeps=False)
    assert all("DivergenceError" in error for error in errors)


def test_an_optimizer_of_a_part_that_the_model_keeps_is_averaged(ranks):
    first, second = ranks(2).run(cases.part, keeps=True)
    assert first == second
