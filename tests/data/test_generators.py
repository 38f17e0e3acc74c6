"""Law 4 for PyDatasets that draw from generators of their own."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from keras_candle.data.pydataset import LoadingGate
from tests.data import generator_cases as cases
from tests.training.jobs import JOBS, only

KINDS = ["numpy", "RandomState", "python", "keras", "unseeded", "made in the hook"]


def assert_whole_in_every_epoch(results, epochs):
    total = np.sum([seen for seen, _ in results], axis=0)
    assert total.tolist() == [epochs] * len(total)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", ["replica", "global"])
def test_own_generators_draw_one_order(ranks, kind, batch):
    how = {"rows": 50, "batch_size": 6, "epochs": 3, "kind": kind, "batch": batch}
    assert_whole_in_every_epoch(ranks(3).run(cases.own_generator, **how), 3)


@pytest.mark.parametrize("how", [{"workers": 3}, {"workers": 2, "use_multiprocessing": True}])
def test_with_workers(ranks, how):
    how = {"rows": 50, "batch_size": 6, "epochs": 3, "kind": "numpy", **how}
    assert_whole_in_every_epoch(ranks(2).run(cases.own_generator, **how), 3)


@pytest.mark.parametrize(("engine", "size"), JOBS)
def test_an_order_that_differs_by_rank_is_refused(ranks, engine, size):
    for error in ranks(size).errors(cases.hook, engine=engine, shuffle="drawn_by_rank"):
        assert error.startswith(
            "DataError: After SelfShuffled.on_epoch_end, SelfShuffled.order differs on the ranks"
        )
        assert "rank 1: an order of rows" in error


def test_an_order_that_is_drawn_with_a_batch_is_refused(ranks):
    for error in ranks(2).errors(cases.shuffled_by_first):
        assert "ShuffledByFirst.order differs on the ranks, so rows would be lost" in error


def test_a_hook_that_fails_on_one_rank_fails_on_all(ranks):
    assert (
        ranks(2).errors(cases.hook, shuffle="fail_on_rank_1")
        == ["DataError: rank 1: KeyError: 'rows'"] * 2
    )


@pytest.mark.parametrize("kind", ["own", "global"])
def test_batches_that_are_drawn_when_they_are_loaded_differ_by_rank(ranks, kind):
    results = ranks(2).run(cases.sampled, kind=kind)
    one, other = (drawn for drawn, _ in results)
    assert not any(batch in other for batch in one)
    only([after for _, after in results])


def test_a_pydataset_that_gets_shorter_ends_its_epochs_early_on_all_ranks(ranks):
    # Keras keeps the 4 batches of the fit's beginning as an epoch's steps.
    assert only(ranks(2).run(cases.shrinking)) == (4 + 2 + 2) // 2


def test_lengths_that_come_to_differ_are_refused(ranks):
    for error in ranks(2).errors(cases.lengths_that_differ):
        assert "OfOneRank.num_batches differs on the ranks" in error


def test_no_batch_is_loaded_while_a_hook_runs():
    gate, loaded, released = LoadingGate(), [], threading.Event()

    def load():
        with gate.loading():
            loaded.append("begun")
            released.wait(10)
            loaded.append("done")

    threads = [threading.Thread(target=load) for _ in range(2)]
    threads[0].start()
    while not loaded:
        pass
    released.set()
    with gate.closed():
        assert loaded == ["begun", "done"]
        threads[1].start()
        threads[1].join(0.2)
        assert loaded == ["begun", "done"]
    threads[1].join()
    assert loaded == ["begun", "done"] * 2


@pytest.mark.parametrize(("engine", "size"), JOBS)
def test_a_generator_is_evaluated_batch_by_batch_from_epoch_to_epoch(ranks, engine, size):
    steps, epochs = 5, 6
    order = np.arange(steps * epochs) % 7
    expected = order.reshape(epochs, steps).mean(axis=1).tolist()
    found = ranks(size).run(
        cases.validated_by_a_generator, engine=engine, steps=steps, epochs=epochs
    )
    np.testing.assert_allclose(only(found), expected, rtol=1e-6)
