"""Errors of a search whose trials fail."""

from __future__ import annotations

from collections.abc import Sequence

from keras_candle.errors import SearchError
from keras_candle.search.trial_log import TrialRecord


class TooManyFailuresError(SearchError, RuntimeError):
    """Raised after `max_consecutive_failed_trials` failures in a row; Keras Tuner: RuntimeError."""


def check_some_succeeded(records: Sequence[TrialRecord]) -> None:
    """Raise an error when all trials of a search failed.

    Args:
        records: all trials of a search that has ended.

    Raises:
        SearchError: when all of them failed, with the last one's traceback.
    """
    ends = [each.end for each in records if each.end is not None]
    if ends and all(end["status"] == "FAILED" for end in ends):
        raise SearchError(
            f"None of the {len(ends)} trials gave a result. The last one's traceback:\n"
            f"{ends[-1]['message']}"
        )


def describe(row: Sequence[TrialRecord]) -> str:
    """Return the error message for trials that failed in a row."""
    lines = []
    for record in row:
        message = str((record.end or {}).get("message") or "no error message")
        lines.append(f"  trial {record.trial_id} with {record.values}: {_last_line(message)}")
    listed = "\n".join(lines)
    last = str((row[-1].end or {}).get("message") or "")
    return (
        f"{len(row)} trials failed in a row, so the search has stopped "
        f"(max_consecutive_failed_trials):\n{listed}\nThe last one's traceback:\n{last}"
    )


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else text
