"""The comparison and its verdict, on records that are made up."""

from __future__ import annotations

import json

import numpy as np
import pytest

from keras_candle.verification.comparison import compare_runs
from keras_candle.verification.gaps import Gap, Tolerances, largest_gap
from keras_candle.verification.record import (
    Fact,
    RecordedRun,
    TrainingRecord,
    WeightSnapshot,
    digest,
    write_arrays,
)
from keras_candle.verification.verdict import as_json, judge, text

MOMENTS = ("start", "step 1", "epoch 1", "end")
START, TRAINED = [np.zeros(2), np.ones(3)], [np.full(2, 0.5), np.full(3, 2.0)]


def fit(folder, *, off=0.0, weight=1, since="step 1", **facts):
    """A fit of two weights, one of which is off by so much since some moment."""
    folder.mkdir(exist_ok=True)
    names = ["model/bias", "model/kernel"]
    record = TrainingRecord("fit", "Sequential 'model'", True, names, [True, True], steps=4)
    record.logs = {"loss": [0.5]}
    for number, when in enumerate(MOMENTS):
        values = [each.copy() for each in (TRAINED if number else START)]
        if number >= MOMENTS.index(since):
            values[weight] += off
        file = f"{len(list(folder.iterdir()))}.npz"
        write_arrays(folder / file, values)
        record.snapshots.append(WeightSnapshot(when, [digest(value) for value in values], file))
    for name, value in facts.items():
        setattr(record, name, value)
    return record


@pytest.fixture
def outcome(tmp_path):
    """Compare an ordinary fit with one that is made otherwise on N ranks, all of them alike."""

    def compare(alone=None, other_rank=None, **many):
        one = RecordedRun(tmp_path / "one", [[fit(tmp_path / "one", **(alone or {}))]])
        root = fit(tmp_path / "many", **many)
        other = fit(tmp_path / "other", **{**many, **(other_rank or {})})
        runs = RecordedRun(tmp_path / "many", [[root], [other]])
        comparisons = compare_runs(one, runs)
        verdict = judge(one, runs, comparisons)
        return verdict, text(comparisons, verdict, 2), as_json(comparisons, verdict, {})

    return compare


RANDOM = [Fact("random", "Dropout 'dropout'")]


@pytest.mark.parametrize(
    ("many", "word", "told"),
    [
        ({"off": 1e-7}, "EQUAL", "within the tolerance of 1e-05"),
        ({"off": 1e-3}, "DIFFERENT", "model/kernel differs by 1.0e-03"),
        ({"off": 1e-3, "weight": 0}, "DIFFERENT", "model/bias differs by 1.0e-03"),
        ({"off": 1e-3, "since": "epoch 1"}, "DIFFERENT", "step 1 agrees to 0.0e+00"),
        ({"off": np.nan}, "DIFFERENT", "model/kernel differs by inf"),
        ({"off": 1e-3, "facts": RANDOM}, "EXPLAINED", "Dropout 'dropout' drew at random"),
        ({"off": 1e-7, "facts": RANDOM}, "EQUAL", "within the tolerance"),
        ({"off": 1e-3, "since": "start", "facts": RANDOM}, "DIFFERENT", "start from different"),
        ({"steps": 2, "facts": RANDOM}, "DIFFERENT", "updated 4 times on one rank and 2 on N"),
        ({"logs": {"loss": [0.6]}}, "DIFFERENT", "loss in epoch 1 differs by 1.0e-01"),
        ({"logs": {"loss": [0.5, 0.4]}}, "DIFFERENT", "1 values against 2"),
        ({"logs": {"loss": [0.5], "auc": [1.0]}}, "DIFFERENT", "auc, which only one"),
        ({"logs": {"loss": [0.5], "effective_learning_rate": [1.0]}}, "EQUAL", ""),
        ({"weights": ["model/kernel"]}, "DIFFERENT", "2 weights and 1"),
        ({"kind": "train_on_batch"}, "DIFFERENT", "called fit where N ranks called train_on_b"),
        ({"scaled": False}, "NOT SCALED", "use --auto"),
        ({"other_rank": {"off": 1e-9}}, "DIFFERENT", "rank 1 holds another model/kernel"),
        ({"other_rank": {"off": 1e-9, "since": "end"}}, "DIFFERENT", "at the end rank 1 holds"),
        (
            {"alone": {"data": ["shape (3, 2), checksum 1"]}, "data": ["shape (3, 2), checksum 2"]},
            "DIFFERENT",
            "the data differ",
        ),
    ],
)
def test_verdicts(outcome, many, word, told):
    verdict, report, _ = outcome(**many)
    assert verdict.word == word
    assert told in " ".join(verdict.sentences)
    assert verdict.exit_code == (word not in ("EQUAL", "EXPLAINED"))
    assert report.splitlines()[-1 - len(verdict.sentences)] == word


def test_a_difference_that_is_small_only_because_nothing_moves_is_one():
    """A gradient twice as large, at a learning rate of 1e-6."""
    assert not Gap("end", "kernel", size=3e-6, change=3e-6).within(Tolerances())
    assert Gap("end", "kernel", size=3e-6, change=3e-3).within(Tolerances())
    assert Gap("end", "kernel", size=1e-7, change=1e-7).within(Tolerances())


def test_a_difference_is_relative_to_large_weights_only():
    assert largest_gap("end", ["a"], [np.array([200.0])], [np.array([201.0])]).relative == 0.005
    assert largest_gap("end", ["a"], [np.array([0.2])], [np.array([0.3])]).relative == (
        pytest.approx(0.1)
    )


def test_after_an_explained_difference_the_next_fit_is_explained_too(tmp_path):
    one = RecordedRun(tmp_path / "one", [[fit(tmp_path / "one") for _ in range(2)]])
    second = fit(tmp_path / "many", off=1e-3, since="start")
    for reasons, word in ((RANDOM, "EXPLAINED"), ([], "DIFFERENT")):
        first = fit(tmp_path / "many", off=1e-3, facts=reasons)
        many = RecordedRun(tmp_path / "many", [[first, second]] * 2)
        comparisons = compare_runs(one, many)
        assert comparisons[0].verdict == word
        assert judge(one, many, comparisons).word == word


def test_programs_that_train_nothing_or_not_alike(tmp_path):
    one = RecordedRun(tmp_path / "one", [[fit(tmp_path / "one")]])
    nothing, many = RecordedRun(tmp_path, [[]]), RecordedRun(tmp_path, [[], []])
    assert judge(nothing, many, []).word == "NOTHING RECORDED"
    verdict = judge(one, many, [])
    assert (verdict.word, verdict.exit_code) == ("DIFFERENT", 1)
    assert "One rank ran 1 trainings and evaluations, N ranks ran 0." in verdict.sentences


def test_the_json_holds_every_moment(outcome):
    told = json.loads(outcome(off=np.inf)[2])
    assert told["verdict"] == "DIFFERENT"
    weights = told["trainings"][0]["weights"]
    assert [each["when"] for each in weights] == list(MOMENTS)
    assert weights[-1]["size"] is None
    assert weights[0]["size"] == 0


def test_only_a_training_that_starts_otherwise_follows_from_an_earlier_one(tmp_path):
    one = RecordedRun(tmp_path / "one", [[fit(tmp_path / "one") for _ in range(2)]])
    first = fit(tmp_path / "many", off=1e-3, facts=RANDOM)
    second = fit(tmp_path / "many", off=1e-3)
    many = RecordedRun(tmp_path / "many", [[first, second]] * 2)
    assert [each.verdict for each in compare_runs(one, many)] == ["EXPLAINED", "DIFFERENT"]


def test_a_weight_whose_gradient_is_rounding_is_left_out(outcome):
    noise = {"alone": {"noise": [1]}, "noise": [1]}
    verdict, report, _ = outcome(off=1e-3, **noise)
    assert verdict.word == "EQUAL"
    assert "left out        model/kernel" in report
    assert outcome(off=1e-3, weight=0, **noise)[0].word == "DIFFERENT"
    assert outcome(off=1e-3, noise=[1])[0].word == "DIFFERENT"


@pytest.mark.parametrize(("precision", "word"), [("float16", "EQUAL"), ("float64", "DIFFERENT")])
def test_16_bits_round_more(outcome, precision, word):
    facts = [Fact("reduced_precision", precision)]
    assert outcome(off=5e-4, facts=facts)[0].word == word


@pytest.mark.parametrize(
    ("accuracy", "loss", "word"),
    [(0.51, 0.5, "EQUAL"), (0.515, 0.5, "DIFFERENT"), (0.53, 0.5, "DIFFERENT"), (0.51, 0.51, "DI")],
)
def test_a_row_on_the_edge_is_no_difference(outcome, accuracy, loss, word):
    alone = {"rows": {"": 100}, "logs": {"loss": [0.5], "accuracy": [0.5]}}
    verdict, *_ = outcome(alone=alone, logs={"loss": [loss], "accuracy": [accuracy]})
    assert verdict.word.startswith(word)
    assert ("1 of 100 rows" in " ".join(verdict.sentences)) == (word == "EQUAL")
