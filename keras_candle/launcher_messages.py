"""Variables and messages by which `candle run` and the training that it starts communicate.

The messages go into the training's stderr, the one channel that every launcher forwards from every
node; `candle run` removes them from it.
"""

from __future__ import annotations

import array
import base64
import contextlib
import dataclasses
import fcntl
import json
import os
import re
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from keras_candle.errors import LaunchError

# Environment variables that `candle run` sets: the launcher of the ranks; whether to report
# checkpoints; the number of restarts; the job's start in seconds since the epoch; modules whose
# prepare() each rank calls before the program begins; of --auto, the ranks' seed and the start of
# the ranks.
LAUNCHER = "KERAS_CANDLE_LAUNCHER"
# Its value under the mpiexec of MPICH, and of Intel's MPI.
HYDRA = "hydra"
NOTIFY_CHECKPOINTS = "KERAS_CANDLE_TELL_SAVED"
RESTARTS = "KERAS_CANDLE_RESTARTS"
STARTED_S = "KERAS_CANDLE_JOB_STARTED_S"
PREPARE = "KERAS_CANDLE_PREPARE"
AUTO_SEED = "KERAS_CANDLE_AUTO_SEED"
AUTO_STARTED_S = "KERAS_CANDLE_AUTO_STARTED_S"
# Whether all ranks' output is shown; root's streams that are a terminal; root's standard input;
# how long ranks wait for one whose program has ended before the job fails.
ALL_OUTPUT = "KERAS_CANDLE_ALL_OUTPUT"
TERMINALS = "KERAS_CANDLE_TERMINALS"
STDIN = "KERAS_CANDLE_STDIN"
LEFT_S = "KERAS_CANDLE_LEFT_S"
# How long nothing may be heard of a node before the watchdog ends the job; a user may set both.
LOST_S = "KERAS_CANDLE_LOST_S"
# Set by the script of a submitted job: the job's folder, and i/N in element i of an array of N.
JOB = "KERAS_CANDLE_JOB"
ELEMENT = "KERAS_CANDLE_ELEMENT"
# The engine where the program has "auto"; a JSON object of arguments that override those of
# @candle.scalable on several ranks. A user may set both, too.
ENGINE = "KERAS_CANDLE_ENGINE"
OPTIONS = "KERAS_CANDLE_OPTIONS"
# Of `candle verify`, `candle verify-resume` and `candle audit-precision` (the file of its result),
# for `prepare()`.
VERIFY = "KERAS_CANDLE_VERIFY"
VERIFY_RESUME = "KERAS_CANDLE_VERIFY_RESUME"
AUDIT_PRECISION = "KERAS_CANDLE_AUDIT_PRECISION"
# Two of the same stop signal within this time count as one: Slurm's scancel sends SIGTERM to the
# step and to the job's script, whose `candle run` passes it on to the same ranks.
SAME_SIGNAL_S = 2.0
START = b"\x1ecandle "
END = b"\x1e\n"
SAVED = re.compile(rb"\x1ecandle saved (\d+)\x1e\n")
# How the collective of an engine's start is called, while MPI waits for all ranks.
ENGINE_STARTS = "start of the"
# Kinds of message: a rank's state; why the watchdog ends the job; the run directory that a training
# has just saved, before it ends.
RANK, STALL, STOP = "rank", "stall", "stop"
MESSAGE = re.compile(rb"\x1ecandle (rank|stall|stop) ([A-Za-z0-9+/=]*)\x1e\n")

# A longer message travels in parts: srun breaks the output of a rank after 1024 bytes, and there
# the output of another one may come between.
_LONGEST_BYTES, _PART_BYTES = 900, 800
_PART = re.compile(rb"\x1ecandle part ([0-9a-f]+) (\d+) (\d+) ([^\x1e]*)\x1e\n")


class Parts:
    """Put the parts of long messages together again."""

    def __init__(self) -> None:
        self._received: dict[bytes, dict[int, bytes]] = {}

    def join(self, data: bytes) -> bytes:
        """Return the stream with each message whole where its last part was.

        Args:
            data: bytes that end with no unfinished part.
        """
        return _PART.sub(self._take, data)

    def _take(self, match: re.Match[bytes]) -> bytes:
        name, number, count, content = match.groups()
        received = self._received.setdefault(name, {})
        received[int(number)] = content
        if len(received) < int(count):
            return b""
        del self._received[name]
        return START + b"".join(received[each] for each in sorted(received)) + END


def _in_parts(data: bytes) -> list[bytes]:
    if len(data) <= _LONGEST_BYTES or not (data.startswith(START) and data.endswith(END)):
        return [data]
    content = data[len(START) : -len(END)]
    pieces = [content[at : at + _PART_BYTES] for at in range(0, len(content), _PART_BYTES)]
    name = f"{os.getpid():x}{time.time_ns():x}"
    return [
        START + f"part {name} {number} {len(pieces)} ".encode() + piece + END
        for number, piece in enumerate(pieces)
    ]


def message(kind: str, **content: Any) -> bytes:
    """Encode a message inside a byte stream.

    Args:
        kind: `RANK` or `STALL`.
        **content: JSON values.
    """
    encoded = base64.b64encode(json.dumps(content).encode())
    return START + kind.encode() + b" " + encoded + END


def content_of(encoded: bytes) -> dict[str, Any]:
    """Decode the content of a `message`.

    Raises:
        ValueError: the bytes are damaged.
    """
    content = json.loads(base64.b64decode(encoded, validate=True))
    if not isinstance(content, dict):
        raise ValueError(f"expected a message, received {content!r}")
    return content


def notify_checkpoint(step: int) -> None:
    """Report a checkpoint that is on disk, if `candle run` asks for it.

    Args:
        step: step of the run at the checkpoint.
    """
    if os.environ.get(NOTIFY_CHECKPOINTS):
        os.write(2, START + f"saved {step}".encode() + END)


def notify_stop(run_directory: str, fit: int, step: int) -> None:
    """Report to `candle run` that a training has saved and ends, so that it measures the end.

    Args:
        run_directory: of the training; the measured time is written into its journal.
        fit: number of the fit in it.
        step: of the checkpoint.
    """
    if LAUNCHER in os.environ:
        os.write(2, message(STOP, run_directory=run_directory, fit=fit, step=step))


def write_through(pipe: int, data: bytes) -> None:
    """Write, and wait up to a second until the reader has read everything.

    hydra discards unread data in the pipe when a rank ends the job.

    Args:
        pipe: a descriptor; if it is not a pipe, there is no wait.
        data: the bytes to write; a long message in parts.
    """
    for part in _in_parts(data):
        _write_part(pipe, part)


def _write_part(pipe: int, data: bytes) -> None:
    while data:
        data = data[os.write(pipe, data) :]
    unread = array.array("i", [1])
    deadline_s = time.monotonic() + 1
    with contextlib.suppress(OSError):
        while unread[0] and time.monotonic() < deadline_s:
            fcntl.ioctl(pipe, termios.FIONREAD, unread)
            time.sleep(0.002)


def seconds_of(environment: Mapping[str, str], name: str, default: str) -> float:
    """Return the value of a variable that is a number of seconds.

    Args:
        environment: the variables to read.
        name: one of this module's names.
        default: its value where it is not set.

    Raises:
        LaunchError: the value is not a number of seconds above 0.
    """
    text = environment.get(name, default)
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text) or not float(text):
        raise LaunchError(f"{name}={text!r}, expected a number of seconds above 0")
    return float(text)


def restarts() -> int:
    """Return how often `candle run --max-restarts` has restarted this job."""
    return int(os.environ.get(RESTARTS, "0"))


def array_element(environ: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Return this job's element of its array and the number of elements: (0, 1) outside of one.

    Raises:
        LaunchError: the variable has another form.

    Example:
        >>> array_element({"KERAS_CANDLE_ELEMENT": "2/6"})
        (2, 6)
    """
    given = environ.get(ELEMENT, "0/1")
    match = re.fullmatch(r"(\d+)/(\d+)", given)
    if match is None or int(match[1]) >= int(match[2]):
        raise LaunchError(
            f"{ELEMENT} is {given!r}, expected the element and the number of elements, such as 0/6 "
            "to 5/6. The script of `candle submit` sets it; unset it elsewhere"
        )
    return int(match[1]), int(match[2])


class CollectiveObserver(Protocol):
    """An observer of this rank's collectives; see `keras_candle.engine.base`."""

    def begin_collective(self, what: str, ranks: Sequence[int]) -> None:
        """A collective begins. `ranks`: those it waits for; empty where it waits for all."""

    def waits(self, call_site: str) -> None:
        """The current collective waits for ranks at `call_site`."""

    def end_collective(self) -> None:
        """The current collective has ended, or failed."""


# Observers that report to the rank's supervisor.
observers: list[CollectiveObserver] = []
# Set by the supervisor's side: called with whether the job can continue without this rank.
on_independent: Callable[[bool], None] | None = None


def is_supervised() -> bool:
    """Return whether a supervisor watches this rank and ends the job when it fails."""
    return on_independent is not None


@dataclasses.dataclass
class Work:
    """The work of this program that its death would lose now.

    Attributes:
        is_unsaved: whether there is any: a training is under way, or one that nothing saves has
            begun.
        has_saved: whether a training has saved all because it was asked to stop.
        on_change: set by the supervisor's side; called after each change.
    """

    is_unsaved: bool = False
    has_saved: bool = False
    on_change: Callable[[], None] = lambda: None
    _is_unsaved_for_good: bool = False

    def begin(self, *, can_resume: bool) -> None:
        """Record that a training begins.

        Args:
            can_resume: whether a CandleCallback saves it, and `end` is called.
        """
        if not self.is_unsaved:
            self._is_unsaved_for_good = not can_resume
            self.is_unsaved = True
            self.on_change()

    def end(self, *, to_run_again: bool = False) -> None:
        """Record that all of a training is saved.

        Args:
            to_run_again: whether the program ends now, since it was asked to stop.
        """
        self.is_unsaved, self.has_saved = self._is_unsaved_for_good, to_run_again
        self.on_change()


work = Work()


@contextlib.contextmanager
def independent() -> Iterator[None]:
    """Mark this rank as independent: the job continues if it dies, as no rank waits for it."""
    if on_independent is not None:
        on_independent(True)
    try:
        yield
    finally:
        if on_independent is not None:
            on_independent(False)
