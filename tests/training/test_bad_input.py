"""Bad input: a clear error on every rank, before the first step, and no hang."""

from __future__ import annotations

import pytest

from tests.training import bad_input_cases as cases

ERRORS = {
    cases.not_compiled: "CandleError: The model is not compiled: call model.compile",
    cases.no_model: "CandleError: <lambda>() returned None, expected a keras.Model",
    cases.different_data: "DataError: The ranks differ in the data they were given",
    cases.different_numbers_of_rows: "DataError: The ranks differ in the data they were given",
    cases.different_models: "DivergenceError: The ranks built different models",
    cases.different_optimizers: "DivergenceError: The ranks built different models",
    cases.no_rows: "DataError: The data have no row,",
    cases.no_batches: "DataError: The tf.data.Dataset has no batch",
    cases.unknown_kind: "DataError: Keras cannot train on a builtins.set",
    cases.ambiguous_rows: "DataError: ValueError: Data cardinality is ambiguous",
    cases.unreduced_loss: "CandleError: The loss sparse_categorical_crossentropy has reduction=",
    cases.other_backend: "EngineError: Keras runs on jax; on several ranks keras_candle trains",
    cases.unknown_engine: "CandleError: engine='nccl' is unknown, expected one of 'auto'",
    cases.other_engine: "EngineError: engine='horovod' was asked for, but 'mpi' already runs",
    cases.unknown_precision: "CandleError: precision='float8' is unknown, expected one of None",
    cases.late_precision: "CandleError: candle.scale got precision='mixed_bfloat16'",
    cases.unknown_argument: "CandleError: Unknown argument learning_rate; expected precision",
    cases.warmup_of_unknown_length: "CandleError: warmup_epochs needs the number of steps",
    cases.different_epochs: "EngineError: The ranks differ in the arguments of fit",
    cases.fit_on_the_root_alone: "EngineError: The ranks are at different places",
    cases.data_that_only_one_rank_cannot_use: "DataError: rank 1: ",
    cases.unreadable_on_one_rank: "DataError: rank 1: OSError: Stale file handle",
    cases.batch_that_one_rank_cannot_use: "DataError: rank 1: ",
}


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: case.__name__)
def test_every_rank_says_what_is_wrong(ranks, case):
    errors = ranks(2).errors(case, timeout_s=60)
    assert [error[: len(ERRORS[case])] for error in errors] == [ERRORS[case]] * 2


def test_differences_are_listed_by_rank(ranks):
    for error in ranks(2).errors(cases.different_models):
        assert "rank 0: weight 0 is 'kernel float32 (8, 16)'" in error
        assert "rank 1: weight 0 is 'kernel float32 (8, 17)'" in error
