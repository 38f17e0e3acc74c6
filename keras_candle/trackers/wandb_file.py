"""Read the last step from the files that Weights & Biases keeps of a run on this disk."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from keras_candle.optional import load

# The format is LevelDB's log: blocks of records, each with CRC, length and kind.
_FILE_HEADER_BYTES, _HEADER_BYTES, _BLOCK_BYTES = 7, 7, 32768
_WHOLE, _LAST = 1, 4


def last_step(folder: Path, run_id: str) -> int:
    """Return the last step in the files of all attempts of a run; -1 for none.

    Args:
        folder: `wandb` in a run directory.
        run_id: id of the run.
    """
    records = load("wandb.proto.wandb_internal_pb2", "trackers='wandb'")
    held = -1
    for path in folder.glob(f"*run-*-{run_id}*/run-{run_id}.wandb"):
        for data in _records(path.read_bytes()):
            record = records.Record.FromString(data)
            if record.HasField("history"):
                held = max(held, record.history.step.num)
    return held


def _records(data: bytes) -> Iterator[bytes]:
    """Yield the records up to the first that is damaged or truncated."""
    at, parts = _FILE_HEADER_BYTES, b""
    while at + _HEADER_BYTES <= len(data):
        left = _BLOCK_BYTES - at % _BLOCK_BYTES
        if left < _HEADER_BYTES:
            at += left
            continue
        crc = int.from_bytes(data[at : at + 4], "little")
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        at += _HEADER_BYTES
        if zlib.crc32(data[at - 1 : at + length]) != crc:
            return
        parts += data[at : at + length]
        at += length
        if kind in (_WHOLE, _LAST):
            yield parts
            parts = b""
