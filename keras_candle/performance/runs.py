"""Compare a run with related ones: its earlier attempts, and the same model on one rank."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from keras_candle.run_directory import PERFORMANCE


def earlier_rank_s(events: Iterable[Mapping[str, Any]]) -> float:
    """Return the time of a run's earlier attempts, times their ranks.

    Args:
        events: the lines of its journal. The last line of an attempt counts as its end.

    Returns:
        Seconds.

    Example:
        >>> earlier_rank_s(
        ...     [
        ...         {"event": "begin", "time_s": 5.0, "ranks": 2},
        ...         {"event": "epoch", "time_s": 9.0},
        ...         {"event": "begin", "time_s": 20.0, "ranks": 3},
        ...         {"event": "epoch", "time_s": 21.0},
        ...     ]
        ... )
        11.0
    """
    whole_s, began_s, ranks = 0.0, 0.0, 0
    latest_s = 0.0
    for each in events:
        if each.get("event") == "begin":
            whole_s += ranks * (latest_s - began_s)
            began_s, ranks = float(each["time_s"]), int(each["ranks"])
        latest_s = float(each["time_s"])
    return whole_s + ranks * (latest_s - began_s)


def scaling_efficiency(record: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """Return the scaling efficiency: samples/s, relative to ranks times those of one rank.

    Args:
        record: the run's record.
        run: its directory. Its parent directory is searched for a run on one rank.

    Returns:
        "scaling_efficiency", 1 for a perfect one, and "scaling_from", the name of the run on one
        rank: the newest of the same model and the same batch size of a rank. Empty without one.
    """
    if record["ranks"] == 1 or "samples_per_s" not in record:
        return {}
    beside = [path for path in run.parent.glob(f"*/{PERFORMANCE}") if path.parent != run]
    for path in sorted(beside, key=_written_s, reverse=True):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            single = json.loads(path.read_text())
            if single["ranks"] == 1 and _is_comparable(single, record):
                ideal = record["ranks"] * single["samples_per_s"]
                efficiency = round(record["samples_per_s"] / ideal, 4)
                return {"scaling_efficiency": efficiency, "scaling_from": path.parent.name}
    return {}


def _written_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # removed meanwhile
        return 0.0


def _is_comparable(single: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Whether a run on one rank trains the same model with the same batch size of a rank."""
    rows = record["ranks"] * single["global_batch_rows"]
    same_batch = abs(rows - record["global_batch_rows"]) <= record["ranks"]
    return same_batch and bool(single["parameters"] == record["parameters"])
