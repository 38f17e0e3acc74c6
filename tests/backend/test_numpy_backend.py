"""The laws of data-parallel training on another backend, where importing TensorFlow raises."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tests.backend import cases
from tests.rank_pool import ROOT, RankPool

SIZES = pytest.mark.parametrize("size", [2, 3])


ONE_RANK = """
from tests.backend import without_tensorflow
without_tensorflow.prepare()
import keras, numpy
import keras_candle as candle

@candle.scalable
def build_model():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    return model

model = build_model()
print(type(model.fit.__func__), "fit" in vars(model), candle.shard(numpy.arange(3)).tolist())
"""


def test_on_one_rank_any_backend_of_keras_will_do():
    done = subprocess.run(
        [sys.executable, "-c", ONE_RANK],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "<class 'function'> False [0, 1, 2]\n", done.stderr


class NumpyRanks(RankPool):
    module = "tests.backend.ranks"


_POOLS: dict[int, NumpyRanks] = {}


@pytest.fixture(scope="session")
def numpy_ranks():
    yield lambda size: _POOLS.setdefault(size, NumpyRanks(size))
    for pool in _POOLS.values():
        pool.stop()


@SIZES
def test_nothing_imports_tensorflow(numpy_ranks, size):
    job = numpy_ranks(size)
    job.run(cases.averages, name="SGD", number=100, batch_size=16)
    assert job.run(cases.imported) == [("numpy", [])] * size


@SIZES
@pytest.mark.parametrize("name", cases.OPTIMIZERS)
@pytest.mark.parametrize(("number", "batch_size"), [(100, 16), (97, 16)])
def test_n_ranks_equal_one(numpy_ranks, size, name, number, batch_size):
    """97 rows end with a batch of one row: all other ranks are without."""
    found = numpy_ranks(size).run(cases.averages, name=name, number=number, batch_size=batch_size)
    for weights, logs, names, bits in found:
        assert weights < 1e-5
        assert logs < 1e-5
        assert names == ["loss", "mae", "val_loss", "val_mae"]
        assert bits == found[0][3]


@SIZES
@pytest.mark.parametrize("kind", ["arrays", "batches"])
@pytest.mark.parametrize("batch", ["replica", "global"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_each_row_goes_to_one_rank(numpy_ranks, size, kind, batch, shuffle):
    by_rank = numpy_ranks(size).run(cases.divides, kind=kind, batch=batch, shuffle=shuffle)
    assert len({len(epoch) for ranks in by_rank for epoch in ranks}) == 1
    for epoch in range(2):
        steps = [ranks[epoch] for ranks in by_rank]
        counted = sorted({row for rank in steps for step in rank for row in step})
        assert counted == list(range(101))
        # Only what fills up the last step comes twice.
        assert sum(len(step) for rank in steps for step in rank) <= 101 + 8 * (size - 1)


@SIZES
def test_the_guard_names_what_differs(numpy_ranks, size):
    for error in numpy_ranks(size).errors(cases.guards):
        assert error.startswith("DivergenceError: The ranks differ after step")
        assert "dense/kernel" in error


@SIZES
def test_ranks_that_begin_differently_end_alike(numpy_ranks, size):
    assert len(set(numpy_ranks(size).run(cases.begins_with_the_roots_weights))) == 1


@SIZES
def test_the_rate_is_scaled_where_it_is_used(numpy_ranks, size):
    for rates, difference in numpy_ranks(size).run(cases.scales_the_rate):
        assert np.allclose(rates, 0.02 * size)
        assert difference < 1e-5
