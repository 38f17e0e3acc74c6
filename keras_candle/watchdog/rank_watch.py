"""The rank's side of the watchdog: start its watcher and share its progress."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any, cast

from keras_candle.errors import EXIT_STALLED
from keras_candle.watchdog.heartbeat import HeartbeatBoard
from keras_candle.watchdog.stacks import disable_stacks, enable_stacks

_END_WITHIN_S = 2.0


class RankWatch:
    """The watcher process of this rank, started by the constructor and ended by `stop`.

    Args:
        rank: its number.
        on_one_node: whether all ranks are on this node.
        timeout_s: the job is ended after so long without progress.
        run_directory: gets the report.
    """

    def __init__(
        self, rank: int, timeout_s: float, run_directory: Path, *, on_one_node: bool
    ) -> None:
        self.board = HeartbeatBoard()
        self._stacks = enable_stacks()
        end, to_end = os.pipe()
        arguments = {
            "rank": rank,
            "pid": os.getpid(),
            "timeout_s": timeout_s,
            "run_directory": str(run_directory),
            "on_one_node": on_one_node,
            "board": self.board.descriptor,
            "stacks": self._stacks,
            "end": to_end,
        }
        self._watcher = subprocess.Popen(
            # -P: a module in the working directory may have the name of one of Python's.
            [sys.executable, "-P", "-m", "keras_candle.watchdog", json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(self.board.descriptor, self._stacks, to_end),
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        os.close(to_end)
        self._from_watcher, self._to_watcher = (
            cast("IO[bytes]", stream) for stream in (self._watcher.stdout, self._watcher.stdin)
        )
        threading.Thread(target=_end_when_asked, args=(end,), daemon=True).start()

    def address(self) -> dict[str, Any]:
        """Return the address and token of the root's watcher; empty if it has ended."""
        address = json.loads(self._from_watcher.readline() or b"{}")
        return {**address, "token": secrets.token_hex(16)} if address else {}

    def connect(self, address: dict[str, Any]) -> None:
        """Begin to watch.

        Args:
            address: of the root's watcher, the same on all ranks.
        """
        self._send({"address": address})

    def stop(self) -> None:
        """End the watch, when training ends on this rank."""
        self._send({"bye": True})
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._watcher.communicate(timeout=_END_WITHIN_S)
        if self._watcher.poll() is None:
            self._watcher.kill()
            self._watcher.communicate()
        disable_stacks(self._stacks)
        self.board.close()

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._to_watcher.write(json.dumps(message).encode() + b"\n")
            self._to_watcher.flush()


def _end_when_asked(pipe: int) -> None:
    """End this process when its watcher requests it; return when the watcher ends."""
    if os.read(pipe, 1):
        os._exit(EXIT_STALLED)
    os.close(pipe)
