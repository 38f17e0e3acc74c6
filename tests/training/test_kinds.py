"""Law 4 for data that come in batches: PyDatasets, generators, epochs cut short by steps."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.data.test_data import assert_whole, interesting_rows
from tests.training import kinds

SIZES = (2, 3)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("how", [{}, {"shuffle": False}, {"workers": 2}, {"batch": "global"}])
def test_pydatasets(ranks, size, how):
    for rows in interesting_rows(size):
        results = ranks(size).run(kinds.pydataset, rows=rows, batch_size=6, **how)
        assert_whole([each[:-1] for each in results], rows)


def test_a_rank_loads_its_own_batches_of_a_pydataset(ranks):
    results = ranks(3).run(kinds.pydataset, rows=96, batch_size=4, shuffle=False)
    # Of 24 batches each rank trains on 8; two are looked at to know their shape.
    assert all(loaded <= 8 + 2 for *_, loaded in results)


@pytest.mark.parametrize("how", [{}, {"workers": 2}, {"workers": 2, "use_multiprocessing": True}])
def test_a_pydataset_that_shuffles_itself_is_whole_in_every_epoch(ranks, how):
    results = ranks(2).run(kinds.pydataset_epochs, rows=50, batch_size=6, epochs=3, **how)
    assert np.sum([seen for seen, _ in results], axis=0).tolist() == [3] * 50


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("batch", ["replica", "global"])
def test_generators(ranks, size, batch):
    for rows in interesting_rows(size):
        results = ranks(size).run(kinds.generator, rows=rows, batch_size=6, batch=batch)
        assert_whole(results, rows)


@pytest.mark.parametrize("kind", ["generator", "dataset", "pydataset"])
def test_epochs_of_steps_that_the_ranks_cannot_share_evenly(ranks, kind):
    results = ranks(3).run(kinds.endless, rows=40, batch_size=4, steps=5, epochs=4, kind=kind)
    # 4 epochs of 5 batches of 4 rows: twice through 40 rows
    assert np.sum([seen for seen, _ in results], axis=0).tolist() == [2] * 40
    assert [steps for _, steps in results] == [4 * math.ceil(5 / 3)] * 3


@pytest.mark.parametrize(
    "case", [kinds.generators_that_differ, kinds.pydatasets_in_different_orders]
)
def test_batches_that_differ_by_rank_are_refused(ranks, case):
    for error in ranks(2).errors(case):
        assert error.startswith("DataError: The ranks differ in the data they were given")
        assert "rank 1:" in error


def test_own_generators_that_end_too_early_are_named(ranks):
    ranks(2).run(kinds.own_generators, batches_by_rank=[4, 4], steps=4)
    for error in ranks(2).errors(kinds.own_generators, batches_by_rank=[4, 2], steps=4):
        assert error.startswith("DataError: The ranks' own data are not equally long")
        assert "rank 0: had enough" in error
        assert "rank 1: ran out of data 2 steps early" in error


@pytest.mark.parametrize("kind", ["pydataset", "generator"])
def test_evaluate_is_exact(ranks, kind):
    for rows in (1, 4, 33):
        for plain, scaled in ranks(3).run(kinds.evaluated, rows=rows, batch_size=5, kind=kind):
            assert scaled == pytest.approx(plain, abs=1e-6)


@pytest.mark.parametrize("rows", [1, 2, 101])
def test_predict_can_be_shared(ranks, rows):
    results = ranks(3).run(kinds.predicted, rows=rows)
    assert all(same for same, _ in results)
    assert max(rows_run for _, rows_run in results) == math.ceil(rows / 3)


@pytest.mark.parametrize("what", ["a built model", "arrays"])
def test_predict_where_only_one_rank_has(ranks, what):
    one, other = ranks(2).run(kinds.predicted_where_one_rank_has, what=what)
    assert len(one) == 7
    assert one == other
