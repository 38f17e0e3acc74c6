"""A rank's heartbeat: its progress in a few bytes of memory shared with its watcher."""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass

# In the order in which a rank reaches them: a step's callbacks run before it counts as done.
BETWEEN_STEPS, IN_STEP, IN_CALLBACKS, IN_EVALUATION, AT_EPOCH_END = range(5)

_PROGRESS = struct.Struct("<QqqB")
_COLLECTIVE = struct.Struct("<QBB160s")
_GRAPH = struct.Struct("<B160s")
_COLLECTIVE_AT = 32
_GRAPH_AT = 256
_SIZE = 512


@dataclass
class Heartbeat:
    """A rank's progress as read from its board.

    Attributes:
        beats: increases with every sign of progress.
        epoch: current epoch, from 0.
        step: number of steps of the run that are done.
        place: where the rank is, one of this module's constants.
        collectives: number of collectives begun outside of TensorFlow's graph.
        collective: the last of them.
        in_collective: whether the rank is still in it.
        in_graph: collectives that each step runs inside of the graph, which are not counted.
    """

    beats: int
    epoch: int
    step: int
    place: int
    collectives: int
    collective: str
    in_collective: bool
    in_graph: str


class HeartbeatBoard:
    """The shared memory of one rank and its watcher.

    Args:
        descriptor: of a board's file; None makes a new one.

    Attributes:
        descriptor: of the file, which has no name.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        if descriptor is None:
            with tempfile.TemporaryFile() as file:
                file.truncate(_SIZE)
                descriptor = os.dup(file.fileno())
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _SIZE)
        self._beats = self._collectives = 0
        self._begun: list[str] = []
        # TensorFlow's threads call collectives too.
        self._lock = threading.Lock()
        self._graph: list[str] = []

    def beat(self, epoch: int, step: int, place: int) -> None:
        """Show where the rank is."""
        self._beats += 1
        _PROGRESS.pack_into(self._memory, 0, self._beats, epoch, step, place)

    def begin_collective(self, what: str, ranks: Sequence[int] = ()) -> None:  # noqa: ARG002
        """Show which collective the rank has begun."""
        with self._lock:
            self._collectives += 1
            self._begun.append(what)
            self._show_collective(what)

    def waits(self, call_site: str) -> None:
        """Ignore where the rank waits: its stacks show it."""

    def end_collective(self) -> None:
        """Show that the last collective has ended."""
        with self._lock:
            self._show_collective(self._begun.pop())

    def _show_collective(self, what: str) -> None:
        text = what.encode()[:160]
        _COLLECTIVE.pack_into(
            self._memory, _COLLECTIVE_AT, self._collectives, bool(self._begun), len(text), text
        )

    def add_to_graph(self, what: str) -> None:
        """Show a collective that each step will run."""
        if what not in self._graph:
            self._graph.append(what)
            text = ", ".join(self._graph).encode()[:160]
            _GRAPH.pack_into(self._memory, _GRAPH_AT, len(text), text)

    def read(self) -> Heartbeat:
        """Read the rank's progress."""
        beats, epoch, step, place = _PROGRESS.unpack_from(self._memory, 0)
        collectives, within, length, text = _COLLECTIVE.unpack_from(self._memory, _COLLECTIVE_AT)
        graph_length, graph = _GRAPH.unpack_from(self._memory, _GRAPH_AT)
        collective = text[:length].decode(errors="replace")
        in_graph = graph[:graph_length].decode(errors="replace")
        return Heartbeat(beats, epoch, step, place, collectives, collective, bool(within), in_graph)

    def close(self) -> None:
        """Release the memory."""
        self._memory.close()
        os.close(self.descriptor)
