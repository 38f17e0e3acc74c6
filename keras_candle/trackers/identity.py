"""The identity of a run across its attempts: `trackers.json` in the run directory."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_candle.run_directory import RunDirectory, create_file, replace_file
from keras_candle.trackers.reconciler import lines
from keras_candle.trackers.run_files import EVENTS, LOG

FILE = "trackers.json"
# Outputs that are not stored by the run's id.
_OF_ONE_RUN = (LOG, EVENTS)


def identify(
    directory: RunDirectory, of_checkpoint: Mapping[str, Any] | None, *, begin: bool
) -> dict[str, Any]:
    """Return the run's id and its first byte in the journal.

    A training that begins where an earlier one had taken a checkpoint is another run.

    Args:
        directory: the run directory, locked.
        of_checkpoint: the identity in the checkpoint that is resumed; None for a training from the
            beginning.
        begin: whether `resume="never"` asks for a new run.

    Returns:
        {"id": ..., "from_bytes": ...}, which checkpoints save too.
    """
    path = directory.path / FILE
    before = _read(path)
    if of_checkpoint is not None:
        identity = of_checkpoint or before or _new(0)
    elif before is None:
        identity = _new(_end_of(directory.journal) if begin or _saved(directory.journal, 0) else 0)
    elif begin or _saved(directory.journal, before["from_bytes"]):
        _set_aside(directory.path, before["id"])
        identity = _new(_end_of(directory.journal))
    else:
        identity = before
    if identity != before:
        replace_file(path, json.dumps(identity).encode())
    return dict(identity)


def id_of_search(home: Path) -> str:
    """Return the id of a search; safe where several trials create it at the same time.

    Args:
        home: the search's directory.
    """
    path = home / FILE
    if (found := _read(path)) is None:
        create_file(path, json.dumps(_new(0)).encode())
        found = _read(path) or _new(0)
    return str(found["id"])


def _new(from_bytes: int) -> dict[str, Any]:
    return {"id": secrets.token_hex(8), "from_bytes": from_bytes}


def _read(path: Path) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text())
        if isinstance(found, dict) and "id" in found:
            return {"id": str(found["id"]), "from_bytes": int(found.get("from_bytes", 0))}
    return None


def _saved(journal: Path, from_bytes: int) -> bool:
    return any(line.get("event") == "checkpoint" for line, _ in lines(journal, from_bytes))


def _end_of(journal: Path) -> int:
    return journal.stat().st_size if journal.exists() else 0


def _set_aside(directory: Path, run_id: str) -> None:
    for name in _OF_ONE_RUN:
        path = directory / name
        if path.exists():
            path.rename(directory / f"{path.stem}-{run_id}{path.suffix}")
