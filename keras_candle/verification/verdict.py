"""The one word for all trainings of a program, the sentences behind it, and the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keras_candle.verification.comparison import DIFFERENT, EQUAL, EXPLAINED, Comparison
from keras_candle.verification.explanations import EXPLANATIONS, REMARKS
from keras_candle.verification.gaps import Gap
from keras_candle.verification.record import RecordedRun

# In these two there was nothing to compare.
NOT_SCALED, NOTHING_RECORDED = "NOT SCALED", "NOTHING RECORDED"
_TRAININGS = ("fit", "train_on_batch")
_NO_PROOF = (
    "N ranks are right to differ here (exit code 0), but a mistake as small as this would not show."
)


@dataclass(frozen=True)
class Verdict:
    """What came out.

    Attributes:
        word: EQUAL, EXPLAINED, DIFFERENT, NOT SCALED or NOTHING RECORDED.
        sentences: why, and what to do.
    """

    word: str
    sentences: list[str]

    @property
    def exit_code(self) -> int:
        """0 when N ranks train as one does, as far as the model lets them."""
        return 0 if self.word in (EQUAL, EXPLAINED) else 1


def judge(one: RecordedRun, many: RecordedRun, comparisons: Sequence[Comparison]) -> Verdict:
    """The verdict on a program.

    Args:
        one: recorded on one rank.
        many: recorded on N ranks.
        comparisons: of the trainings.
    """
    size, trained = len(many.ranks), [each for each in many.ranks[0] if each.kind in _TRAININGS]
    if not one.ranks[0] and not many.ranks[0]:
        return Verdict(
            NOTHING_RECORDED,
            [
                "The program calls no fit, evaluate or train_on_batch of a Keras model. Training "
                "loops of its own are not seen here."
            ],
        )
    if trained and not any(each.scaled for each in trained):
        return Verdict(
            NOT_SCALED,
            [
                f"No model was scaled: on {size} ranks each rank trained alone, on all data. "
                "Decorate the function that builds the model with @candle.scalable, or say --auto."
            ],
        )
    counts = len(one.ranks[0]), len(many.ranks[0])
    if counts[0] != counts[1]:
        told = f"One rank came to {counts[0]} trainings and evaluations, N ranks to {counts[1]}."
        return Verdict(DIFFERENT, [told, *_sentences(comparisons)])
    verdicts = {each.verdict for each in comparisons}
    word = next(each for each in (DIFFERENT, EXPLAINED, EQUAL) if each in verdicts)
    sentences = _sentences(comparisons) or _praise(comparisons)
    return Verdict(word, [*sentences, *([_NO_PROOF] if word == EXPLAINED else [])])


def _praise(comparisons: Sequence[Comparison]) -> list[str]:
    tolerances = sorted({f"{each.limits.tolerance:g}" for each in comparisons})
    told = [
        f"All differences are within the tolerance of {' and '.join(tolerances)}: they are what "
        "rounding makes of sums in another order."
    ]
    for gap in (gap for each in comparisons for gap in each.on_the_edge[:1]):
        told.append(
            f"{gap.where} in {gap.when} differs by {gap.rows_apart} of {gap.rows:,} rows: "
            "predictions that stood on the edge."
        )
    changes = [gap.change for each in comparisons for gap in each.weights[-1:]]
    if not all(each.finite for each in comparisons):
        told.append("But some weights are not finite, in both runs: both have failed alike.")
    if changes and max(changes) <= comparisons[0].limits.tolerance:
        told.append(
            f"But the weights moved by no more than {max(changes):.1e}, so this says little: "
            "train for longer."
        )
    return told


def _sentences(comparisons: Sequence[Comparison]) -> list[str]:
    told: list[str] = []
    for comparison in comparisons:
        if comparison.verdict == DIFFERENT:
            told += [f"{comparison.title}: {each}." for each in _causes(comparison)]
        elif comparison.verdict == EXPLAINED:
            told += [f"{comparison.title}: {each}." for each in _reasons(comparison)]
    return told


def _reasons(comparison: Comparison) -> list[str]:
    told = []
    for fact in comparison.reasons:
        if fact.kind == "earlier":
            continue  # what is to be said of it stands there
        why, remedy = EXPLANATIONS[fact.kind]
        told.append(f"{why.format(what=fact.what)}; to compare exactly: {remedy}")
    return told


def _causes(comparison: Comparison) -> list[str]:
    if comparison.problems:
        return comparison.problems
    remarks = [
        REMARKS[fact.kind].format(what=fact.what)
        for fact in comparison.facts
        if fact.kind in REMARKS
    ]
    return [_first(comparison), *remarks]


def _first(comparison: Comparison) -> str:
    """Where the difference begins, and what that says."""
    limits = comparison.limits
    gaps = [gap for gap in comparison.weights if not gap.within(limits)]
    if not gaps:
        gap = next(gap for gap in comparison.metrics if not gap.within(limits))
        return (
            f"the weights agree, but {gap.where} in {gap.when} differs by {gap.size:.1e}. The "
            "metric is no sum over rows, or its data differ by rank"
        )
    first = gaps[0]
    told = f"nothing explains that {first.where} differs by {_size(first)} after {first.when}"
    before = [gap for gap in comparison.weights if gap.when.startswith("step")]
    if before and before[0] is not first and before[0].within(limits):
        return (
            f"{told}, where {before[0].when} agrees to {before[0].size:.1e}. A first step that "
            "agrees speaks for the gradients: if the difference grows slowly from there, it is "
            "rounding that this training amplifies (compare fewer epochs, or say --tolerance)"
        )
    return told


def _size(gap: Gap) -> str:
    moved = f" where the weights moved by {gap.change:.1e}" if gap.change else ""
    spread = f" ({gap.alike:,} of its {gap.numbers:,} numbers by more than a tenth of that)"
    return f"{gap.size:.1e}{moved}{spread if gap.numbers > 1 else ''}"
