"""Report a rank's failure to `candle run` through the rank's stderr, and the job's ending from it.

Stderr is the one channel that every launcher already forwards from every node.
"""

import base64
import binascii
import dataclasses
import errno
import json
import os
import re
import signal
import socket
import time
import zlib
from collections.abc import Sequence
from typing import Any

from keras_candle.errors import EXIT_RUN_AGAIN, EXIT_STALLED
from keras_candle.launch.rank_states import RankStates
from keras_candle.launcher_messages import (
    END,
    MESSAGE,
    SAVED,
    STALL,
    START,
    STOP,
    Parts,
    content_of,
)

# What launchers put before a line with --all-output, before a report too: "[1] " is hydra's, "1: "
# srun's, "[1,1]<stderr>:" Open MPI's.
_LABELS = rb"(?:\[\d+\] |\d+: |\[[^\]\s]*\]<\w+>: ?)"
_FRAME = re.compile(rb"\x1ecandle ([A-Za-z0-9+/=]*)\x1e\n")
_UNFINISHED = re.compile(rb"\x1ecandle [A-Za-z0-9+/= ]*\x1e?\Z")
_LABEL = re.compile(_LABELS + rb"\Z")
_LABELLED_START = re.compile(_LABELS + re.escape(START))
# A frame that was cut (its rank died while writing) must not delay what follows forever.
_LONGEST_FRAME_BYTES = 60_000
_LONGEST_TEXT_BYTES = 16_000
_LONGEST_BRIEF_REASON = 200


@dataclasses.dataclass(frozen=True)
class Failure:
    """The failure of one rank.

    Args:
        rank: the rank that failed.
        size: ranks in its job.
        host: the node's name.
        pid: the process that ran the user's program.
        time_s: when, in seconds since the epoch: the earliest failure is the cause of the rest.
        code: the exit code that the job should end with.
        reason: one line, for example "ValueError: no such column".
        signal: the signal that killed the rank, or 0.
        traceback: as Python prints it, without the frames of the bootstrap.
        output: the last lines of the rank's captured stdout and stderr.
        is_brief: an earlier failure of this node is reported in full.
        at_start: MPI itself ended the process while the engine started.
        is_early: the signal found nothing to save, and `code` asks for another start.
    """

    rank: int
    size: int
    host: str
    pid: int
    time_s: float
    code: int
    reason: str = ""
    signal: int = 0
    traceback: str = ""
    output: str = ""
    is_brief: bool = False
    at_start: bool = False
    is_early: bool = False

    def brief(self) -> "Failure":
        """Leave out traceback and output, as after the first failure of a node."""
        reason = self.reason[:_LONGEST_BRIEF_REASON]
        return dataclasses.replace(self, reason=reason, traceback="", output="", is_brief=True)

    @property
    def follows_an_exception(self) -> bool:
        """Whether another rank of the node has failed before, even if it was reported later.

        A killed rank may be reported after one that has lost its peer.
        """
        return self.is_brief and bool(self.reason)

    @property
    def is_exit_code_only(self) -> bool:
        """Whether the program chose an exit code and gave no reason."""
        return not (self.signal or self.reason or self.traceback)

    @property
    def asks_to_run_again(self) -> bool:
        """Whether the program has nothing unsaved and asks to be requeued."""
        return self.is_early or (self.is_exit_code_only and self.code == EXIT_RUN_AGAIN)

    def again(self) -> str:
        """Describe an end that asks to be requeued, without the signal that the job got."""
        if self.is_early:
            return (
                f"{signal_name(self.signal)} found no training under way: nothing is left to save, "
                f"to be run again ({self.code})"
            )
        return f"saved, to be run again ({self.code})"

    def frame(self) -> bytes:
        """Encode this failure as a message inside a byte stream."""
        short = dataclasses.replace(
            self,
            reason=_shorten(self.reason, 1000),
            traceback=_shorten(self.traceback, _LONGEST_TEXT_BYTES),
            output=self.output[-_LONGEST_TEXT_BYTES:],
        )
        text = json.dumps(dataclasses.asdict(short)).encode()
        return START + base64.b64encode(zlib.compress(text)) + END

    def text(self, last: str = "") -> str:
        """Format output, traceback and sentence, in this order.

        Args:
            last: replaces this failure's own sentence.
        """
        parts = []
        if self.output:
            parts.append(f"--- last output of rank {self.rank} ---\n{self.output}")
        if self.traceback:
            parts.append(self.traceback.rstrip("\n"))
        return "\n".join([*parts, f"candle: {last or self.sentence()}", ""])

    def sentence(self) -> str:
        """Describe the failure in one line."""
        who = f"rank {self.rank} (of {self.size}, host {self.host}"
        if self.signal:
            return f"{who}, pid {self.pid}) was killed by {signal_name(self.signal)}"
        if self.reason:
            return f"{who}) failed: {self.reason}"
        return f"{who}) exited with code {self.code}"


@dataclasses.dataclass(frozen=True)
class SavedRun:
    """A run that has been saved in order to end the job.

    Args:
        run_directory: its directory.
        fit: number of the fit in it, from 0.
        step: of the checkpoint.
        at_s: when the launcher learnt of it, by `time.monotonic`.
    """

    run_directory: str
    fit: int
    step: int
    at_s: float


def signal_name(number: int) -> str:
    """Return the signal's name, or its number where the system has no name for it."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _shorten(text: str, limit: int) -> str:
    """Keep both ends: a traceback's last lines have the error, its first lines the place."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n  [... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"


class FailureReader:
    """Extract messages from a byte stream and pass everything else on at once.

    Args:
        labelled: whether the launcher puts a label before each piece that a rank writes.

    Attributes:
        failures: of the ranks.
        saved_steps: steps of the checkpoints that the training has reported.
        states: of the ranks, as their supervisors reported them; the caller empties the list.
        saved: the runs that were saved in order to end.
        stall: why the watchdog has ended the job; "" where it has not.
    """

    def __init__(self, *, labelled: bool = False) -> None:
        self._labelled = labelled
        self._parts = Parts()
        self.states: list[dict[str, Any]] = []
        self.stall = ""
        self.failures: list[Failure] = []
        self.saved_steps: list[int] = []
        self.saved: list[SavedRun] = []
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return the part of the stream that is for the user.

        Args:
            data: the next bytes of the stream.

        Returns:
            What can be shown now. Only the beginning of a message is ever held back, so a
            progress bar without newlines stays live.
        """
        data = self._held + data
        if self._labelled:
            data = _LABELLED_START.sub(START, data)
        data = self._parts.join(data)
        data = SAVED.sub(self._take_saved, _FRAME.sub(self._take, data))
        data = MESSAGE.sub(self._take_message, data)
        unfinished = _UNFINISHED.search(data)
        start = unfinished.start() if unfinished else len(data) - _overlap(data, START)
        if self._labelled and (label := _LABEL.search(data[:start])):
            start = label.start()
        if len(data) - start > _LONGEST_FRAME_BYTES:
            start = len(data)
        self._held = data[start:]
        return data[:start]

    def close(self) -> bytes:
        """Return the bytes that are still held back when the stream ends."""
        held, self._held = self._held, b""
        return held

    def _take(self, match: re.Match[bytes]) -> bytes:
        try:
            self.failures.append(Failure(**json.loads(zlib.decompress(base64.b64decode(match[1])))))
        except (ValueError, TypeError, zlib.error, binascii.Error):
            return match[0]
        return b""

    def _take_message(self, match: re.Match[bytes]) -> bytes:
        try:
            content = content_of(match[2])
        except ValueError:
            return match[0]
        if match[1] == STALL.encode():
            self.stall = self.stall or str(content["text"])
        elif match[1] == STOP.encode():
            self.saved.append(SavedRun(**content, at_s=time.monotonic()))
        else:
            self.states.append(content)
        return b""

    def _take_saved(self, match: re.Match[bytes]) -> bytes:
        self.saved_steps.append(int(match[1]))
        return b""


def _overlap(data: bytes, start: bytes) -> int:
    """Return the length of the longest end of `data` that `start` begins with."""
    for length in range(min(len(start) - 1, len(data)), 0, -1):
        if data.endswith(start[:length]):
            return length
    return 0


def first_cause(failures: Sequence[Failure]) -> Failure:
    """Return the earliest failure, which caused the rest.

    Args:
        failures: at least one.
    """
    return min(failures, key=lambda each: (each.follows_an_exception, each.time_s, each.rank))


class FirstOnNode:
    """Find out whether a rank is the first of its node that fails.

    An error in the program strikes all ranks at once: the launcher then gets one traceback from
    each node, and not as many as there are ranks.

    Args:
        parent_pid: the process that has started all of the job's ranks on this node.
    """

    def __init__(self, parent_pid: int) -> None:
        self._name = f"\0keras_candle-failure-{os.getuid()}-{parent_pid}"
        # Shared with the program's process, and bound as long as either lives.
        self._descriptor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach()

    def is_first(self) -> bool:
        """Return whether this rank's failure is the first; to be called once."""
        shared = socket.socket(fileno=self._descriptor)
        try:
            shared.bind(self._name)
        except OSError as error:
            # Names without a file exist on Linux alone; elsewhere each rank reports in full.
            return error.errno != errno.EADDRINUSE
        finally:
            shared.detach()
        return True


# Those on which a CandleCallback saves.
_SAVING = (signal.SIGTERM, signal.SIGUSR1)


def forwarded_signal(number: int) -> int:
    """Return the signal that the ranks get for one that `candle run` got.

    Args:
        number: the launcher's signal.
    """
    # SIGHUP kills mpiexec; SIGTERM gives the ranks time to save.
    return int(signal.SIGTERM if number == signal.SIGHUP else number)


def job_ending(
    reader: FailureReader, states: RankStates, stopped_by: int, exit_code: int
) -> tuple[str, int]:
    """Return the final message of a job and its exit code.

    Args:
        reader: has the ranks' messages.
        states: the ranks' states, from their supervisors.
        stopped_by: the signal by which the launcher was asked to stop, or 0.
        exit_code: mpiexec's.

    Returns:
        The text, "" where none is needed, and the job's exit code.
    """
    if reader.stall:
        return f"candle: the watchdog ended the job: {reader.stall}\n", EXIT_STALLED
    if reader.failures:
        cause = first_cause(reader.failures)
        return _stopped(cause, stopped_by) if stopped_by else _failed(cause, states)
    if exit_code and (stopped_by or exit_code < 0):
        return _stopped_without_report(stopped_by, exit_code)
    if exit_code == signal.SIGKILL:
        return (
            "candle: the supervisor of a rank was killed by SIGKILL, by hand or for want of "
            "memory\n",
            128 + exit_code,
        )
    if exit_code:
        return (
            f"candle: mpiexec ended with code {exit_code} and no rank reported a failure; see its "
            "own message above, if any\n",
            exit_code,
        )
    return "", 0


def _stopped_without_report(stopped_by: int, exit_code: int) -> tuple[str, int]:
    """Describe the end of ranks that had not begun: mpiexec mixes their exit codes."""
    number = stopped_by or -exit_code
    name = signal_name(number)
    # The second signal kills mpiexec, wherever the ranks are.
    if forwarded_signal(stopped_by) in _SAVING and exit_code != -signal.SIGKILL:
        text = f"{name} came before the program began: nothing is left to save, to be run again"
        return f"candle: {text} ({EXIT_RUN_AGAIN})\n", EXIT_RUN_AGAIN
    return f"candle: stopped by {name}\n", 128 + number


def _stopped(cause: Failure, number: int) -> tuple[str, int]:
    """Describe a job that a signal ended, whatever exit codes the ranks' handlers chose."""
    stopped = f"stopped by {signal_name(number)}"
    if cause.is_early:
        return f"candle: {cause.again()}\n", cause.code
    if cause.signal == forwarded_signal(number):
        return f"candle: {stopped}\n", 128 + number
    if number == signal.SIGINT and cause.reason == "KeyboardInterrupt":
        return cause.text(stopped), cause.code
    if cause.asks_to_run_again:
        return f"candle: {stopped}; {cause.again()}\n", cause.code
    if cause.is_exit_code_only:
        return f"candle: {stopped}; the program exited with code {cause.code}\n", cause.code
    return cause.text(), cause.code


def _failed(cause: Failure, states: RankStates) -> tuple[str, int]:
    if cause.asks_to_run_again:
        return f"candle: {cause.again()}\n", cause.code
    text = cause.reason + cause.traceback + cause.output
    left = states.cause_of(text, cause.rank)
    return (cause.text(left), 1) if left else (cause.text(), cause.code)
