"""The verdict on all trainings of a program: a word, sentences, and the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keras_candle.verification.comparison import DIFFERENT, EQUAL, EXPLAINED, Comparison
from keras_candle.verification.explanations import EXPLANATIONS, HINTS
from keras_candle.verification.gaps import Gap
from keras_candle.verification.record import RecordedRun

# Verdicts without a comparison.
NOT_SCALED, NOTHING_RECORDED = "NOT SCALED", "NOTHING RECORDED"
_TRAININGS = ("fit", "train_on_batch")
_NO_PROOF = (
    "N ranks are expected to differ here (exit code 0), but a bug as small as this would not show."
)


@dataclass(frozen=True)
class Verdict:
    """The outcome of an equivalence check.

    Attributes:
        word: EQUAL, EXPLAINED, DIFFERENT, NOT SCALED or NOTHING RECORDED.
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
