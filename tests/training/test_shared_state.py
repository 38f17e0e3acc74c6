"""What the ranks hold alike, what each has of its own, and who writes files."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import keras
import pytest

from keras_candle import backend
from tests.training import state_cases as cases
from tests.training.jobs import JOBS, only


@pytest.mark.parametrize(("engine", "size"), JOBS)
def test_ranks_that_begin_differently_end_alike(ranks, engine, size):
    only(ranks(size).run(cases.different_starts, engine=engine))
    only(ranks(size).run(cases.unbuilt, engine=engine))


@pytest.mark.parametrize("own", [True, False])
def test_train_on_batch(ranks, own):
    results = ranks(2).run(cases.on_batches, own=own)
    only([weights for _, weights in results])
    if own:
        assert all(difference <= 1e-6 for difference, _ in results)


def test_many_models_are_compared_without_a_warning_of_retracing(caplog):
    tensorflow = logging.getLogger("tensorflow")
    propagates, tensorflow.propagate = tensorflow.propagate, True
    try:
        sums = [backend.current().checksums([keras.Variable(n)])() for n in range(8)]
    finally:
        tensorflow.propagate = propagates
    assert len({int(each[0]) for each in sums}) == 8
    assert not caplog.records


def test_each_rank_drops_out_something_else(ranks):
    assert len(set(ranks(3).run(cases.dropout_masks))) == 3


@pytest.mark.parametrize(("engine", "size"), JOBS)
@pytest.mark.parametrize("by", [{"sync": True}, {"sync": False, "synchronized": True}])
def test_synchronized_batch_normalization_equals_one_rank(ranks, engine, size, by):
    for rows, batch_size in ((24, 12), (25, 12)):  # the last global batch has 1 row
        results = ranks(size).run(
            cases.normalized, engine=engine, rows=rows, batch_size=batch_size, **by
        )
        assert all(weights <= 5e-6 for weights, *_ in results)
        assert all(logs <= 5e-6 for _, logs, _ in results)
        only([bits for *_, bits in results])


def test_local_batch_normalization_ends_with_equal_statistics(ranks):
    only([bits for *_, bits in ranks(3).run(cases.normalized, sync=False)])


def test_saving_from_all_ranks_gives_whole_files(ranks, tmp_path):
    assert only(ranks(3).run(cases.saved_twenty_times, folder=str(tmp_path))) == "Adam"


@pytest.mark.parametrize("engine", ["mpi", "horovod"])
def test_a_save_of_all_ranks_is_waited_for_after_one_of_the_root_alone(ranks, tmp_path, engine):
    how = {"folder": str(tmp_path), "engine": engine}
    assert only(ranks(2).run(cases.saved_after_the_root, **how)) == [0, 1, 7]


def test_a_saved_model_loads_where_keras_candle_cannot_be_imported(ranks, tmp_path):
    path = tmp_path / "model.keras"
    ranks(2).run(cases.saved_for_elsewhere, path=str(path))
    program = (
        "import sys; sys.modules['keras_candle'] = sys.modules['horovod'] = None\n"
        f"import keras; model = keras.models.load_model({str(path)!r})\n"
        "config = model.optimizer.get_config()\n"
        "print(type(model.optimizer).__module__, round(config['learning_rate'], 6),"
        " config['clipnorm'], int(model.optimizer.iterations))"
    )
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "keras.src.optimizers.adamw 0.03 1.0 2\n", done.stderr


def test_only_the_root_writes_and_all_see_the_same_logs(ranks, tmp_path):
    results = ranks(2).run(cases.writing_callbacks, folder=str(tmp_path))
    assert [files for files, *_ in results] == [["best.keras", "log.csv"], []]
    only([(history, bits) for _, history, bits in results])


def test_a_stop_on_one_rank_stops_all(ranks):
    assert ranks(2).run(cases.stopped_by_root) == [2, 2]


def test_scaling_twice_is_scaling_once(ranks):
    assert all(each <= 1e-6 for each in ranks(2).run(cases.twice_decorated))


def test_xla_is_kept_for_evaluation_and_in_the_saved_model(ranks):
    assert ranks(2).run(cases.compiled_with_xla) == [(True, True)] * 2


@pytest.mark.parametrize("engine", ["mpi", "horovod"])
def test_embedding_gradients_stay_sparse_unless_dense_is_smaller(ranks, engine):
    large, small, small_adam = only(ranks(2).run(cases.sparse_sizes, engine=engine))
    assert large[0] < 20_000
    assert [dense for _, dense in (large, small, small_adam)] == [False, True, False]


@pytest.mark.parametrize(("engine", "size"), JOBS)
def test_compressed_gradients_are_nearly_those(ranks, engine, size):
    results = ranks(size).run(cases.compressed, engine=engine)
    assert all(1e-7 < difference < 1e-3 for difference, _ in results)
    only([bits for _, bits in results])
