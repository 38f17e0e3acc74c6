"""Read the metrics for trackers from a run's growing journal."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_candle.trackers.redaction import flat


@dataclass(frozen=True)
class EpochRow:
    """The metrics of an epoch.

    Attributes:
        step: step of the run, larger than that of the row before.
        values: by name.
    """

    step: int
    values: dict[str, float]


class JournalFeed:
    """Reads the rows of a journal.

    An epoch that a restart trains again counts once, with its first values, which may have been
    sent already.

    Args:
        journal: the file.
        from_bytes: offset of the run's first line.
        after: rows up to this step are skipped.
    """

    def __init__(self, journal: Path, from_bytes: int = 0, after: int = -1) -> None:
        self._journal, self._at, self._after = journal, from_bytes, after
        self._seen: set[tuple[int, int]] = set()
        self._last = -1

    def rows(self) -> Iterator[EpochRow]:
        """Yield the rows that were added since the last call."""
        for line, end in lines(self._journal, self._at):
            self._at = end
            epoch = (_whole(line.get("fit")), _whole(line.get("epoch")))
            if line.get("event") != "epoch" or epoch in self._seen:
                continue
            self._seen.add(epoch)
            # With another number of ranks the same epoch ends at another step.
            self._last = max(_whole(line.get("step")), self._last + 1)
            if self._last > self._after:
                yield EpochRow(self._last, values_of(line))


def lines(journal: Path, at: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the journal's complete lines from an offset on, each with its end offset."""
    try:
        with open(journal, "rb") as file:
            file.seek(at)
            data = file.read()
    except FileNotFoundError:
        return
    for line in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
        at += len(line)
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict):
                yield found, at


def values_of(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of an epoch's line.

    Example:
        >>> values_of({"epoch": 2, "logs": {"loss": 0.5}, "performance": {"time": {"step_s": 0.1}}})
        {'epoch': 2, 'loss': 0.5, 'performance/time/step_s': 0.1}
    """
    logs = {name: value for name, value in _table(line, "logs").items() if _is_number(value)}
    performance = flat(_table(line, "performance"), "performance/")
    finite = {
        name: value
        for name, value in performance.items()
        if _is_number(value) and math.isfinite(value)
    }
    return {"epoch": _whole(line.get("epoch")), **logs, **finite}


def _table(line: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = line.get(name)
    return found if isinstance(found, Mapping) else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
