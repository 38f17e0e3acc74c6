"""Every metric over unequal shards equals what one process computes."""

from __future__ import annotations

import pytest

from tests.training import metric_cases as cases
from tests.training.jobs import JOBS, only


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", cases.KINDS)
def test_every_built_in_metric(ranks, kind, weighted):
    for plain, scaled in ranks(3).run(cases.all_built_in, kind=kind, weighted=weighted):
        assert len(plain) > 1
        assert scaled.keys() == plain.keys()
        for name, value in plain.items():
            assert scaled[name] == pytest.approx(value, rel=1e-6, abs=1e-6)


def test_no_metric_of_keras_is_left_out():
    names = cases.built_in()
    assert {"AUC", "F1Score", "MeanIoU", "R2Score"} <= set(names)
    assert len(names) > 40
    assert {cases.kind_of(name)[0] for name in names} == set(cases.KINDS)


def test_a_registered_metric_is_exact(ranks):
    for plain, scaled in ranks(3).run(cases.own_metric, name="KnownSpread"):
        assert scaled == pytest.approx(plain, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("Spread", "register_metric_reduction(Spread, {'top': 'max'})"),
        ("Remembering", "add_variable"),
        ("Last", "register_metric_reduction(Last, {'value': 'root'})"),
        ("Median", "register_metric_reduction(Median, {'value': 'root'})"),
        ("Choosy", "register_metric_reduction(Choosy, {'value': 'root'})"),
        ("Aside", "does not compute its result from its variables"),
    ],
)
def test_a_metric_that_nobody_can_combine_is_named(ranks, name, remedy):
    for error in ranks(2).errors(cases.own_metric, name=name):
        assert error.startswith(f"CandleError: The metric {name.lower()}")
        assert remedy in error


def test_metrics_that_a_training_step_tracks(ranks):
    for plain, scaled in ranks(3).run(cases.tracked):
        for name, values in plain.items():
            assert scaled[name] == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize(("engine", "size"), JOBS)
@pytest.mark.parametrize("name", ["F1", "StreamingFBeta", "r2", "error_of_rows"])
def test_own_metrics_of_a_training_equal_those_of_one_rank(ranks, engine, size, name):
    results = ranks(size).run(cases.trained_with, engine=engine, name=name)
    assert max(weights for weights, *_ in results) <= 1e-6
    assert max(logs for _, logs, _ in results) <= 1e-6
    only([bits for *_, bits in results])


@pytest.mark.parametrize("name", ["F1", "StreamingFBeta"])
def test_own_metrics_are_exact(ranks, name):
    for plain, scaled in ranks(3).run(cases.own_metric, name=name):
        assert scaled == pytest.approx(plain, abs=1e-6)


def test_a_metric_of_whole_batches_is_exact_or_refused_where_ranks_divide_them(ranks):
    for plain, scaled in ranks(3).run(cases.own_metric, name="BatchR2"):
        assert scaled == pytest.approx(plain, rel=1e-5)
    for error in ranks(2).errors(cases.trained_with, name="BatchR2"):
        assert error.startswith("CandleError: The metric batchr2 (BatchR2) depends on each batch")
        assert "register_metric_reduction(BatchR2, {})" in error
