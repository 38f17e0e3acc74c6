"""The engine interface: this process's rank, and the collectives between the ranks."""

from __future__ import annotations

import sys
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_candle.errors import CandleError, EngineError
from keras_candle.launcher_messages import CollectiveObserver

OPERATIONS = ("sum", "mean", "min", "max")


def _ignore(_: str) -> None:
    pass


def describe(problem: Exception) -> str:
    """Return the class and the text of an exception."""
    try:
        text = str(problem)
    except Exception as caught:  # whatever a user's class raises there
        text = f"(its message raises {type(caught).__name__})"
    return f"{type(problem).__name__}: {text}"


def _describe(problem: Exception, error: type[CandleError]) -> tuple[type[CandleError], str]:
    """An exception as its class and text, which can be sent: many exceptions do not pickle."""
    if isinstance(problem, CandleError):
        return type(problem), str(problem)
    return error, describe(problem)


def _attempt(
    work: Callable[[], Any], error: type[CandleError]
) -> tuple[Any, tuple[type[CandleError], str] | None, Exception | None]:
    """Return the result of `work`, or None with its exception: as `_describe` does, and itself."""
    try:
        return work(), None, None
    except Exception as caught:
        return None, _describe(caught, error), caught


class WaitTimer(Protocol):
    """Measures the time that a step's tensors spend in collectives."""

    def around(
        self, exchange: Callable[[Sequence[Any]], list[Any]], tensors: Sequence[Any]
    ) -> list[Any]:
        """Return exchange(tensors), and record how long it takes."""


class Engine(ABC):
    """The ranks that train together, and the collectives between them.

    Every rank must call the same collectives in the same order. An engine detects when they do
    not, and raises `EngineError` on all of them.

    Attributes:
        name: "single", "mpi" or "horovod".
        rank: this process's number, from 0 to size - 1. Rank 0 is the root.
        size: the number of ranks.
        local_rank: this process's number among the ranks of its node.
        local_size: the number of ranks on its node.
    """

    name: ClassVar[str]
    rank: int
    size: int
    local_rank: int
    local_size: int
    # The ranks of the job that this engine connects.
    job_ranks: Sequence[int] = ()
    observers: tuple[CollectiveObserver, ...] = ()
    # Called with the name of each collective that a step's graph holds.
    on_graph_collective: Callable[[str], Any] = staticmethod(_ignore)
    # Measures the collectives of a step's tensors.
    stopwatch: WaitTimer | None = None

    @property
    def is_root(self) -> bool:
        """Whether this is rank 0, which alone writes files and talks to trackers."""
        return self.rank == 0

    @contextmanager
    def reported(self, what: str, ranks: Sequence[int] | None = None) -> Iterator[None]:
        """Report a collective to the observers; `ranks`: the ranks it waits for, None for all."""
        observers = self.observers
        for each in observers:
            each.begin_collective(what, self.job_ranks if ranks is None else ranks)
        try:
            yield
        finally:
            for each in observers:
                each.end_collective()

    # Collectives on NumPy arrays and Python objects.

    def allreduce(self, x: ArrayLike, op: str = "sum") -> NDArray[Any]:
        """Combine one array from each rank, element by element; every rank gets the result.

        Args:
            x: array of one shape and one numeric dtype on all ranks.
            op: "sum", "mean", "min" or "max". "mean" of integers is float64.

        Returns:
            An array of x's shape, with the same bits on every rank.

        Raises:
            EngineError: when op is unknown, or the ranks' calls differ.
        """
        array = np.asarray(x)
        if op not in OPERATIONS:
            raise EngineError(
                f"allreduce got op={op!r}, expected one of {', '.join(map(repr, OPERATIONS))}."
            )
        if array.dtype.kind not in "fiub":
            raise EngineError(
                f"allreduce got an array of dtype {array.dtype}, expected a numeric one. "
                "For Python objects use broadcast()."
            )
        if array.dtype.kind == "b":
            array = array.astype(np.int64)
        if op == "mean":
            array = array if array.dtype.kind == "f" else array.astype(np.float64)
            mean: NDArray[Any] = self._reduce(array, "sum") / array.dtype.type(self.size)
            return mean
        return self._reduce(array, op)

    @abstractmethod
    def _reduce(self, array: NDArray[Any], op: str) -> NDArray[Any]: ...

    @abstractmethod
    def allgather(self, x: ArrayLike) -> NDArray[Any]:
        """Collect one array from each rank; every rank gets all of them.

        Args:
            x: array of one shape and dtype on all ranks.

        Returns:
            An array of shape [size, *x.shape]; row r came from rank r.

        Raises:
            EngineError: when the ranks' shapes, dtypes or calls differ.
        """

    def differ(self, x: ArrayLike) -> NDArray[np.bool_]:
        """Return where an array of integers differs between the ranks, on every rank.

        Args:
            x: integers of one shape on all ranks, such as checksums.

        Returns:
            A boolean array of shape [elements of x].
        """
        own = np.asarray(x, np.int64).reshape(-1)
        # The maximum and, by its sign, the minimum in one collective.
        most, least = np.split(self.allreduce(np.concatenate([own, -own]), "max"), 2)
        return np.asarray(most != -least)

    @abstractmethod
    def gather_objects(self, item: Any) -> list[Any]:
        """Collect one picklable object from each rank; every rank gets the list, by rank.

        What only the root uses goes through `gather_to_root`: on N ranks N times less is sent.

        Raises:
            EngineError: on every rank, when an object cannot be pickled, or the calls differ.
        """

    @abstractmethod
    def gather_to_root(self, item: Any) -> list[Any] | None:
        """Collect one picklable object from each rank on the root.

        Returns:
            The objects by rank on the root, None on all other ranks.

        Raises:
            EngineError: on every rank, when an object cannot be pickled, or the calls differ.
        """

    @abstractmethod
    def scatter(self, items: Sequence[Any] | None) -> Any:
        """Send each rank its own picklable object from the root.

        Args:
            items: on the root, an object for each rank, by rank; ignored on all other ranks.

        Returns:
            This rank's object.

        Raises:
            EngineError: on every rank, when there are not as many objects as ranks, one cannot be
                pickled, or the calls differ.
        """

    @abstractmethod
    def broadcast(self, item: Any, root: int = 0) -> Any:
        """Send one rank's picklable object to all ranks.

        Args:
            item: on `root`, the object to send; ignored on all other ranks.
            root: the rank that sends.

        Returns:
            The object of `root`, on every rank.

        Raises:
            EngineError: on every rank, when it cannot be pickled, or the calls differ.
        """

    @abstractmethod
    def barrier(self) -> None:
        """Wait until every rank has called this."""

    @abstractmethod
    def split(self, color: int, key: int | None = None) -> Engine:
        """Split the ranks into groups: ranks with the same color get one engine.

        Args:
            color: the group that this rank joins, not negative.
            key: orders the ranks inside a group; by default they keep their order.

        Returns:
            The engine of this rank's group, with ranks counted from 0.
        """

    def meet_again(self, problem: str) -> list[str]:
        """Synchronize the ranks after work that may have failed on some of them.

        A rank may have failed while another one waits for it in a collective. The mpi engine ends
        that wait: the collective raises `EngineError`. Afterwards collectives work as before.

        Args:
            problem: the failure of this rank; empty when there was none.

        Returns:
            The problems by rank, on every rank.
        """
        return self.gather_objects(problem)

    @abstractmethod
    def after_root(self, action: Callable[[], Any], what: str) -> Any:
        """Run an action on the root alone; all remaining ranks wait until it is complete.

        The root never waits, so a script that calls this on the root alone
        (`if candle.is_root(): model.save(...)`) continues. The other ranks do not mistake such an
        action for a later one of the same name, if there was a collective between the two.

        Args:
            action: called on the root only.
            what: the name of the action; the other ranks wait for the root's action of that name.

        Returns:
            The action's return value on the root, None on all other ranks.

        Raises:
            EngineError: on the other ranks, when the action raised on the root.
        """

    def on_root(self, work: Callable[[], Any], error: type[CandleError] = EngineError) -> Any:
        """Run a function on the root; every rank returns its result, or raises.

        Args:
            work: called without arguments, on the root only; returns a picklable object.
            error: the class to raise for an exception that is not a `CandleError`.

        Returns:
            The result of `work`, on every rank.

        Raises:
            CandleError: on every rank, when `work` raised: the root's own error, or one of the
                class `error` with the root's exception as its cause.
        """
        result, problem, cause = _attempt(work, error) if self.is_root else (None, None, None)
        problem, result = self.broadcast((problem, result))
        if problem:
            kind, text = problem
            raise kind(text) from cause
        return result

    def gather_results(
        self, work: Callable[[], Any], error: type[CandleError] = EngineError
    ) -> list[Any]:
        """Run a function that may fail on each rank, and collect the results.

        Args:
            work: called without arguments; returns a picklable object.
            error: the class to raise for an exception that is not a `CandleError`.

        Returns:
            The results of `work` by rank.

        Raises:
            CandleError: on every rank, when `work` raised on some. The message names the ranks,
                unless all have the same problem.
        """
        result, problem, cause = _attempt(work, error)
        outcomes = self.gather_objects((problem, result))
        self._raise_first([each for each, _ in outcomes], cause)
        return [each for _, each in outcomes]

    def gather_results_to_root(
        self, work: Callable[[], Any], error: type[CandleError] = EngineError
    ) -> list[Any] | None:
        """Run a function that may fail on each rank, and collect the results on the root.

        Args:
            work: as in `gather_results`.
            error: as in `gather_results`.

        Returns:
            The results of `work` by rank on the root, None on all other ranks.

        Raises:
            CandleError: as in `gather_results`, on every rank.
        """
        result, problem, cause = _attempt(work, error)
        if self.allreduce(problem is not None, "max"):
            self._raise_first(self.gather_objects(problem), cause)
        return self.gather_to_root(result)

    def _raise_first(
        self, problems: Sequence[tuple[type[CandleError], str] | None], cause: Exception | None
    ) -> None:
        """Raise the first of the ranks' problems, with the texts of all; none: return."""
        failed = {rank: each for rank, each in enumerate(problems) if each}
        if not failed:
            return
        kind, text = next(iter(failed.values()))
        if len(failed) < self.size or len(set(failed.values())) > 1:
            text = "\n".join(f"rank {rank}: {each}" for rank, (_, each) in failed.items())
        raise kind(text) from cause

    def agree(self, what: str, value: Any, error: type[CandleError] = EngineError) -> Any:
        """Check that every rank holds the same value.

        Args:
            what: the name of the value, for the message.
            value: a picklable object; two values are equal when their repr is.
            error: the class of error to raise.

        Returns:
            The value.

        Raises:
            CandleError: of the class `error`, on every rank, listing every rank's value.
        """
        own = repr(value)
        if self.differ([zlib.crc32(own.encode())]).any():
            values = self.gather_objects(own)
            listed = "\n".join(f"  rank {rank}: {each}" for rank, each in enumerate(values))
            raise error(f"The ranks differ in {what}:\n{listed}")
        return value

    # Collectives of a training step, on NumPy arrays. A backend may call them from threads of its
    # framework, while the program is in another collective.

    @abstractmethod
    def sum_in_step(self, array: NDArray[Any], name: str) -> NDArray[Any]:
        """Sum an array of floating dtype over the ranks, in a training step.

        Args:
            array: of one shape and dtype on all ranks.
            name: identifies this collective: the same on all ranks, unique in one step.
        """

    @abstractmethod
    def concat_in_step(self, arrays: Sequence[NDArray[Any]], name: str) -> list[NDArray[Any]]:
        """Concatenate each array over the ranks, along axis 0 and by rank, in a training step.

        Args:
            arrays: of rank 1 or more; the first dimension may differ by rank.
            name: identifies this collective: the same on all ranks, unique in one step.
        """

    def print_on_root(self, message: str) -> None:
        """Print a message to stderr, on the root alone."""
        if self.is_root:
            print(f"keras_candle: {message}", file=sys.stderr)  # noqa: T201 - the one place

    def stop(self) -> None:  # noqa: B027 - most engines hold no resources
        """Release the engine's resources; it cannot be used afterwards."""
