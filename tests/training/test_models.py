"""Models of every make: N ranks equal one, and each other bit for bit."""

from __future__ import annotations

import pytest

from tests.training import model_cases as cases
from tests.training.jobs import JOBS, only


def assert_equal(results, tolerance=1e-6):
    assert all(weights <= tolerance for weights, *_ in results)
    assert all(logs <= tolerance for _, logs, _ in results)
    only([bits for *_, bits in results])


@pytest.mark.parametrize(("engine", "size"), JOBS)
@pytest.mark.parametrize("case", [cases.adversaries, cases.several_outputs, cases.masked])
def test_models(ranks, engine, size, case):
    assert_equal(ranks(size).run(case, engine=engine))


@pytest.mark.parametrize("how", cases.LOSSES)
def test_losses_that_divide_by_something_else_than_rows(ranks, how):
    for rows in (101, 97):  # batches of 12: in the last one of 97 two ranks have no row
        assert_equal(ranks(3).run(cases.reduced, how=how, rows=rows), tolerance=2e-6)


@pytest.mark.parametrize(("engine", "size"), JOBS)
def test_layers_that_are_called_twice(ranks, engine, size):
    assert_equal(ranks(size).run(cases.shared_layers, engine=engine), tolerance=5e-6)


@pytest.mark.parametrize(("engine", "size"), JOBS)
@pytest.mark.parametrize("how", ["dense", "text"])
def test_xla_compiles_the_forward_and_backward_pass(ranks, engine, size, how):
    assert_equal(ranks(size).run(cases.by_xla, engine=engine, how=how), tolerance=2e-6)


@pytest.mark.parametrize("by", ["deepcopy", "clone"])
def test_copies_train_on_all_ranks(ranks, by):
    is_another, steps, _ = only(ranks(2).run(cases.copied, by=by))
    assert is_another
    assert steps == 5  # of 101 rows, 12 a rank and step


def test_own_seed_generators_draw_something_else_on_each_rank(ranks):
    assert len(set(ranks(3).run(cases.own_generators))) == 3


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-6), ("mixed_float16", 5e-5)])
def test_accumulated_gradients_meet_once_for_each_update(ranks, precision, tolerance):
    results = ranks(3).run(cases.accumulated, steps=3, precision=precision)
    # 101 rows in batches of 12 are 9 steps, so 3 updates
    assert [meetings for _, meetings, _ in results] == [3] * 3
    assert all(weights <= tolerance for weights, *_ in results)
    only([bits for *_, bits in results])


def test_a_batch_that_all_ranks_have_is_divided(ranks):
    for weights, logs, iterations in ranks(3).run(cases.batches):
        assert weights <= 1e-6
        assert logs <= 1e-6
        assert iterations == 6


@pytest.mark.parametrize(("engine", "size"), [("horovod", 2), ("mpi", 2), ("mpi", 3)])
@pytest.mark.parametrize(("sharing", "optimizer"), [(False, "sgd"), (True, "accumulating")])
def test_sparse_gradients_travel_alike_whatever_a_ranks_last_batch(
    ranks, engine, size, sharing, optimizer
):
    how = {"engine": engine, "sharing": sharing, "optimizer": optimizer}
    only([bits for *_, bits in ranks(size).run(cases.looked_up, batch="replica", **how)])
    assert_equal(ranks(size).run(cases.looked_up, **how))


@pytest.mark.parametrize("engine", ["mpi", "horovod"])
@pytest.mark.parametrize("kind", ["embedding", "shared", "constant", "function"])
def test_lookups_that_all_rows_share_are_added_up_over_the_ranks(ranks, engine, kind):
    assert_equal(ranks(3).run(cases.positions, engine=engine, kind=kind))


@pytest.mark.parametrize(
    ("engine", "size", "recompile"),
    [("mpi", 1, False), ("mpi", 1, True), ("mpi", 3, True), ("horovod", 2, False)],
)
def test_the_slices_of_a_row_are_added_up_where_that_is_asked_for(ranks, engine, size, recompile):
    assert_equal(ranks(size).run(cases.summed_slices, engine=engine, recompile=recompile))


@pytest.mark.parametrize("compiled", ["jit_compile", "run_eagerly"])
def test_such_lookups_in_steps_that_are_compiled_otherwise(ranks, compiled):
    results = ranks(2).run(cases.positions, kind="embedding", **{compiled: True})
    assert_equal(results, tolerance=2e-6)


def test_lookups_of_both_kinds_in_one_table_are_refused_behind_xla(ranks):
    errors = ranks(2).errors(cases.positions, kind="shared", jit_compile=True)
    assert all("looked up by the batch and by fixed indices" in each for each in errors)
