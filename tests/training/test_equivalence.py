"""Law 2: N ranks equal one rank on the same script. Law 3: the ranks agree bit for bit."""

from __future__ import annotations

import pytest

from tests.training import cases
from tests.training.jobs import JOBS

TOLERANCE = 1e-6
TOLERANCE_MIXED = 5e-5


def assert_equal(results, tolerance=TOLERANCE):
    for weights, logs, _ in results:
        assert weights <= tolerance
        assert logs <= tolerance
    assert len({bits for *_, bits in results}) == 1


@pytest.mark.parametrize("optimizer", [*cases.OPTIMIZERS, *cases.SETTINGS])
def test_every_optimizer(ranks, optimizer):
    assert_equal(ranks(3).run(cases.equivalence, optimizer=optimizer))


@pytest.mark.parametrize(
    "optimizer", ["SGD", "Muon", "global_clipnorm", "accumulation", "loss_scale_factor", "ema"]
)
def test_what_differs_by_engine_is_the_sum_and_not_the_optimizer(ranks, optimizer):
    assert_equal(ranks(2).run(cases.equivalence, engine="horovod", optimizer=optimizer))


@pytest.mark.parametrize(("engine", "size"), JOBS)
@pytest.mark.parametrize(
    "optimizer", ["SGD", "Adam", "Adagrad", "clipnorm", "global_clipnorm", "accumulation"]
)
def test_embeddings(ranks, engine, size, optimizer):
    run = ranks(size).run
    for kind in ("text", "few_words"):
        assert_equal(run(cases.equivalence, engine=engine, optimizer=optimizer, kind=kind))


@pytest.mark.parametrize(("engine", "size"), [("mpi", 2), ("horovod", 3)])
def test_the_other_pairs_of_engine_and_size(ranks, engine, size):
    for kind in ("dense", "text"):
        run = ranks(size).run
        assert_equal(run(cases.equivalence, engine=engine, optimizer="Adam", kind=kind))


@pytest.mark.parametrize(("engine", "size"), JOBS)
@pytest.mark.parametrize("how", [{"steps_per_execution": 4}, {"run_eagerly": True}])
def test_ways_to_run_a_step(ranks, engine, size, how):
    for kind in ("dense", "text"):
        run = ranks(size).run
        assert_equal(run(cases.equivalence, engine=engine, optimizer="Adam", kind=kind, **how))


@pytest.mark.parametrize(("engine", "size"), JOBS)
@pytest.mark.parametrize("inner", ["adam", "clipped"])
def test_mixed_float16(ranks, engine, size, inner):
    results = ranks(size).run(cases.mixed_float16, engine=engine, inner=inner)
    for weights, *_ in results:
        assert weights <= TOLERANCE_MIXED
    assert len({bits for *_, bits in results}) == 1


@pytest.mark.parametrize(("engine", "size"), JOBS)
@pytest.mark.parametrize("accumulate", [None, 2])
def test_an_infinity_on_one_rank_is_skipped_by_all(ranks, engine, size, accumulate):
    results = ranks(size).run(cases.infinity_on_one_rank, engine=engine, accumulate=accumulate)
    # Halved once, two of three steps taken; Keras counts what they have accumulated.
    assert results[0][:2] == (2.0**7, 2 // (accumulate or 1))
    assert len(set(results)) == 1


@pytest.mark.parametrize(("engine", "size"), JOBS)
def test_several_optimizers(ranks, engine, size):
    for weights, logs in ranks(size).run(cases.several_optimizers, engine=engine):
        assert weights <= TOLERANCE
        assert logs <= TOLERANCE


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("what", cases.FITS)
def test_every_argument_of_fit(ranks, size, what):
    assert_equal(ranks(size).run(cases.fitted, what=what))


@pytest.mark.parametrize(("engine", "size"), JOBS)
def test_none_gradients(ranks, engine, size):
    assert_equal(ranks(size).run(cases.none_gradients, engine=engine))


def test_multi_optimizer(ranks):
    assert_equal(ranks(2).run(cases.multi_optimizer))


@pytest.mark.parametrize("mistake", [cases.without_averaging, cases.averaging_after_clipping])
def test_the_test_notices_a_gradient_that_goes_the_wrong_way(ranks, mistake):
    assert all(weights > 100 * TOLERANCE for weights in ranks(2).run(mistake))
