"""Write facts with the lines of the script that they come from."""

from __future__ import annotations

import json
import os
import sys
from types import FrameType
from typing import Any

_RECORDERS = "keras_candle.lint.dry_run"


class FactLog:
    """Append facts to a file.

    Args:
        path: the file.
        sources: folders of the script's own files.
    """

    def __init__(self, path: str, sources: tuple[str, ...]) -> None:
        self._sources = tuple(os.path.join(source, "") for source in sources)
        self._written: set[str] = set()
        # Kept open: writing a fact then causes no event for the audit hook.
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, kind: str, lines: list[tuple[str, int]], **words: Any) -> None:
        """Write a fact, unless the same one is written already; "fit" is written each time.

        Args:
            kind: the kind of fact.
            lines: the script's lines that it comes from, the innermost first; without any, the
                script did not cause it, and it is left out.
            **words: further fields.
        """
        fact = json.dumps({"kind": kind, "lines": lines, **words})
        if lines and (kind == "fit" or fact not in self._written):
            self._written.add(fact)
            os.write(self._file, f"{fact}\n".encode())

    def lines(self) -> list[tuple[str, int]]:
        """Return the script's own lines on the call stack, the innermost first."""
        return [(frame.f_code.co_filename, frame.f_lineno) for frame in self._own_frames()]

    def called_by_script(self, packages: tuple[str, ...]) -> bool:
        """Return whether the script's innermost line calls into one of these packages."""
        callee = ""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and not self.is_own(frame.f_code.co_filename):
            name = frame.f_globals.get("__name__", "")
            callee = callee if name.startswith(_RECORDERS) else name
            frame = frame.f_back
        return callee.partition(".")[0] in packages

    def is_own(self, file: str) -> bool:
        """Return whether a file is the script's, or one beside it."""
        return file.startswith(self._sources) and "site-packages" not in file

    def _own_frames(self) -> list[FrameType]:
        found = []
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            if self.is_own(frame.f_code.co_filename):
                found.append(frame)
            frame = frame.f_back
        return found
