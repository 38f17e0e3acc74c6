"""What a collective costs: the messages and bytes that each rank receives, counted."""

from __future__ import annotations

import pickle
from contextlib import contextmanager

import keras
import numpy as np
import pytest

import keras_candle as candle
from keras_candle import engine as engines
from keras_candle.engine import mpi
from keras_candle.performance.recorder import PerformanceRecorder
from keras_candle.resume.capture import CheckpointCapture
from tests.callback import cases

HANDSHAKE_BYTES = 24
RECEIVED_BYTES = {
    "allgather": lambda sent, result: sum(map(len, map(pickle.dumps, result))),
    "gather": lambda sent, result: sum(map(len, map(pickle.dumps, result or ()))),
    "scatter": lambda sent, result: len(pickle.dumps(result)),
    "Allgather": lambda sent, result: sent[1].nbytes,
    "Allreduce": lambda sent, result: sent[1].nbytes,
    "Iallreduce": lambda sent, result: sent[1].nbytes,
    "Sendrecv": lambda sent, result: sent[3].nbytes,
    "Bcast": lambda sent, result: (
        memoryview(np.asarray(sent[0])).nbytes
        if isinstance(sent[0], np.ndarray)
        else len(sent[0][0])
    ),
}


class Counted:
    """A communicator that records the name of each collective and the bytes it brought."""

    def __init__(self, communicator, received):
        self._communicator, self._received = communicator, received

    def __getattr__(self, name):
        call = getattr(self._communicator, name)
        if name not in RECEIVED_BYTES:
            return call

        def counted(*sent):
            result = call(*sent)
            self._received.append((name, RECEIVED_BYTES[name](sent, result)))
            return result

        return counted


@contextmanager
def counting(engine, received):
    plain = engine._host, engine._graph
    engine._host, engine._graph = (Counted(each, received) for each in plain)
    try:
        yield
    finally:
        engine._host, engine._graph = plain


def large_sum(dtype, rows):
    """A sum in a step, its bits, how far it is from the exact one, and what this rank received."""
    engine, received = engines.current(), []
    own = [np.random.default_rng(rank).normal(size=rows) for rank in range(engine.size)]
    own = [(100 * each).astype(dtype) for each in own]
    with counting(engine, received):
        found = engine.sum_in_step(own[engine.rank], "test")
    exact = np.sum(own, axis=0, dtype="float64")
    return found.tobytes(), float(np.abs(found - exact).max()), found.dtype.name, received


@pytest.mark.parametrize("rows", [2**18, 2**18 + 1])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
def test_a_large_sum_on_three_ranks_takes_the_ring(ranks, dtype, rows):
    found = ranks(3).run(large_sum, dtype=dtype, rows=rows)
    bits, apart, names, received = zip(*found, strict=True)
    assert len(set(bits)) == 1
    assert max(apart) <= (0.5 if dtype == "float16" else 1e-3)
    assert set(names) == {dtype}
    for messages in received:
        assert [name for name, _ in messages] == ["Iallreduce"] + 4 * ["Sendrecv"]
        assert messages[0] == ("Iallreduce", HANDSHAKE_BYTES)
        whole_bytes = np.dtype(dtype).itemsize * rows
        # 2 (N - 1) / N of the array, but for what does not divide evenly
        assert sum(size for _, size in messages[1:]) == pytest.approx(4 / 3 * whole_bytes, abs=64)


@pytest.mark.parametrize(("size", "rows"), [(2, 2**18), (3, 2**10)])
def test_a_small_sum_or_one_of_two_ranks_is_left_to_mpi(ranks, size, rows):
    for _, _, _, received in ranks(size).run(large_sum, dtype="float32", rows=rows):
        assert [name for name, _ in received] == ["Iallreduce", "Allreduce"]


def test_sixteen_bits_take_the_ring_on_four_ranks_and_others_do_not():
    engine = mpi.MpiEngine.__new__(mpi.MpiEngine)
    engine.size = 4
    assert engine._by_ring(np.zeros(2**18, np.float16))
    assert not engine._by_ring(np.zeros(2**18, np.float32))
    engine.size = 6
    assert engine._by_ring(np.zeros(2**18, np.float32))


class Memory(keras.callbacks.Callback):
    """Has a state of 8 kB on each rank."""

    def get_state(self):
        return {"values": np.arange(1000.0) + candle.rank()}

    def set_state(self, state):
        self.values = state["values"]


def fit_counted(run, kind, method):
    """The bytes that this rank receives in each call of a method, and its last state."""
    engine, plain, calls = engines.current(), getattr(kind, method), []

    def counted(self, *arguments, **options):
        received = []
        with counting(engine, received):
            result = plain(self, *arguments, **options)
        calls.append(received)
        return result

    setattr(kind, method, counted)
    try:
        cases.small_fit(run, epochs=2, rows=24, callbacks=[Memory()])
    finally:
        setattr(kind, method, plain)
    return [sum(size for _, size in received) for received in calls]


def test_what_ranks_send_the_root_at_a_checkpoint_comes_to_the_root_alone(ranks, tmp_path):
    of_ranks = [
        ranks(n).run(fit_counted, run=str(tmp_path / str(n)), kind=CheckpointCapture, method="take")
        for n in (2, 3)
    ]
    (two, *others_of_two), (three, *others_of_three) = of_ranks
    assert min(two) > 2 * 8000
    assert min(three) > 3 * 8000
    assert max(map(max, [*others_of_two, *others_of_three])) < 1000


def test_the_epochs_measurements_are_reduced(ranks, tmp_path):
    of_ranks = [
        ranks(n).run(
            fit_counted, run=str(tmp_path / str(n)), kind=PerformanceRecorder, method="of_epoch"
        )
        for n in (2, 3)
    ]
    counts = {bytes_ for each in of_ranks for calls in each for bytes_ in calls}
    # Two sums with their handshakes, whatever the number of ranks: 11 numbers, and one.
    assert counts == {2 * HANDSHAKE_BYTES + 8 * 11 + 8}


class Back(Memory):
    values = ()


def resume_counted(run):
    """The bytes of the states that a rank receives when a fit is resumed, and its own state."""
    engine, plain, received = engines.current(), engines.current().scatter, []

    def scatter(items):
        with counting(engine, received):
            return plain(items)

    own = Back()
    engine.scatter = scatter
    try:
        cases.small_fit(run, epochs=1, rows=24, callbacks=[Back()])
        cases.forget_fits()
        cases.small_fit(run, epochs=2, rows=24, callbacks=[own])
    finally:
        del engine.scatter
    return [size for name, size in received if name == "scatter"], float(own.values[0])


def test_on_a_resume_each_rank_gets_its_own_state_alone(ranks, tmp_path):
    for rank, (received, first) in enumerate(ranks(3).run(resume_counted, run=str(tmp_path))):
        assert len(received) == 1
        assert 8000 < received[0] < 50_000  # with the random generators', 33 kB; all have 100 kB
        assert first == rank
