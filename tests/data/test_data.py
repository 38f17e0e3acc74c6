"""Law 4: every row once an epoch, by exactly one rank; ranks take equal numbers of steps."""

from __future__ import annotations

import os

import numpy as np
import pytest
import tensorflow as tf

from keras_candle.data.array_shard import ArrayShard
from keras_candle.data.input_data import InputData
from keras_candle.data.keras_adapters import ResumableAdapter
from keras_candle.engine.single import SingleEngine
from tests.data import data_cases as cases

SIZES = (2, 3)


def assert_whole(results, rows):
    """Each row was seen, and by the metrics counted, once.

    A rank that had no row of a step has run another rank's: the Witness, which is a layer with a
    state that is no metric, gets its state back as well.
    """
    total = np.sum([seen for seen, *_ in results], axis=0)
    assert total.tolist() == [1] * rows
    assert len({steps for _, steps, _ in results}) == 1
    mean = (rows - 1) / 2  # of the absolute errors: the row's number against 0
    assert all(abs(mae - mean) <= 1e-4 for *_, mae in results)


def interesting_rows(size):
    return sorted({1, size - 1, size + 1, 101})


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shuffle", [True, False, "batch"])
def test_arrays(ranks, size, shuffle):
    for rows in interesting_rows(size):
        for seed in (None, 3):
            results = ranks(size).run(
                cases.arrays, rows=rows, seed=seed, batch_size=4, shuffle=shuffle
            )
            assert_whole(results, rows)


@pytest.mark.parametrize("size", SIZES)
def test_arrays_in_global_batches(ranks, size):
    for rows in interesting_rows(size):
        results = ranks(size).run(cases.arrays_global, rows=rows, batch_size=6)
        assert_whole(results, rows)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["known", "unknown", "shuffled", "global"])
def test_datasets(ranks, size, kind):
    for rows in interesting_rows(size):
        results = ranks(size).run(cases.dataset, rows=rows, batch_size=6, kind=kind)
        assert_whole(results, rows)


@pytest.mark.parametrize("size", SIZES)
def test_a_shuffled_dataset_is_whole_in_every_epoch(ranks, size):
    for rows in (13, 101):
        results = ranks(size).run(cases.shuffled_epochs, rows=rows, batch_size=6)
        assert np.sum(results, axis=0).tolist() == [3] * rows


def test_infinite_datasets_take_the_steps_of_one_rank_together(ranks):
    results = ranks(2).run(cases.infinite_dataset, rows=12, batch_size=2, steps=6)
    assert_whole(results, 12)
    assert [steps for _, steps, _ in results] == [3, 3]


def test_without_a_seed_each_epoch_has_a_new_order(ranks):
    """With one, Keras itself repeats its order, and law 2 wants what one rank would do."""
    orders = ranks(2).run(cases.orders_without_a_seed, epochs=3)
    assert all(len({round(each, 2) for each in order}) == 3 for order in orders)


def test_a_shuffle_without_a_seed_is_refused(ranks):
    for error in ranks(2).errors(cases.unseeded_shuffle):
        assert error.startswith("DataError: The tf.data.Dataset is shuffled without a seed")
        assert "keras.utils.set_random_seed" in error


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("sample", "is drawn without a seed"),
        ("filter", "is filtered by draws without a seed"),
        ("arrays", "The ranks differ in the data they were given"),
        ("files", "The ranks differ in the data they were given"),
        ("generator", "The ranks differ in the data they were given"),
    ],
)
def test_rows_that_are_drawn_without_a_seed_are_refused(ranks, how, message):
    assert all(message in error for error in ranks(2).errors(cases.drawn, how=how, seed=None))


@pytest.mark.parametrize("how", ["sample", "filter", "arrays", "files", "generator"])
def test_rows_that_are_drawn_with_a_seed_go_to_one_rank_each(ranks, how):
    results = ranks(2).run(cases.drawn, how=how, seed=3)
    total = np.sum([seen for seen, *_ in results], axis=0)
    assert set(total.tolist()) <= ({0, 1} if how == "filter" else {1})


def test_shard_by_hand(ranks):
    parts = ranks(3).run(cases.handmade, rows=10)
    assert sorted(row for rows, _ in parts for row in rows) == list(range(10))


def test_own_parts_of_unequal_length_are_refused(ranks):
    ranks(2).run(cases.own_parts, rows_by_rank=[4, 3])
    for error in ranks(2).errors(cases.own_parts, rows_by_rank=[4, 9]):
        assert error.startswith("DataError: The ranks differ in the number of batches")
        assert "rank 0: ['2 batches']" in error
        assert "rank 1: ['5 batches']" in error


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["arrays", "dataset"])
def test_evaluate_is_exact(ranks, size, kind):
    for rows, steps in ((1, None), (size + 1, None), (33, None), (33, 2)):
        results = ranks(size).run(cases.evaluation, rows=rows, batch_size=5, kind=kind, steps=steps)
        for plain, scaled in results:
            assert scaled == pytest.approx(plain, abs=1e-6)


def shard(x):
    return ArrayShard((x,), 2, True, SingleEngine())


def own_part(x):
    return ResumableAdapter(InputData(x, batch_size=2).keras_adapter)


def threads_of_a_pass(dataset):
    before = len(os.listdir("/proc/self/task"))
    batches = iter(dataset)
    next(batches)
    return len(os.listdir("/proc/self/task")) - before


@pytest.mark.parametrize("adapter", [shard, own_part])
def test_no_thread_tunes_a_pass(adapter):
    """The next pass would wait until it has slept."""
    dataset = adapter(cases.numbered(64)).get_tf_dataset()._dataset
    options = tf.data.Options()
    options.autotune.enabled = True
    tuned = dataset.with_options(options)
    threads_of_a_pass(tuned)  # the first one starts threads that stay
    assert threads_of_a_pass(dataset) == threads_of_a_pass(tuned) - 1


@pytest.mark.parametrize("size", [2, 3])
def test_data_without_an_end_do_not_run_out(ranks, size):
    """Keras warns where an evaluation ends by the end of its data; warnings are errors here."""
    single = cases.endless_evaluations()
    for own in ranks(size).run(cases.endless_evaluations):
        np.testing.assert_allclose(own, single, rtol=1e-6)
