"""A run beside others: the time of its earlier starts, and a run on one rank to compare with."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from keras_candle.run_directory import PERFORMANCE


def earlier_rank_s(notes: Iterable[Mapping[str, Any]]) -> float:
    """The time of a run's earlier starts, times their ranks.

    Args:
        notes: the lines of its journal. The last line of a start is taken for its end.

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
    for each in notes:
        if each.get("event") == "begin":
            whole_s += ranks * (latest_s - began_s)
            began_s, ranks = float(each["time_s"]), int(each["ranks"])
        latest_s = float(each["time_s"])
    return whole_s + ranks * (latest_s - began_s)


def scaling_efficiency(record: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """How near a run comes to as many times one rank's samples/s as it has ranks.

    Args:
        record: of the run.
        run: its directory. Runs on one rank are looked for beside it.

    Returns:
        "scaling_efficiency", 1 for a perfect one, and "scaling_from", the name of the run that it
        is compared with: the newest of the same model and the same batch size of a rank. Empty
        where there is none.
    """
    if record["ranks"] == 1 or "samples_per_s" not in record:
        return {}
    beside = [path for path in run.parent.glob(f"*/{PERFORMANCE}") if path.parent != run]
    for path in sorted(beside, key=_written_s, reverse=True):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            single = json.loads(path.read_text())
            if single["ranks"] == 1 and _alike(single, record):
                ideal = record["ranks"] * single["samples_per_s"]
                efficiency = round(record["samples_per_s"] / ideal, 4)
                return {"scaling_efficiency": efficiency, "scaling_from": path.parent.name}
    return {}


def _written_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # removed meanwhile
        return 0.0


def _alike(single: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Whether a run trains the same model on one rank, in batches as large as a rank's here."""
    rows = record["ranks"] * single["global_batch_rows"]
    same_batch = abs(rows - record["global_batch_rows"]) <= record["ranks"]
    return same_batch and bool(single["parameters"] == record["parameters"])
