"""A progress line for a long step."""

import sys
from typing import TextIO

_EVERY_PERCENT = 10


class ProgressLine:
    """Rewrite one line on a terminal; elsewhere print a line every 10 percent.

    Args:
        quiet: print nothing.
        stream: where to write; sys.stdout by default.
    """

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._quiet = quiet
        self._stream = sys.stdout if stream is None else stream
        self._live = self._stream.isatty()
        self._next_percent = 0
        self._open = False

    def print(self, sentence: str) -> None:
        """Print a sentence on a line of its own."""
        self.end()
        if not self._quiet:
            self._stream.write(f"{sentence}\n")
            self._stream.flush()

    def step(self, percent: int, what: str) -> None:
        """Show the progress.

        Args:
            percent: 0 to 100, never decreasing.
            what: the current step, in a few words.
        """
        if self._quiet:
            return
        text = f"[{percent:3d}%] {what[:60]}"
        if self._live:
            self._stream.write(f"\r\x1b[K{text}")
            self._open = True
        elif percent >= self._next_percent:
            self._stream.write(f"{text}\n")
            self._next_percent = min(100, percent - percent % _EVERY_PERCENT + _EVERY_PERCENT)
        self._stream.flush()

    def end(self) -> None:
        """End the live line, so that the next output starts on a new one."""
        if self._open:
            self._stream.write("\n")
            self._stream.flush()
            self._open = False
