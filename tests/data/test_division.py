"""Law 2 for batches of any size: batch="global" on N ranks is one rank with the same batches."""

from __future__ import annotations

import pytest

from tests.data import division_cases as cases
from tests.training.jobs import JOBS

KINDS = ["arrays", "batches", "fixed", "pydataset", "train_on_batch"]


@pytest.mark.parametrize(("engine", "size"), JOBS)
@pytest.mark.parametrize("kind", KINDS)
def test_ranks_need_not_divide_a_batch_evenly(ranks, engine, size, kind):
    # 1: some ranks have no row in any step.
    for batch_size in (7, 1):
        how = {"kind": kind, "batch_size": batch_size}
        for weights, logs in ranks(size).run(cases.divided, engine=engine, **how):
            assert weights <= 1e-6
            assert logs <= 1e-6
