"""Trackers that write files into the run directory: a CSV file, TensorBoard's event files."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_candle.optional import load
from keras_candle.run_directory import replace_file
from keras_candle.trackers.base import TrackedRun, Tracker

LOG = "log.csv"
_STEP = "step"
EVENTS = "tensorboard"
_FOR = "trackers='tensorboard'"


class CsvFile(Tracker):
    """Writes `log.csv`; a new metric adds a column to all lines."""

    def __init__(self) -> None:
        self._columns: list[str] = []
        self._size = 0

    def start(self, run: TrackedRun) -> int:
        """Read the existing file; a truncated last line will be overwritten."""
        self._path = run.directory / LOG
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


class TensorBoard(Tracker):
    """Writes one event file in `tensorboard/` for each attempt, in TensorBoard's 32-bit numbers.

    An epoch is one record, which is complete or absent.
    """

    def start(self, run: TrackedRun) -> int:
        """Read the last step from the files of earlier attempts."""
        self._folder = run.directory / EVENTS
        self._writer: Any = None
        self._config: Mapping[str, Any] = {}
        self._proto = load("tensorboard.compat.proto.event_pb2", _FOR)
        self._held = max((event.step for event in self._events()), default=-1)
        return self._held

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Keep the configuration for the first record."""
        self._config = config

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Write the record of an epoch."""
        if self._writer is None:
            self._open()
        event = self._proto.Event(wall_time=time.time(), step=step)
        for name, value in values.items():
            event.summary.value.add(tag=name, simple_value=value)
        if self._held < 0 and self._config:
            self._add_config(event)
        self._write(event)
        self._held = step

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

    def _events(self) -> Iterator[Any]:
        """Yield the records with metrics of all files; a damaged record ends its file."""
        for path in sorted(self._folder.glob("events.out.tfevents.*")):
            for record in _records(path):
                event = self._proto.Event.FromString(record)
                if event.HasField("summary"):
                    yield event


def _records(path: Path) -> Iterator[bytes]:
    crc = load("tensorboard.compat.tensorflow_stub.pywrap_tensorflow", _FOR).masked_crc32c
    data = path.read_bytes()
    at = 0
    while at + 16 <= len(data):
        length = int.from_bytes(data[at : at + 8], "little")
        record, check = data[at + 12 : at + 12 + length], data[at + 12 + length : at + 16 + length]
        if len(check) < 4 or int.from_bytes(check, "little") != crc(record):
            return
        yield record
        at += 16 + length
