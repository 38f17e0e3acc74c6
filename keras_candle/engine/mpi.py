"""The MPI engine, on mpi4py: needs no compiler, works wherever an MPI job can be started."""

from __future__ import annotations

import itertools
import math
import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_candle.call_site import call_site
from keras_candle.engine.base import Engine, describe
from keras_candle.errors import EngineError
from keras_candle.optional import load

# A wait longer than a step: the awaited rank compiles, evaluates or writes.
# The longer it lasts the longer are the naps: each of a collective's messages may be late by one.
_POLLS_FOR_S, _NAP_OF_WAIT, _SHORTEST_NAP_S, _LONGEST_NAP_S = 5e-3, 2e-3, 1e-4, 2e-3
# Message tags: a rank's failure, which ends the wait of all other ranks, root's `after_root`, and
# a part of a large sum.
_FAILED, _ROOT_DONE, _PART = 1, 2, 3
# A rank's part of a sum from which a ring is faster than MPI's own algorithms, see `_by_ring`.
_RING_FROM_BYTES = 1 << 16


class MpiEngine(Engine):
    """The ranks of an MPI communicator.

    Before each collective a handshake of 24 bytes compares the collective's name over the ranks.
    Two different collectives can therefore never be combined without an error.

    Args:
        communicator: an mpi4py communicator, of which the engine keeps three duplicates.
    """

    name = "mpi"
    # After an action of the root alone: the time that ranks wait for the one with their name.
    same_name_within_s = 600.0

    def __init__(self, communicator: Any = None) -> None:
        self._mpi = load("mpi4py.MPI", "engine='mpi'", EngineError)
        world = self._mpi.COMM_WORLD if communicator is None else communicator
        # Steps may run on a framework's threads, everything else on the program's: each has its
        # own communicator, so that their messages cannot mix.
        self._host, self._graph = world.Dup(), world.Dup()
        # For `meet_again`, when a rank has left a collective in which other ranks wait.
        self._spare = world.Dup()
        self._abandoned: list[Any] = []
        node = world.Split_type(self._mpi.COMM_TYPE_SHARED, world.rank)
        self.rank, self.size = world.rank, world.size
        self.local_rank, self.local_size = node.rank, node.size
        node.Free()
        of_job = self._mpi.COMM_WORLD.group
        self.job_ranks = tuple(world.group.Translate_ranks(None, of_job))
        # The number of collectives begun by the program: a logical clock, equal on all ranks.
        self._clock = 0
        self._sent: list[Any] = []
        self._acts_as_root = False
        self._half_sum: Any = None

    def _reduce(self, array: NDArray[Any], op: str) -> NDArray[Any]:
        with self._met(self._host, f"allreduce {op} of {array.dtype} {array.shape}"):
            return self._allreduce(self._host, array, op)

    def allgather(self, x: ArrayLike) -> NDArray[Any]:
        array = np.ascontiguousarray(x)
        array = array.reshape(np.shape(x))
        gathered = np.empty((self.size, *array.shape), array.dtype)
        with self._met(self._host, f"allgather of {array.dtype} {array.shape}"):
            self._host.Allgather(_bytes(array), _bytes(gathered))
        return gathered

    def gather_objects(self, item: Any) -> list[Any]:
        packed, problem = self._packed(item)
        with self._met(self._host, "gather of objects", problem):
            gathered = self._host.allgather(packed)
        return [self._mpi.pickle.loads(each) for each in gathered]

    def gather_to_root(self, item: Any) -> list[Any] | None:
        packed, problem = self._packed(item)
        with self._met(self._host, "gather of objects to the root", problem):
            gathered = self._host.gather(packed)
        return [self._mpi.pickle.loads(each) for each in gathered] if self.is_root else None

    def scatter(self, items: Sequence[Any] | None) -> Any:
        parts: list[bytes] | None = None
        problem = ""
        if self.is_root:
            packed = [self._packed(each) for each in items or ()]
            parts = [each for each, _ in packed]
            problem = next((each for _, each in packed if each), "")
            if len(packed) != self.size:
                problem = f"scatter got {len(packed)} objects, expected {self.size}, one for a rank"
        with self._met(self._host, "scatter of objects", problem):
            own = self._host.scatter(parts)
        return self._mpi.pickle.loads(own)

    def broadcast(self, item: Any, root: int = 0) -> Any:
        if not 0 <= root < self.size:
            raise EngineError(
                f"broadcast got root={root}, expected a rank from 0 to {self.size - 1}."
            )
        packed: bytes | bytearray
        packed, problem = self._packed(item) if self.rank == root else (b"", "")
        with self._met(self._host, f"broadcast from rank {root}", problem):
            size_bytes = np.array([len(packed)], np.int64)
            self._host.Bcast(size_bytes, root)
            packed = packed if self.rank == root else bytearray(int(size_bytes[0]))
            self._host.Bcast([packed, self._mpi.BYTE], root)
        return item if self.rank == root else self._mpi.pickle.loads(packed)

    def barrier(self) -> None:
        with self._met(self._host, "barrier"):
            pass

    def split(self, color: int, key: int | None = None) -> Engine:
        if color < 0:
            raise EngineError(f"split got color={color}, expected 0 or more.")
        with self._met(self._host, "split"):
            group = self._host.Split(color, self.rank if key is None else key)
            try:
                engine = MpiEngine(group)
            finally:
                group.Free()
        engine.observers = self.observers
        return engine

    def meet_again(self, problem: str) -> list[str]:
        peers = [rank for rank in range(self.size) if rank != self.rank]
        sent = [self._spare.isend(problem, rank, _FAILED) for rank in peers if problem]
        with self.reported("meeting after work that may have failed"):
            gathered = self._spare.allgather((problem, self._clock))
            problems = [each for each, _ in gathered]
            self._clock = max(clock for _, clock in gathered)
            for rank in peers:
                if problems[rank]:
                    self._spare.recv(source=rank, tag=_FAILED)
            self._mpi.Request.waitall(sent)
            if any(problems):
                # The old communicators have a collective that will never complete.
                self._host, self._graph = self._spare.Dup(), self._spare.Dup()
        return problems

    def after_root(self, action: Callable[[], Any], what: str) -> Any:
        if not self.is_root:
            with self.reported(f"{what} of the root", ranks=self.job_ranks[:1]):
                problem = self._problem_of_root(what)
            if problem:
                raise EngineError(f"{what} failed on the root: {problem}")
            return None
        if self._acts_as_root:  # nested in an action, for whose end the other ranks wait
            return action()
        problem, self._acts_as_root = None, True
        try:
            return action()
        except BaseException as cause:
            problem = f"{type(cause).__name__}: {cause}"
            raise
        finally:
            self._acts_as_root = False
            message = (self._clock, what, problem)
            self._sent = [request for request in self._sent if not request.Test()]
            self._sent += [
                self._host.isend(message, rank, _ROOT_DONE) for rank in range(1, self.size)
            ]

    def _problem_of_root(self, what: str) -> str | None:
        """Wait for the root's action of this name, and skip actions that the root did alone.

        All ranks begin the same collectives in the same order. So a message that the root sent
        before the last collective belongs to an action that no other rank has called; and so do
        messages before that of our action.
        """
        passed_over, deadline_s = "", math.inf

        def has_come() -> bool:
            if self._host.iprobe(source=0, tag=_ROOT_DONE):
                return True
            if time.monotonic() > deadline_s:
                raise EngineError(
                    f"rank {self.rank} waits for the root's {what!r}, and the root has done "
                    f"{passed_over!r}. Give all ranks the same name; the root alone writes it."
                )
            return False

        while True:
            self._wait_until(has_come)
            clock, done, problem = self._host.recv(source=0, tag=_ROOT_DONE)
            if (clock, done) == (self._clock, what):
                return problem  # type: ignore[no-any-return]
            if clock == self._clock:  # an action of the root alone, or its name differs here
                passed_over, deadline_s = done, time.monotonic() + self.same_name_within_s

    def sum_in_step(self, array: NDArray[Any], name: str) -> NDArray[Any]:
        with self._met(self._graph, f"sum of {name}: {array.dtype} {array.shape}"):
            return self._allreduce(self._graph, array, "sum")

    def concat_in_step(self, arrays: Sequence[NDArray[Any]], name: str) -> list[NDArray[Any]]:
        rows = ", ".join(f"{array.dtype} {array.shape[1:]}" for array in arrays)
        with self._met(self._graph, f"concatenation of {name}: {rows}"):
            return [self._allgatherv(array) for array in arrays]

    def stop(self) -> None:
        for request in self._sent:
            request.Test()
        for communicator in (self._host, self._graph, self._spare):
            communicator.Free()

    def _packed(self, item: Any) -> tuple[bytes, str]:
        """Pickle an object before the handshake, and return what prevents it.

        Within the collective an exception of one rank would leave the other ranks in it.
        """
        try:
            return self._mpi.pickle.dumps(item), ""
        except Exception as problem:  # whatever the object's class raises
            return b"", f"{type(item).__name__} cannot be pickled ({describe(problem)})"

    @contextmanager
    def _met(self, communicator: Any, what: str, problem: str = "") -> Iterator[None]:
        """Enter a collective after a handshake of all ranks.

        Args:
            communicator: of the collective.
            what: the collective's name.
            problem: why this rank cannot take part, then all ranks raise; empty when it can.
        """
        with self.reported(what):
            self._meet(communicator, what, problem)
            yield

    def _meet(self, communicator: Any, what: str, problem: str) -> None:
        if communicator is self._host:
            self._clock += 1
        mark = zlib.crc32(what.encode())
        lowest = np.array([mark, -mark, -bool(problem)], np.int64)
        self._wait(communicator.Iallreduce(self._mpi.IN_PLACE, lowest, self._mpi.MIN))
        if lowest[0] == -lowest[1]:
            if lowest[2] < 0:
                problems = enumerate(communicator.allgather(problem))
                listed = "\n".join(f"rank {rank}: {each}" for rank, each in problems if each)
                raise EngineError(f"The {what} is not possible:\n{listed}")
            return
        came = communicator.allgather((what, call_site()))
        listed = "\n".join(
            f"  rank {rank}: {each}" + (f", at {site}" if site else "")
            for rank, (each, site) in enumerate(came)
        )
        raise EngineError(
            f"The ranks are at different places of the program:\n{listed}\n"
            "Every rank must call the same collectives in the same order. Where these are "
            "different lines of a script, only some ranks run one of them, as in `if "
            "candle.is_root(): model.fit(...)`; where they are the same line, the ranks' data or "
            "options differ, or keras_candle has a bug: please report it with this message."
        )

    def _allreduce(self, communicator: Any, array: NDArray[Any], op: str) -> NDArray[Any]:
        """Combine an array, after a handshake: all ranks are here, and MPI need not be polled."""
        array = np.ascontiguousarray(array).reshape(array.shape)
        result = np.empty_like(array)
        if op == "sum" and self._by_ring(array):
            np.copyto(result, array)
            self._sum_by_ring(communicator, result.reshape(-1))
        elif array.dtype == np.float16:
            # MPI has no 16-bit floats. They are sent as two-byte integers, so that MPI splits a
            # message between two numbers and not in the middle of one.
            halves = [array.reshape(-1).view(np.uint16), result.reshape(-1).view(np.uint16)]
            communicator.Allreduce(*halves, self._half_operation(op))
        else:
            communicator.Allreduce(array, result, getattr(self._mpi, op.upper()))
        return result

    def _by_ring(self, array: NDArray[Any]) -> bool:
        """Whether a ring is faster than MPI's own sum; alike on all ranks.

        In a ring each rank sends 2 (N - 1) / N of the array, the least that is possible. MPI does
        so too where N is a power of two. Elsewhere MPICH sends the whole array twice more, and with
        an operation of our own, as for 16-bit floats, once for each doubling of the ranks. A ring
        has 2 (N - 1) messages one after another, which small arrays would wait for.
        """
        is_power_of_two = self.size & (self.size - 1) == 0
        if self.size < 3 or (is_power_of_two and array.dtype != np.float16):
            return False
        return array.nbytes >= self.size * _RING_FROM_BYTES

    def _sum_by_ring(self, communicator: Any, whole: NDArray[Any]) -> None:
        """Sum a flat array over the ranks in place, with the same bits on all of them.

        Source: Patarasu, Yuan (2009), Bandwidth optimal all-reduce algorithms for clusters of
        workstations.
        """
        bounds = [len(whole) * rank // self.size for rank in range(self.size + 1)]
        parts = [whole[begin:end] for begin, end in itertools.pairwise(bounds)]
        received = np.empty(max(map(len, parts)), whole.dtype)
        following, preceding = (self.rank + 1) % self.size, (self.rank - 1) % self.size

        def pass_on(sent: NDArray[Any], into: NDArray[Any]) -> None:
            communicator.Sendrecv(_bytes(sent), following, _PART, _bytes(into), preceding, _PART)

        for step in range(self.size - 1):  # then this rank has the sum of the following part
            sent, summed = (parts[(self.rank - step - i) % self.size] for i in (0, 1))
            pass_on(sent, received[: len(summed)])
            np.add(summed, received[: len(summed)], out=summed)
        for step in range(self.size - 1):
            sent, into = (parts[(self.rank - step + i) % self.size] for i in (1, 0))
            pass_on(sent, into)

    def _wait(self, request: Any) -> None:
        """Wait for a collective, and yield the core to whatever needs it meanwhile.

        MPI would poll without a pause, on a core that another thread of this rank may need before
        it can take part. A long wait is for a rank that compiles, evaluates or writes, and where
        ranks share cores that rank may need this one.
        """
        try:
            self._wait_until(request.Test)
        except EngineError:
            self._abandoned.append(request)  # MPI may still write into its arrays
            raise

    def _wait_until(self, has_come: Callable[[], bool]) -> None:
        begun_s = time.monotonic()
        has_shown = False
        while not has_come():
            waited_s = time.monotonic() - begun_s
            if waited_s < _POLLS_FOR_S:
                os.sched_yield()
                continue
            if not has_shown:
                has_shown = True
                self._show_call_site()
            status = self._mpi.Status()
            if self._spare.iprobe(tag=_FAILED, status=status):
                raise EngineError(
                    f"rank {status.Get_source()} has failed while rank {self.rank} waited for it"
                )
            time.sleep(min(max(_NAP_OF_WAIT * waited_s, _SHORTEST_NAP_S), _LONGEST_NAP_S))

    def _show_call_site(self) -> None:
        if self.observers:
            site = call_site()
            for each in self.observers:
                each.waits(site)

    def _half_operation(self, op: str) -> Any:
        if op == "sum":
            self._half_sum = self._half_sum or self._mpi.Op.Create(_add_halves, commute=True)
            return self._half_sum
        raise EngineError(f"allreduce got op={op!r} and float16; convert the array to float32.")

    def _allgatherv(self, array: NDArray[Any]) -> NDArray[Any]:
        array = np.ascontiguousarray(array)
        row_bytes = int(np.prod(array.shape[1:], dtype=np.int64)) * array.itemsize
        rows = np.empty(self.size, np.int64)
        self._graph.Allgather(np.array([len(array)], np.int64), rows)
        whole = np.empty((int(rows.sum()), *array.shape[1:]), array.dtype)
        self._graph.Allgatherv(_bytes(array), [_bytes(whole), rows * row_bytes])
        return whole


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    return array.reshape(-1).view(np.uint8)


def _add_halves(left: Any, right: Any, _: Any) -> None:
    into = np.frombuffer(right, np.float16)
    np.add(np.frombuffer(left, np.float16), into, out=into)
