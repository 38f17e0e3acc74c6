"""Stateful layers: refused where ranks would tear their sequences, else each rank keeps its own."""

from __future__ import annotations

import pytest

from tests.training import stateful_cases as cases
from tests.training.jobs import JOBS

MESSAGE = "is stateful: row i of a batch continues where row i of the previous batch ended"


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch"])
@pytest.mark.parametrize("batch", ["replica", "global"])
def test_sequences_that_ranks_would_tear_are_refused(ranks, method, batch):
    for error in ranks(2).errors(cases.refused, method=method, batch=batch):
        assert error.startswith("CandleError: Layer 'lstm")
        assert MESSAGE in error


@pytest.mark.parametrize("kind", ["bidirectional", "nested"])
def test_a_stateful_layer_is_found_inside_of_others(ranks, kind):
    assert all(
        MESSAGE in error for error in ranks(2).errors(cases.refused, method="fit", kind=kind)
    )


def test_every_rank_predicts_whole_sequences(ranks):
    assert ranks(2).run(cases.predicted) == [True, True]


@pytest.mark.parametrize(("engine", "size"), JOBS)
def test_ranks_train_on_sequences_of_their_own(ranks, engine, size):
    assert ranks(size).run(cases.own_streams, engine=engine) == [(True, True)] * size
