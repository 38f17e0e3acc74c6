"""A CSV file in the run directory: one line an epoch, numbers with all digits."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from keras_candle.run_directory import replace_file
from keras_candle.trackers.base import TrackedRun, Tracker

FILE = "log.csv"
_STEP = "step"


class CsvFile(Tracker):
    """Writes `log.csv`; a new metric adds a column to all lines."""

    def __init__(self) -> None:
        self._columns: list[str] = []
        self._size = 0

    def start(self, run: TrackedRun) -> int:
        """Read the existing file; a truncated last line will be overwritten."""
        self._path = run.directory / FILE
        rows = self._read()
        self._columns = rows[0] if rows else [_STEP]
        if self._columns[0] != _STEP:
            raise ValueError(
                f"{self._path} is not a log of keras_candle: its first column is not 'step'. "
                "Rename the file."
            )
        return max((int(each[0]) for each in rows[1:]), default=-1)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Append the line of an epoch."""
        new = [name for name in values if name not in self._columns]
        if new:
            self._widen([*self._columns, *new])
        row = [step, *(values.get(name, "") for name in self._columns[1:])]
        line = _text([row])
        with open(self._path, "r+b") as file:
            file.seek(self._size)
            file.truncate()  # the rest of an earlier write, on a full disk
            file.write(line)
        self._size += len(line)

    def _read(self) -> list[list[str]]:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._size = len(whole)
        return [row for row in csv.reader(io.StringIO(whole.decode(), newline="")) if row]

    def _widen(self, columns: list[str]) -> None:
        rows = self._read()[1:]
        wider = [[*row, *[""] * (len(columns) - len(row))] for row in rows]
        text = _text([columns, *wider])
        replace_file(self._path, text)
        self._columns, self._size = columns, len(text)


def _text(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)  # floats as repr has them
    return text.getvalue().encode()
