"""Write TensorBoard's event files without TensorFlow."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_candle.optional import load
from keras_candle.trackers.base import TrackedRun, Tracker

FOLDER = "tensorboard"
_FOR = "trackers='tensorboard'"


class TensorBoard(Tracker):
    """Writes one event file in `tensorboard/` for each attempt, in TensorBoard's 32-bit numbers.

    An epoch is one record, which is complete or absent.
    """

    def start(self, run: TrackedRun) -> int:
        """Read the last step from the files of earlier attempts."""
        self._folder = run.directory / FOLDER
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
