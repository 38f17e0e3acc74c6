"""The standard streams of a job: output from mpiexec to the user, and standard input to root."""

import io
import os
import selectors
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from keras_candle.launcher_messages import STDIN


def write_all(descriptor: int, data: bytes) -> None:
    """Write bytes to a file descriptor unchanged, past Python's buffers.

    Args:
        descriptor: the file descriptor.
        data: the bytes.
    """
    while data:
        data = data[os.write(descriptor, data) :]


class Output:
    """Two pipes from mpiexec, for stdout and stderr.

    Attributes:
        stdout: mpiexec's end of the pipe for stdout.
        stderr: likewise for stderr.
    """

    def __init__(self) -> None:
        pipes = [os.pipe(), os.pipe()]
        (_, self.stdout), (_, self.stderr) = pipes
        self._ours = [ours for ours, _ in pipes]
        self._handlers: dict[int, Callable[[bytes], None]] = {}
        self._selector = selectors.DefaultSelector()
        self._received_s = time.monotonic()

    def __enter__(self) -> "Output":
        return self

    def start(
        self, write_stdout: Callable[[bytes], None], write_stderr: Callable[[bytes], None]
    ) -> None:
        """Start to read, after mpiexec has been started.

        Args:
            write_stdout: gets the next bytes of stdout.
            write_stderr: likewise of stderr.
        """
        for theirs in (self.stdout, self.stderr):
            os.close(theirs)
        for ours, write in zip(self._ours, (write_stdout, write_stderr), strict=True):
            self._handlers[ours] = write
            self._selector.register(ours, selectors.EVENT_READ)

    def forward(self, timeout_s: float) -> bool:
        """Forward the output that has arrived.

        Args:
            timeout_s: how long to wait for output.

        Returns:
            Whether more may arrive.
        """
        for key, _ in self._selector.select(timeout_s):
            data = os.read(key.fd, 65536)
            if data:
                self._handlers[key.fd](data)
                self._received_s = time.monotonic()
            else:
                self._selector.unregister(key.fd)
                del self._handlers[key.fd]
        return bool(self._handlers)

    def quiet_s(self) -> float:
        """Return the seconds since the last output."""
        return time.monotonic() - self._received_s

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for ours in self._ours:
            os.close(ours)


@contextmanager
def inheritable_stdin() -> Iterator[int]:
    """Duplicate this process's standard input for child processes to inherit."""
    try:
        os.fstat(0)
    except OSError:  # started without stdin: the next opened file would become it
        empty_stdin()
    descriptor = os.dup(0)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def stdin_id(descriptor: int) -> str:
    """Return the descriptor with its file's identity, which differs on another node.

    Args:
        descriptor: from `inheritable_stdin`.
    """
    status = os.fstat(descriptor)
    return f"{descriptor} {status.st_dev} {status.st_ino}"


def assign_stdin(rank: int, environment: Mapping[str, str]) -> None:
    """Set up a rank's standard input: inherited on root, empty elsewhere.

    Args:
        rank: root keeps its launcher's standard input if it inherited no descriptor.
        environment: the rank's variables.
    """
    inherited = _descriptor(environment.get(STDIN, ""))
    if rank == 0 and inherited is not None:
        os.dup2(inherited, 0)
    if rank > 0:
        empty_stdin()
    if inherited is not None:
        os.close(inherited)


def empty_stdin() -> None:
    """Replace standard input by an empty one."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null != 0:
        os.close(null)


def _descriptor(name: str) -> int | None:
    if not name:
        return None
    descriptor = int(name.partition(" ")[0])
    try:
        return descriptor if stdin_id(descriptor) == name else None
    except OSError:
        return None


class _Terminal(io.TextIOWrapper):
    """A stream that reports itself as a terminal although it writes to a launcher's pipe."""

    def isatty(self) -> bool:
        return True


def emulate_terminal(name: str) -> None:
    """Make sys.stdout or sys.stderr answer isatty() as the launcher's own stream does.

    Keras's progress bar checks that before it draws a live bar.

    Args:
        name: "stdout" or "stderr".
    """
    stream = getattr(sys, name)
    encoding, errors = stream.encoding, stream.errors
    terminal = _Terminal(stream.detach(), encoding=encoding, errors=errors, line_buffering=True)
    setattr(sys, name, terminal)
    setattr(sys, f"__{name}__", terminal)


def buffer_lines() -> None:
    """Make sys.stdout and sys.stderr line-buffered, for a launcher that labels lines.

    hydra puts the rank's number before every piece that it reads, not before every line.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, write_through=False)
