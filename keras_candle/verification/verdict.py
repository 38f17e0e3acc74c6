"""The verdict on all trainings of a program, and the report: text, JSON and the exit code."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from keras_candle.verification.comparison import (
    CAUSES,
    DIFFERENT,
    EQUAL,
    EXPLAINED,
    EXPLANATIONS,
    HINTS,
    Comparison,
)
from keras_candle.verification.gaps import Gap
from keras_candle.verification.record import Fact, RecordedRun

# Verdicts without a comparison.
NOT_SCALED, NOTHING_RECORDED = "NOT SCALED", "NOTHING RECORDED"
NOT_DIVISIBLE = "NOT DIVISIBLE"
_TRAININGS = ("fit", "train_on_batch")
_NO_PROOF = (
    "N ranks are expected to differ here (exit code 0), but a bug as small as this would not show."
)


@dataclass(frozen=True)
class Verdict:
    """The outcome of an equivalence check.

    Attributes:
        word: EQUAL, EXPLAINED, DIFFERENT, NOT DIVISIBLE, NOT SCALED or NOTHING RECORDED.
        sentences: the reasons, and what to do.
    """

    word: str
    sentences: list[str]

    @property
    def exit_code(self) -> int:
        """0 when N ranks train as one does, or the difference is explained; else 1."""
        return 0 if self.word in (EQUAL, EXPLAINED) else 1


def judge(one: RecordedRun, many: RecordedRun, comparisons: Sequence[Comparison]) -> Verdict:
    """Return the verdict on a program.

    Args:
        one: the run on one rank.
        many: the run on N ranks.
        comparisons: the comparisons of all trainings.
    """
    size, trained = len(many.ranks), [each for each in many.ranks[0] if each.kind in _TRAININGS]
    if not one.ranks[0] and not many.ranks[0]:
        return Verdict(
            NOTHING_RECORDED,
            [
                "The program calls no fit, evaluate or train_on_batch of a Keras model. "
                "Hand-written training loops are not recorded."
            ],
        )
    if trained and not any(each.scaled for each in trained):
        return Verdict(
            NOT_SCALED,
            [
                f"No model was scaled: on {size} ranks each rank trained alone, on all data. "
                "Decorate the function that builds the model with @candle.scalable, or use --auto."
            ],
        )
    counts = len(one.ranks[0]), len(many.ranks[0])
    if counts[0] != counts[1]:
        found = f"One rank ran {counts[0]} trainings and evaluations, N ranks ran {counts[1]}."
        return Verdict(DIFFERENT, [found, *_sentences(comparisons)])
    verdicts = {each.verdict for each in comparisons}
    word = next(each for each in (DIFFERENT, EXPLAINED, EQUAL) if each in verdicts)
    sentences = _sentences(comparisons) or _on_equality(comparisons)
    return Verdict(word, [*sentences, *([_NO_PROOF] if word == EXPLAINED else [])])


def judge_failure(probe: RecordedRun | None, size: int) -> Verdict | None:
    """Return the verdict on a program that fails on N ranks; None where its batches can be divided.

    Args:
        probe: the run of the first steps on shards.
        size: N.
    """
    records = probe.ranks[0] if probe else []
    sentences = [
        f"{record.kind} {number + 1}: {record.model}: {_cause(fact)}."
        for number, record in enumerate(records)
        for fact in record.facts
        if fact.kind == "not_rows"
    ]
    failed = f"The program fails on {size} ranks, for this reason."
    return Verdict(NOT_DIVISIBLE, [*sentences, failed]) if sentences else None


def _cause(fact: Fact) -> str:
    why, remedy = CAUSES[fact.kind]
    return f"{why.format(what=fact.what)}; {remedy}"


def _on_equality(comparisons: Sequence[Comparison]) -> list[str]:
    tolerances = sorted({f"{each.limits.tolerance:g}" for each in comparisons})
    sentences = [
        f"All differences are within the tolerance of {' and '.join(tolerances)}: rounding of sums "
        "in another order."
    ]
    for gap in (gap for each in comparisons for gap in each.on_the_edge[:1]):
        sentences.append(
            f"{gap.where} in {gap.when} differs by {gap.rows_apart} of {gap.rows:,} rows: "
            "predictions at the decision boundary."
        )
    changes = [gap.change for each in comparisons for gap in each.weights[-1:]]
    if not all(each.finite for each in comparisons):
        sentences.append("But some weights are not finite: both runs have diverged.")
    if changes and max(changes) <= comparisons[0].limits.tolerance:
        sentences.append(
            f"But the weights changed by at most {max(changes):.1e}, so this proves little: "
            "train for longer."
        )
    return sentences


def _sentences(comparisons: Sequence[Comparison]) -> list[str]:
    sentences: list[str] = []
    for comparison in comparisons:
        if comparison.verdict == DIFFERENT:
            sentences += [f"{comparison.title}: {each}." for each in _causes(comparison)]
        elif comparison.verdict == EXPLAINED:
            sentences += [f"{comparison.title}: {each}." for each in _reasons(comparison)]
    return sentences


def _reasons(comparison: Comparison) -> list[str]:
    sentences = []
    for fact in comparison.reasons:
        if fact.kind == "earlier":
            continue  # explained at the earlier training
        why, remedy = EXPLANATIONS[fact.kind]
        sentences.append(f"{why.format(what=fact.what)}; to compare exactly: {remedy}")
    return sentences


def _causes(comparison: Comparison) -> list[str]:
    if comparison.problems:
        return comparison.problems
    if comparison.causes:
        return [*map(_cause, comparison.causes), *_reasons(comparison)]
    hints = [
        HINTS[fact.kind].format(what=fact.what) for fact in comparison.facts if fact.kind in HINTS
    ]
    return [_first(comparison), *hints]


def _first(comparison: Comparison) -> str:
    """A sentence on the moment at which the difference begins, and its probable cause."""
    limits = comparison.limits
    gaps = [gap for gap in comparison.weights if not gap.within(limits)]
    if not gaps:
        gap = next(gap for gap in comparison.metrics if not gap.within(limits))
        return (
            f"the weights agree, but {gap.where} in {gap.when} differs by {gap.size:.1e}. The "
            "metric is not a sum over rows, or its data differ by rank"
        )
    first = gaps[0]
    sentence = f"{first.where} differs by {_size(first)} after {first.when}, without a known reason"
    before = [gap for gap in comparison.weights if gap.when.startswith("step")]
    if before and before[0] is not first and before[0].within(limits):
        return (
            f"{sentence}; {before[0].when} agrees to {before[0].size:.1e}. A first step that "
            "agrees is evidence for correct gradients: if the difference grows slowly from there, "
            "the training amplifies rounding (compare fewer epochs, or use --tolerance)"
        )
    return sentence


def _size(gap: Gap) -> str:
    moved = f" where the weights changed by {gap.change:.1e}" if gap.change else ""
    spread = f" ({gap.alike:,} of its {gap.numbers:,} numbers by more than a tenth of that)"
    return f"{gap.size:.1e}{moved}{spread if gap.numbers > 1 else ''}"


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
