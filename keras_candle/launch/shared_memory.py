"""A page of memory shared by a rank's program and its supervisor."""

import dataclasses
import mmap
import struct
import threading
import time
from collections.abc import Sequence

_FLAGS = ("stop_asked", "reported", "end_job", "independent", "has_ended")
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
    """

    stop_asked, reported, end_job, independent, has_ended = (Flag() for _ in _FLAGS)

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
