"""Append-only journals on a shared disk: each group of ranks writes one, all groups read all."""

from __future__ import annotations

import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

_SYNC_EVERY_S = 1.0


class Journal:
    """The append-only journal of this process.

    A line is written by one call, so that a reader sees it complete or cut. At most the last
    second's lines are lost when the machine fails.

    Args:
        folder: of all journals of a search; it must exist.
        writer: the writer's name, the start of the file's; each process creates a new file.
    """

    def __init__(self, folder: Path, writer: str) -> None:
        self.path = folder / f"{writer}-{time.time_ns():x}-{secrets.token_hex(3)}.jsonl"
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o666)
        self._synced_s = 0.0

    def append(self, event: str, **facts: Any) -> None:
        """Append a line.

        Args:
            event: the kind of event, in one word.
            **facts: JSON values.

        Raises:
            OSError: when it cannot be written.
        """
        line = json.dumps({"time_s": time.time(), "event": event, **facts}) + "\n"
        data = line.encode()
        written = os.write(self._file, data)
        if written != len(data):
            # End the cut line, so that readers skip it alone.
            os.write(self._file, b"\n")
            raise OSError(f"{self.path}: only {written} of {len(data)} bytes were written")
        now_s = time.monotonic()
        if now_s - self._synced_s > _SYNC_EVERY_S:
            os.fsync(self._file)
            self._synced_s = now_s

    def close(self) -> None:
        """Sync and close the file."""
        os.fsync(self._file)
        os.close(self._file)


class JournalReader:
    """Reads the new lines of all journals in a folder.

    Args:
        folder: of the journals.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[str, int] = {}

    def new_lines(self) -> list[dict[str, Any]]:
        """Return the lines since the last call, each journal's in its order."""
        lines: list[dict[str, Any]] = []
        try:
            names = sorted(entry.name for entry in os.scandir(self._folder))
        except FileNotFoundError:
            return lines
        for name in names:
            if name.endswith(".jsonl"):
                lines += self._new_lines_of(name)
        return lines

    def _new_lines_of(self, name: str) -> list[dict[str, Any]]:
        path, offset = self._folder / name, self._offsets.get(name, 0)
        if path.stat().st_size <= offset:
            return []
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
        # A line without its end is read by a later call.
        whole = data[: data.rfind(b"\n") + 1]
        self._offsets[name] = offset + len(whole)
        found = []
        for line in whole.splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:  # cut by a full disk or a failing machine
                continue
        return found
