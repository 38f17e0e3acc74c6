"""The state of each rank of a job: whether it waits in a collective, has left, or has ended."""

import dataclasses
import mmap
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_candle.launcher_messages import LEFT_S, seconds_of

_FLAGS = (
    "stop_asked",
    "reported",
    "end_job",
    "independent",
    "has_ended",
    "may_resume",
    "is_unsaved",
    "left_mpi",
)
# Of the collective: its number, when it began, how long its text is.
_HEADER = struct.Struct("<QdH")
_HEADER_AT, _TEXT_AT, _SIZE = 16, 64, 2048
_SEPARATOR = "\0"


@dataclasses.dataclass(frozen=True)
class Collective:
    """A collective that a rank is in.

    Attributes:
        number: counts this rank's collectives.
        begun_s: when it began, by `time.monotonic`.
        what: its name.
        ranks: ranks of the job that it waits for; empty where it waits for all.
        call_site: where the rank waits, "" where that is unknown.
    """

    number: int
    begun_s: float
    what: str
    ranks: tuple[int, ...]
    call_site: str


class Flag:
    """A descriptor that stores a boolean attribute in a byte of the memory."""

    def __set_name__(self, _: type, name: str) -> None:
        self._at = _FLAGS.index(name)

    def __get__(self, memory: "SharedMemory", _: type) -> bool:
        return bool(memory.page[self._at])

    def __set__(self, memory: "SharedMemory", value: bool) -> None:
        memory.page[self._at] = value


class SharedMemory:
    """The shared memory of one rank, made before the program's process is forked.

    Attributes:
        stop_asked: a stop signal has arrived.
        reported: the program's failure has been reported to the launcher.
        end_job: the job ends with this rank.
        independent: no other rank waits for this one.
        has_ended: the program has ended, and the job continues.
        may_resume: the program names CandleCallback.
        is_unsaved: the program's death would lose work, see `keras_candle.launcher_messages.Work`.
        left_mpi: the program has ended without MPI_Finalize.
    """

    stop_asked, reported, end_job, independent, has_ended = (Flag() for _ in range(5))
    may_resume, is_unsaved, left_mpi = (Flag() for _ in range(3))

    def __init__(self, size: int) -> None:
        self.page = mmap.mmap(-1, _SIZE)
        self._job_size = size
        self._number = 0
        self._begun: list[tuple[int, float, str, Sequence[int], str]] = []
        # TensorFlow's threads call collectives too.
        self._lock = threading.Lock()

    # The program's side: an observer of its collectives.

    def begin_collective(self, what: str, ranks: Sequence[int]) -> None:
        """See `keras_candle.launcher_messages.CollectiveObserver`."""
        waited_for = () if len(ranks) == self._job_size else ranks
        with self._lock:
            self._number += 1
            self._begun.append((self._number, time.monotonic(), what, waited_for, ""))
            self._show()

    def waits(self, call_site: str) -> None:
        """See `keras_candle.launcher_messages.CollectiveObserver`."""
        with self._lock:
            if self._begun:
                self._begun[-1] = (*self._begun[-1][:4], call_site)
                self._show()

    def end_collective(self) -> None:
        """See `keras_candle.launcher_messages.CollectiveObserver`."""
        with self._lock:
            self._begun.pop()
            self._show()

    def _show(self) -> None:
        text, number, begun_s = b"", 0, 0.0
        if self._begun:
            number, begun_s, what, ranks, site = self._begun[-1]
            listed = ",".join(map(str, ranks))
            parts = (what[:200], listed, site[:400])
            text = _SEPARATOR.join(parts).encode()[: _SIZE - _TEXT_AT]
        _HEADER.pack_into(self.page, _HEADER_AT, 0, 0.0, 0)
        self.page[_TEXT_AT : _TEXT_AT + len(text)] = text
        _HEADER.pack_into(self.page, _HEADER_AT, number, begun_s, len(text))

    # The supervisor's side.

    def collective(self) -> Collective | None:
        """Return the collective that the program is in, None where it is in none."""
        header = _HEADER.unpack_from(self.page, _HEADER_AT)
        number, begun_s, length = header
        text = self.page[_TEXT_AT : _TEXT_AT + length]
        if not number or header != _HEADER.unpack_from(self.page, _HEADER_AT):
            return None
        what, listed, site = (*text.decode(errors="replace").split(_SEPARATOR), "", "")[:3]
        ranks = tuple(int(each) for each in listed.split(",") if each.isdigit())
        return Collective(number, begun_s, what, ranks, site)


# Horovod's errors on a rank whose peer has ended in the middle of a step.
_PEER_ERRORS = (
    "Horovod has been shut down",
    "Connection closed by peer",
    "Connection reset",
    "Broken pipe",
)
_HOROVOD = "Horovod"


@dataclasses.dataclass(frozen=True)
class _Ended:
    host: str
    code: int
    at_s: float


@dataclasses.dataclass(frozen=True)
class _Waiting:
    what: str
    site: str
    ranks: tuple[int, ...]
    since_s: float


def lost_peer(text: str) -> bool:
    """Return whether Horovod's error means that it lost a peer in the middle of a step.

    Args:
        text: the error's text.
    """
    return _HOROVOD in text and any(each in text for each in _PEER_ERRORS)


class RankStates:
    """The state of each rank of a job, from its supervisor's messages.

    Args:
        size: ranks of the job.
        waited_s: how long a rank may wait for one that has left, from when both are known.
        clock: returns a time in seconds.

    Attributes:
        hosts: of the ranks that have begun.
    """

    def __init__(
        self, size: int, waited_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._size, self._waited_s, self._clock = size, waited_s, clock
        self.hosts: dict[int, str] = {}
        self._ended: dict[int, _Ended] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._gone: set[int] = set()
        self._finalizing: set[int] = set()
        self._someone_left_mpi = False
        self._fails_since_s: float | None = None
        self._updated_s = self._clock()
        self._stopped_early: set[int] = set()

    @property
    def all_gone(self) -> bool:
        """Whether each rank's program has ended and its supervisor is about to end."""
        return len(self._gone) == self._size

    @property
    def only_mpi_is_left(self) -> bool:
        """Whether all programs have ended and MPI_Finalize waits for one that left by os._exit."""
        all_ended = len(self._gone | self._finalizing) == self._size
        lasts = self._clock() - self._updated_s >= self._waited_s
        return all_ended and self._someone_left_mpi and lasts

    def has_failed(self, for_s: float) -> bool:
        """Return whether a rank has ended the job with its failure, and how long ago.

        Args:
            for_s: the least number of seconds since then.
        """
        since_s = self._fails_since_s
        return since_s is not None and self._clock() - since_s >= for_s

    def update(self, state: Mapping[str, Any]) -> None:
        """Record a supervisor's message.

        Args:
            state: its content, of the kind `keras_candle.launcher_messages.RANK`.
        """
        rank, kind, now_s = int(state["rank"]), state["state"], self._clock()
        self._updated_s = now_s
        if kind == "begins":
            self.hosts[rank] = state["host"]
        elif kind == "ended":
            self._ended[rank] = _Ended(state["host"], state["code"], now_s)
            self._someone_left_mpi |= bool(state.get("suddenly"))
            if state.get("early"):
                self._stopped_early.add(rank)
        elif kind == "finalizes":
            self._finalizing.add(rank)
        elif kind == "gone":
            self._gone.add(rank)
            if state.get("ends_job") and self._fails_since_s is None:
                self._fails_since_s = now_s
        elif kind == "waits":
            ranks = tuple(state["ranks"]) or tuple(range(self._size))
            self._waiting[rank] = _Waiting(state["what"], state["site"], ranks, now_s)
        if kind in ("goes on", "gone", "ended"):
            self._waiting.pop(rank, None)

    @property
    def stopped_early(self) -> bool:
        """Whether a stop signal has ended a rank when no training was under way."""
        return bool(self._stopped_early)

    def abandoned(self) -> str:
        """Describe a rank that has left while another waits for it; return "" where none has."""
        now_s = self._clock()
        for rank, waiting in sorted(self._waiting.items()):
            for left in waiting.ranks:
                ended = self._ended.get(left)
                if ended and now_s - max(ended.at_s, waiting.since_s) >= self._waited_s:
                    at = f", at {waiting.site}" if waiting.site else ""
                    return self._left(left, ended, f"waits for it: {waiting.what}{at}", rank)
        return ""

    def cause_of(self, text: str, rank: int) -> str:
        """Describe the rank whose leaving caused a failure; return "" where none did.

        Args:
            text: the failure's reason, traceback and output.
            rank: the rank that failed.
        """
        if not (self._ended and lost_peer(text)):
            return ""
        left, ended = min(self._ended.items(), key=lambda each: each[1].at_s)
        return self._left(left, ended, "was in a training step", rank)

    def _left(self, left: int, ended: _Ended, why: str, rank: int) -> str:
        return (
            f"rank {left} (of {self._size}, host {ended.host}) has left the job: its program ended "
            f"with code {ended.code} while rank {rank} {why}. All ranks must take part in every "
            "collective"
        )


def left_s(environment: Mapping[str, str]) -> float:
    """Return how long ranks wait for one that has left before the job fails, in seconds.

    Args:
        environment: the variables to read.

    Raises:
        LaunchError: the value is not a number of seconds above 0.
    """
    return seconds_of(environment, LEFT_S, "5")
