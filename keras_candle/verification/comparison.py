"""Compares what one rank and N ranks recorded, and comes to a verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_candle.verification.explanations import EXPLANATIONS
from keras_candle.verification.record import Arrays, Fact, Record, Run, Snapshot

EQUAL, EXPLAINED, DIFFERENT = "EQUAL", "EXPLAINED", "DIFFERENT"
# A tolerance says nothing of weights that hardly move, so a difference must be small beside the
# way that the weights have gone, too: at most this share of it. A wrong gradient is off by more.
_SHARE_OF_CHANGE = 0.01
# A few roundings of float32. Below that nothing can be said of a share.
_ROUNDING = 1e-6
# What only N ranks log.
_OWN_LOGS = ("effective_learning_rate",)


@dataclass(frozen=True)
class Gap:
    """Where two arrays of numbers, or two lists of arrays, are furthest apart.

    Attributes:
        when: "step 1", "epoch 2", "end" and so on.
        where: a weight's path, or a metric's name.
        size: the difference.
        scale: the largest number of that weight or metric on one rank, at least 1.
        change: how far the weights have gone from the start of the training, 0 for metrics.
    """

    when: str
    where: str
    size: float
    scale: float = 1.0
    change: float = 0.0

    @property
    def relative(self) -> float:
        """The difference in units of the scale."""
        return self.size / self.scale

    def within(self, tolerance: float) -> bool:
        """Whether rounding explains it."""
        small = self.relative <= tolerance
        if not self.change:
            return small
        return small and self.size <= max(_SHARE_OF_CHANGE * self.change, _ROUNDING * self.scale)


@dataclass
class Comparison:
    """One training on one rank and on N.

    Attributes:
        title: which one.
        weights: the largest difference at each moment of which the weights were kept.
        optimizer: the largest difference of the optimizers' variables.
        metrics: the largest difference in each epoch.
        problems: what no rounding and no random draw explains, a sentence each.
        reasons: what can explain a difference.
        facts: all that is known about the training.
        ranks_equal: whether all ranks ended with the same weights to the bit.
        same_data: None where that cannot be told.
        within: whether all differences are within the tolerance.
        finite: whether all weights were, at the end.
    """

    title: str
    weights: list[Gap] = field(default_factory=list)
    optimizer: Gap | None = None
    metrics: list[Gap] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    reasons: list[Fact] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    ranks_equal: bool = True
    same_data: bool | None = None
    within: bool = True
    finite: bool = True

    @property
    def verdict(self) -> str:
        """EQUAL, EXPLAINED or DIFFERENT."""
        if self.problems:
            return DIFFERENT
        if self.within:
            return EQUAL
        return EXPLAINED if self.reasons else DIFFERENT


def compare_runs(one: Run, many: Run, tolerance: float) -> list[Comparison]:
    """Compare training by training, in the order in which the program came to them.

    Args:
        one: recorded on one rank.
        many: recorded on N ranks.
        tolerance: the largest relative difference that counts as none.

    Returns:
        A comparison for each training that both have.
    """
    comparisons: list[Comparison] = []
    for number, (single, root) in enumerate(zip(one.ranks[0], many.ranks[0], strict=False)):
        title = f"{single.kind} {number + 1}: {single.model}"
        comparison = Comparison(title, facts=root.facts)
        comparison.reasons = [fact for fact in root.facts if fact.kind in EXPLANATIONS]
        earlier = next((each for each in comparisons if not each.within), None)
        if earlier is not None and not earlier.problems:
            # A training that follows starts from other weights, and may learn from them.
            comparison.reasons.append(Fact("earlier", earlier.title))
        comparisons.append(comparison)
        problem = _misfit(single, root)
        if problem:
            comparison.problems.append(problem)
            continue
        records = [records[number] for records in many.ranks if len(records) > number]
        _compare(comparison, (one, single), (many, root), tolerance)
        _compare_metrics(comparison, single, records, tolerance)
        _compare_ranks(comparison, records, size=len(many.ranks))
    return comparisons


def _compare(
    comparison: Comparison, one: tuple[Run, Record], many: tuple[Run, Record], tolerance: float
) -> None:
    single, root = one[1], many[1]
    if single.data and root.data:
        comparison.same_data = single.data == root.data
        if not comparison.same_data:
            comparison.problems.append(
                f"the data differ: {'; '.join(single.data)} on one rank, {'; '.join(root.data)} "
                "on N. Draw them from a seed of the program's own, whatever the rank"
            )
    own_part = any(fact.kind == "own_part" for fact in root.facts)
    if single.steps != root.steps and not own_part:
        comparison.problems.append(
            f"the weights were updated {single.steps} times on one rank and {root.steps} on N"
        )
    comparison.weights = list(_weight_gaps(one, many))
    comparison.optimizer = _optimizer_gap(one, many)
    start = next((gap for gap in comparison.weights if gap.when == "start"), None)
    if start is not None and not start.within(tolerance) and not _follows(comparison):
        comparison.problems.append(
            f"the trainings start from different weights ({start.where}): the program draws them "
            "from no seed, or loads a file that its first run has written"
        )
    comparison.within = all(gap.within(tolerance) for gap in comparison.weights)
    end = single.at("end")
    last = one[0].arrays(end.file) if end else None
    comparison.finite = all(np.isfinite(each).all() for each in last or [])


def _compare_metrics(
    comparison: Comparison, single: Record, records: Sequence[Record], tolerance: float
) -> None:
    root = records[0]
    if root.kind == "train_on_batch" and any(each.logs != root.logs for each in records):
        # The ranks have got batches of their own, and log what these came to.
        return
    unit = "epoch" if root.kind == "fit" else "call"
    comparison.metrics = list(_metric_gaps(unit, single.logs, root.logs))
    comparison.within &= all(gap.within(tolerance) for gap in comparison.metrics)


def _follows(comparison: Comparison) -> bool:
    return any(fact.kind == "earlier" for fact in comparison.reasons)


def _misfit(single: Record, root: Record) -> str | None:
    """Why two records are not of the same training."""
    if single.kind != root.kind:
        return f"one rank called {single.kind} where N ranks called {root.kind}"
    if len(single.weights) != len(root.weights):
        return f"the models differ: {len(single.weights)} weights and {len(root.weights)}"
    return None


def _compare_ranks(comparison: Comparison, records: Sequence[Record], size: int) -> None:
    """Whether the ranks held the same weights after each epoch and at the end."""
    root = records[0]
    if len(records) < size:
        comparison.problems.append(f"only {len(records)} of {size} ranks came to this training")
        comparison.ranks_equal = False
        return
    if root.kind != "evaluate" and not root.scaled:
        comparison.problems.append(
            "the model was not scaled: each rank trained it alone, on all of its data"
        )
    for snapshot in root.snapshots:
        if snapshot.when.startswith("step"):
            continue  # moving statistics are made equal when an epoch ends
        for rank, own in enumerate(records):
            weight = _first_different(root, snapshot, own.at(snapshot.when))
            if weight is not None:
                comparison.ranks_equal = False
                comparison.problems.append(
                    f"the ranks do not agree: at {_moment(snapshot.when)} rank {rank} holds "
                    f"another {weight} than rank 0"
                )
                return


def _moment(when: str) -> str:
    return f"the end of {when}" if when.startswith("epoch") else f"the {when}"


def _first_different(root: Record, snapshot: Snapshot, other: Snapshot | None) -> str | None:
    if other is None or len(other.digests) != len(snapshot.digests):
        return "model"
    pairs = zip(root.weights, snapshot.digests, other.digests, strict=True)
    return next((path for path, mine, its in pairs if mine != its), None)


def _weight_gaps(one: tuple[Run, Record], many: tuple[Run, Record]) -> Iterator[Gap]:
    (run, single), (runs, root) = one, many
    start: Arrays | None = None
    for snapshot in single.snapshots:
        other = root.at(snapshot.when)
        mine, its = run.arrays(snapshot.file), runs.arrays(other.file if other else None)
        if mine is None or its is None:
            continue
        if snapshot.when == "start":
            start = mine
        gap = largest_gap(snapshot.when, single.weights, mine, its)
        if start is not None and snapshot.when != "start":
            gap = _with_change(gap, start, mine, single.trainable)
        yield gap


def _with_change(gap: Gap, start: Arrays, now: Arrays, trainable: Sequence[bool]) -> Gap:
    changes = [
        float(np.max(np.abs(after.astype(np.float64) - before), initial=0.0))
        for before, after, moves in zip(start, now, trainable, strict=True)
        if moves and before.shape == after.shape
    ]
    return Gap(gap.when, gap.where, gap.size, gap.scale, max(changes, default=0.0))


def largest_gap(when: str, names: Sequence[str], one: Arrays, many: Arrays) -> Gap:
    """The array whose relative difference is the largest.

    Args:
        when: the moment.
        names: of the arrays.
        one: the arrays on one rank.
        many: those on N ranks, in the same order.

    Returns:
        The gap; of infinite size where shapes differ, or one of two numbers is not finite.

    Example:
        >>> gap = largest_gap("end", ["bias"], [np.array([1.0, 4.0])], [np.array([1.0, 5.0])])
        >>> gap.where, gap.size, gap.relative
        ('bias', 1.0, 0.25)
    """
    gaps = [_gap(when, *each) for each in zip(names, one, many, strict=True)]
    return max(gaps, key=lambda gap: gap.relative, default=Gap(when, "no weights", 0.0))


def _gap(when: str, name: str, one: np.ndarray[Any, Any], many: np.ndarray[Any, Any]) -> Gap:
    if one.shape != many.shape:
        return Gap(when, name, float("inf"))
    a, b = one.astype(np.float64), many.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(a - b))
    size = float(np.max(np.nan_to_num(apart, nan=np.inf, posinf=np.inf), initial=0.0))
    finite = np.abs(a[np.isfinite(a)])
    return Gap(when, name, size, max(1.0, float(np.max(finite, initial=0.0))))


def _metric_gaps(unit: str, one: dict[str, list[Any]], many: dict[str, list[Any]]) -> Iterator[Gap]:
    names = [name for name in one if name in many and name not in _OWN_LOGS]
    missing = sorted(set(one).symmetric_difference(many) - set(_OWN_LOGS))
    for name in missing:
        yield Gap(f"{unit} 1", f"{name}, which only one of the runs logs", float("inf"))
    epochs = max((max(len(one[name]), len(many[name])) for name in names), default=0)
    for epoch in range(epochs):
        when = f"{unit} {epoch + 1}"
        gaps = [_metric_gap(when, name, one[name], many[name], epoch) for name in names]
        yield max(gaps, key=lambda gap: gap.relative)


def _metric_gap(when: str, name: str, one: list[Any], many: list[Any], epoch: int) -> Gap:
    if len(one) != len(many):
        return Gap(when, f"{name} ({len(one)} values against {len(many)})", float("inf"))
    if epoch >= len(one):
        return Gap(when, name, 0.0)  # not in every epoch, as with validation_freq
    return _gap(when, name, np.asarray(one[epoch]), np.asarray(many[epoch]))


def _optimizer_gap(one: tuple[Run, Record], many: tuple[Run, Record]) -> Gap | None:
    (run, single), (runs, root) = one, many
    mine, its = run.arrays(single.optimizer_file), runs.arrays(root.optimizer_file)
    if mine is None or its is None or len(mine) != len(its):
        return None
    return largest_gap("end", single.optimizer, mine, its)
