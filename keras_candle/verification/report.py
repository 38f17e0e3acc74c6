"""Format a comparison as a table and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from keras_candle.verification.comparison import EXPLAINED, Comparison
from keras_candle.verification.gaps import Gap
from keras_candle.verification.verdict import Verdict

# Of more moments, the table has the first ones and the last two.
_MOST_ROWS = 8


def text(comparisons: Sequence[Comparison], verdict: Verdict, size: int) -> str:
    """Format comparisons for the terminal.

    Args:
        comparisons: the comparisons of all trainings.
        verdict: the verdict on all of them.
        size: the number of ranks.

    Returns:
        Lines, the verdict last.
    """
    lines = [line for each in comparisons for line in _block(each, size)]
    return "\n".join([*lines, f"{verdict.word}", *(f"  {each}" for each in verdict.sentences)])


def _block(comparison: Comparison, size: int) -> list[str]:
    follows = any(fact.kind == "earlier" for fact in comparison.reasons)
    because = " by an earlier training" if comparison.verdict == EXPLAINED and follows else ""
    lines = [f"{comparison.title}: {comparison.verdict}{because}"]
    if comparison.weights:
        lines.append(_row("weights after", "difference", "of largest", "of change", "largest in"))
        lines += _shortened([_gap_row(gap) for gap in comparison.weights])
    if comparison.optimizer is not None:
        lines.append(_row("optimizer", *_numbers(comparison.optimizer)))
    if comparison.metrics:
        lines.append(_row("metrics", "difference", "of largest", "", "largest in"))
        lines += _shortened([_gap_row(gap) for gap in comparison.metrics])
    if comparison.weights:
        same = {True: "the same", False: "DIFFERENT", None: "not compared: no arrays"}
        lines.append(f"  {'data':<16}{same[comparison.same_data]}")
        equal = "equal to the bit" if comparison.ranks_equal else "DIFFERENT"
        lines.append(f"  {'ranks':<16}weights of all {size} {equal}")
    if comparison.left_out:
        lines.append(f"  {'left out':<16}{', '.join(comparison.left_out)}: moved by rounding alone")
    return [*lines, ""]


def _gap_row(gap: Gap) -> str:
    return _row(f"  {gap.when}", *_numbers(gap))


def _numbers(gap: Gap) -> tuple[str, str, str, str]:
    change = f"{gap.size / gap.change:.1e}" if gap.change else ""
    where = gap.where if gap.size else ""
    return f"{gap.size:.1e}", f"{gap.relative:.1e}", change, where


def _row(*cells: str) -> str:
    what, difference, of_largest, of_change, where = cells
    return f"  {what:<16}{difference:<12}{of_largest:<12}{of_change:<12}{where}".rstrip()


def _shortened(rows: list[str]) -> list[str]:
    if len(rows) <= _MOST_ROWS:
        return rows
    return [*rows[: _MOST_ROWS - 2], "    ...", *rows[-2:]]


def as_json(comparisons: Sequence[Comparison], verdict: Verdict, settings: dict[str, Any]) -> str:
    """Format comparisons in full as JSON.

    Args:
        comparisons: the comparisons of all trainings.
        verdict: the verdict on all of them.
        settings: further keys and values.

    Returns:
        A JSON object; non-finite numbers are null.
    """
    trainings = [{**asdict(each), "verdict": each.verdict} for each in comparisons]
    outcome = {**settings, "verdict": verdict.word, "sentences": verdict.sentences}
    return json.dumps(_finite({**outcome, "trainings": trainings}), indent=2) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
