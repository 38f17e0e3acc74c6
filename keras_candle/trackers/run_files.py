"""Trackers that write files into the run directory: a CSV file, TensorBoard's event files."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from keras_candle.optional import load
from keras_candle.run_directory import replace_file
from keras_candle.trackers.base import EpochRow, TimedTracker, TrackedRun, Tracker, holds

LOG = "log.csv"
_STEP = "step"
EVENTS = "tensorboard"
_FOR = "trackers='tensorboard'"
# The end of a file is read in blocks: a restart must not read what many epochs have written.
_BLOCK_BYTES = 1 << 16


class CsvFile(Tracker):
    """Writes `log.csv`; a new metric adds a column to all lines."""

    def __init__(self) -> None:
        self._columns: list[str] = []
        self._size = 0

    def start(self, run: TrackedRun) -> int:
        """Read the existing file's first and last line; a truncated one will be overwritten."""
        self._path = run.directory / LOG
        self._columns, last, self._size = self._ends()
        if self._columns[0] != _STEP:
            raise ValueError(
                f"{self._path} is not a log of keras_candle: its first column is not 'step'. "
                "Rename the file."
            )
        return int(last[0]) if last else -1

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

    def _ends(self) -> tuple[list[str], list[str], int]:
        """Return the columns, the last whole line, and the bytes up to its end."""
        try:
            with open(self._path, "rb") as file:
                columns, header_bytes = _header(file)
                last, size = _last_line(file, header_bytes)
        except FileNotFoundError:
            return [_STEP], [], 0
        return columns or [_STEP], next(csv.reader([last.decode()]), []), size

    def _widen(self, columns: list[str]) -> None:
        text = _text([columns])
        if self._size:
            data = self._path.read_bytes()[: self._size]
            _, *rows = csv.reader(io.StringIO(data.decode(), newline=""))
            text += _text([[*row, *[""] * (len(columns) - len(row))] for row in rows if row])
        replace_file(self._path, text)
        self._columns, self._size = columns, len(text)


def _text(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    # Python 3.11 leaves a carriage return in a name without quotes, where it would end the line.
    returns = any("\r" in str(each) for row in rows for each in row)
    writer = csv.writer(
        text, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL
    )
    writer.writerows(rows)  # floats as repr has them
    return text.getvalue().encode()


def _header(file: BinaryIO) -> tuple[list[str], int]:
    """Return the names in the first line, which may contain line breaks, and its bytes."""
    lines: list[bytes] = []

    def decoded() -> Iterator[str]:
        for line in file:
            lines.append(line)
            yield line.decode()

    names = next(csv.reader(decoded()), [])
    is_whole = bool(lines) and lines[-1].endswith(b"\n")
    return (names, sum(map(len, lines))) if is_whole else ([], 0)


def _last_line(file: BinaryIO, begin: int) -> tuple[bytes, int]:
    """Return the last whole line of numbers behind the header, and its end in the file."""
    end, block = file.seek(0, os.SEEK_END), _BLOCK_BYTES
    while True:
        at = max(begin, end - block)
        file.seek(at)
        data = file.read(end - at)
        whole = data[: data.rfind(b"\n") + 1]
        lines = whole.split()
        if at == begin or len(lines) > 1:
            return (lines[-1] if lines else b""), at + len(whole)
        block *= 4


class TensorBoard(TimedTracker):
    """Writes one event file in `tensorboard/` for each attempt, in TensorBoard's 32-bit numbers.

    An epoch is one record, which is complete or absent. A number beyond 32 bits is left out.
    """

    def start(self, run: TrackedRun) -> int:
        """Read the last step from the files of earlier attempts."""
        self._folder = run.directory / EVENTS
        self._writer: Any = None
        self._config: Mapping[str, Any] = {}
        self._proto = load("tensorboard.compat.proto.event_pb2", _FOR)
        files = self._folder.glob("events.out.tfevents.*")
        self._held = max(map(self._last_step, files), default=-1)
        return self._held

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Keep the configuration for the first record."""
        self._config = config

    def log_epochs(self, rows: Iterable[EpochRow]) -> Iterator[int]:
        """Write the records of epochs."""
        for row in rows:
            if self._writer is None:
                self._open()
            event = self._proto.Event(wall_time=row.time_s, step=row.step)
            for name, value in row.values.items():
                if holds("tensorboard", value):
                    event.summary.value.add(tag=name, simple_value=value)
            if self._held < 0 and self._config:
                self._add_config(event)
            self._write(event)
            self._held = row.step
            yield row.step

    def close(self, status: str) -> None:  # noqa: ARG002 - event files have no status
        """Close the file."""
        if self._writer is not None:
            self._writer.close()

    def _open(self) -> None:
        records = load("tensorboard.summary.writer.record_writer", _FOR)
        self._folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._writer = records.RecordWriter(open(self._folder / name, "xb"))  # noqa: SIM115
        self._write(self._proto.Event(wall_time=time.time(), file_version="brain.Event:2"))

    def _write(self, event: Any) -> None:
        self._writer.write(event.SerializeToString())
        self._writer.flush()

    def _add_config(self, event: Any) -> None:
        value = event.summary.value.add(tag="config")
        value.metadata.plugin_data.plugin_name = "text"
        value.tensor.dtype = load("tensorboard.compat.proto.types_pb2", _FOR).DT_STRING
        value.tensor.string_val.append(f"```\n{json.dumps(self._config, indent=1)}\n```".encode())

    def _last_step(self, path: Path) -> int:
        """Return the step of a file's last whole record with metrics; -1 for none."""
        with open(path, "rb") as file:
            size, block = file.seek(0, os.SEEK_END), _BLOCK_BYTES
            while True:
                at = max(0, size - block)
                file.seek(at)
                for record in _from_the_last(file.read(size - at)):
                    event = self._proto.Event.FromString(record)
                    if event.HasField("summary"):
                        return int(event.step)
                if at == 0:
                    return -1
                block *= 4


def _from_the_last(data: bytes) -> Iterator[bytes]:
    """Yield the whole records in the end of a file, the last one first.

    A record is its length (8 bytes), the length's CRC (4), its content, and the content's CRC (4).
    """
    crc = load("tensorboard.compat.tensorflow_stub.pywrap_tensorflow", _FOR).masked_crc32c
    end = len(data)
    for at in range(end - 16, -1, -1):
        length = int.from_bytes(data[at : at + 8], "little")
        if length > end - at - 16:
            continue
        content = data[at + 12 : at + 12 + length]
        checks = data[at + 8 : at + 12], data[at + 12 + length : at + 16 + length]
        if all(
            int.from_bytes(check, "little") == crc(part)
            for check, part in zip(checks, (data[at : at + 8], content), strict=True)
        ):
            end = at
            yield content
