"""Forward the ranks' stdout and stderr from mpiexec to the user."""

import os
import selectors
import time
from collections.abc import Callable


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
