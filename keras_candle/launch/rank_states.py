"""Track which ranks have left a job, and which ranks wait for one that has left."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

from keras_candle.launch.failure import Failure

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
    """

    def __init__(
        self, size: int, waited_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._size, self._waited_s, self._clock = size, waited_s, clock
        self._ended: dict[int, _Ended] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._gone: set[int] = set()
        self._finalizing: set[int] = set()
        self._someone_left_mpi = False
        self._updated_s = self._clock()

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

    def update(self, state: Mapping[str, Any]) -> None:
        """Record a supervisor's message.

        Args:
            state: its content, of the kind `keras_candle.launcher_messages.RANK`.
        """
        rank, kind, now_s = int(state["rank"]), state["state"], self._clock()
        self._updated_s = now_s
        if kind == "ended":
            self._ended[rank] = _Ended(state["host"], state["code"], now_s)
            self._someone_left_mpi |= bool(state.get("suddenly"))
        elif kind == "finalizes":
            self._finalizing.add(rank)
        elif kind == "gone":
            self._gone.add(rank)
        elif kind == "waits":
            ranks = tuple(state["ranks"]) or tuple(range(self._size))
            self._waiting[rank] = _Waiting(state["what"], state["site"], ranks, now_s)
        if kind in ("goes on", "gone", "ended"):
            self._waiting.pop(rank, None)

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

    def cause_of(self, failure: Failure) -> str:
        """Describe the rank whose leaving caused a failure; return "" where none did.

        Args:
            failure: of a rank.
        """
        text = failure.reason + failure.traceback + failure.output
        if not (self._ended and lost_peer(text)):
            return ""
        left, ended = min(self._ended.items(), key=lambda each: each[1].at_s)
        return self._left(left, ended, "was in a training step", failure.rank)

    def _left(self, left: int, ended: _Ended, why: str, rank: int) -> str:
        return (
            f"rank {left} (of {self._size}, host {ended.host}) has left the job: its program ended "
            f"with code {ended.code} while rank {rank} {why}. All ranks must take part in every "
            "collective"
        )
