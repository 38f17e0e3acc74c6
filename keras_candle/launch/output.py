"""What the ranks write, on its way from mpiexec to the user."""

import os
import selectors
import time
from collections.abc import Callable


def write_all(descriptor: int, data: bytes) -> None:
    """Passes bytes on as they are, past Python's buffers.

    Args:
        descriptor: where to.
        data: what.
    """
    while data:
        data = data[os.write(descriptor, data) :]


class Output:
    """Two pipes that mpiexec writes into.

    Attributes:
        stdout: for mpiexec to write into.
        stderr: likewise.
    """

    def __init__(self) -> None:
        pipes = [os.pipe(), os.pipe()]
        (_, self.stdout), (_, self.stderr) = pipes
        self._ours = [ours for ours, _ in pipes]
        self._takers: dict[int, Callable[[bytes], None]] = {}
        self._selector = selectors.DefaultSelector()
        self._moved_s = time.monotonic()

    def __enter__(self) -> "Output":
        return self

    def begin(
        self, take_stdout: Callable[[bytes], None], take_stderr: Callable[[bytes], None]
    ) -> None:
        """Read, now that mpiexec has been started.

        Args:
            take_stdout: gets the next bytes.
            take_stderr: likewise.
        """
        for theirs in (self.stdout, self.stderr):
            os.close(theirs)
        for ours, take in zip(self._ours, (take_stdout, take_stderr), strict=True):
            self._takers[ours] = take
            self._selector.register(ours, selectors.EVENT_READ)

    def carry(self, within_s: float) -> bool:
        """Passes on what has come.

        Args:
            within_s: how long to wait for something to come.

        Returns:
            Whether more may come.
        """
        for key, _ in self._selector.select(within_s):
            data = os.read(key.fd, 65536)
            if data:
                self._takers[key.fd](data)
                self._moved_s = time.monotonic()
            else:
                self._selector.unregister(key.fd)
                del self._takers[key.fd]
        return bool(self._takers)

    def quiet_s(self) -> float:
        """Seconds since something came."""
        return time.monotonic() - self._moved_s

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for ours in self._ours:
            os.close(ours)
