"""What a training tells the `candle run` that started it, in the root's stderr.

That is the one channel that every launcher carries home from every node; `candle run` takes the
messages out of it again.
"""

from __future__ import annotations

import array
import base64
import contextlib
import fcntl
import json
import os
import re
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

# `candle run` sets its own name, and the next where it wants to hear of checkpoints, the third to
# how often it has started the job again, the last to when it began: seconds since the epoch.
LAUNCHER = "KERAS_CANDLE_LAUNCHER"
NOTIFY_CHECKPOINTS = "KERAS_CANDLE_TELL_SAVED"
RESTARTS = "KERAS_CANDLE_RESTARTS"
STARTED_S = "KERAS_CANDLE_JOB_STARTED_S"
START = b"\x1ecandle "
END = b"\x1e\n"
SAVED = re.compile(rb"(?:\[\d+\] )?\x1ecandle saved (\d+)\x1e\n")
# Of a rank: where it is; of the watchdog: why it ends the job.
RANK, STALL = "rank", "stall"
MESSAGE = re.compile(rb"(?:\[\d+\] )?\x1ecandle (rank|stall) ([A-Za-z0-9+/=]*)\x1e\n")


def message(kind: str, **content: Any) -> bytes:
    """A message as bytes that survive between other bytes in a stream.

    Args:
        kind: `RANK` or `STALL`.
        **content: JSON values.
    """
    encoded = base64.b64encode(json.dumps(content).encode())
    return START + kind.encode() + b" " + encoded + END


def content_of(encoded: bytes) -> dict[str, Any]:
    """What `message` was given.

    Raises:
        ValueError: the bytes are damaged.
    """
    content = json.loads(base64.b64decode(encoded, validate=True))
    if not isinstance(content, dict):
        raise ValueError(f"expected a message, received {content!r}")
    return content


def notify_checkpoint(step: int) -> None:
    """Tell that a checkpoint is on the disk, where somebody wants to hear it.

    Args:
        step: of the run.
    """
    if os.environ.get(NOTIFY_CHECKPOINTS):
        os.write(2, START + f"saved {step}".encode() + END)


def write_through(pipe: int, data: bytes) -> None:
    """Write, and wait until the other end has read everything, or a second.

    hydra throws away what still lies in the pipe when a rank ends the job.

    Args:
        pipe: a descriptor; where it is no pipe, there is nobody to wait for.
        data: what to write.
    """
    while data:
        data = data[os.write(pipe, data) :]
    unread = array.array("i", [1])
    deadline_s = time.monotonic() + 1
    with contextlib.suppress(OSError):
        while unread[0] and time.monotonic() < deadline_s:
            fcntl.ioctl(pipe, termios.FIONREAD, unread)
            time.sleep(0.002)


def restarts() -> int:
    """How often `candle run --max-restarts` has started this job again."""
    return int(os.environ.get(RESTARTS, "0"))


class CollectiveObserver(Protocol):
    """Sees which collective this rank is in; see `keras_candle.engine.base`."""

    def begin_collective(self, what: str, ranks: Sequence[int]) -> None:
        """It begins. `ranks`: of the job that it waits for; none where it waits for all."""

    def waits(self, call_site: str) -> None:
        """It waits for others."""

    def end_collective(self) -> None:
        """It has ended, or failed."""


# The supervisor of a rank looks at it through these.
observers: list[CollectiveObserver] = []
# The supervisor of a rank puts a function here that hears whether the job may go on without it.
on_independent: Callable[[bool], None] | None = None


@contextlib.contextmanager
def independent() -> Iterator[None]:
    """While in it, this rank's sudden death does not end the job: no other rank waits for it."""
    if on_independent is not None:
        on_independent(True)
    try:
        yield
    finally:
        if on_independent is not None:
            on_independent(False)
