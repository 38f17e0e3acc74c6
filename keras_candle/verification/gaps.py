"""How far apart two runs' weights and metrics are, and what of that is rounding."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_candle.verification.record import Arrays, RecordedRun, TrainingRecord

# A few roundings of float32. Below that nothing can be said of a share.
_ROUNDING = 1e-6
# What only N ranks log.
_OWN_LOGS = ("effective_learning_rate",)


@dataclass(frozen=True)
class Tolerances:
    """What counts as rounding.

    Attributes:
        tolerance: the largest relative difference.
        share: the largest difference of weights as a share of the way that they have gone. A
            tolerance alone says nothing of weights that hardly move; a wrong gradient is off by
            more. Infinite in 16 bits: what small gradients lose there, Adam turns into steps of
            full length in any direction.
    """

    tolerance: float = 1e-5
    share: float = 0.01


# The longer name first: it contains the other.
_LIMITS = {"bfloat16": Tolerances(8e-3, math.inf), "float16": Tolerances(1e-3, math.inf)}


@dataclass(frozen=True)
class Gap:
    """Where two arrays of numbers, or two lists of arrays, are furthest apart.

    Attributes:
        when: "step 1", "epoch 2", "end" and so on.
        where: a weight's path, or a metric's name.
        size: the difference.
        scale: the largest number of that weight or metric on one rank, at least 1.
        change: how far the weights have gone from the start of the training, 0 for metrics.
        alike: how many numbers of that weight are off by more than a tenth of the difference. A
            wrong gradient moves most of them; rounding that Adam amplifies moves few.
        numbers: how many there are.
        rows: of how many rows a metric speaks; 0 for a loss, and where nobody knows.
    """

    when: str
    where: str
    size: float
    scale: float = 1.0
    change: float = 0.0
    alike: int = 0
    numbers: int = 0
    rows: int = 0

    @property
    def relative(self) -> float:
        """The difference in units of the scale."""
        return self.size / self.scale

    @property
    def rows_apart(self) -> int:
        """By how many rows a metric that counts them differs; 0 where it is not one or two.

        A prediction that stands on the edge falls to one side or the other.
        """
        rows = self.size * self.rows if np.isfinite(self.size) else 0.0
        return round(rows) if 0.5 < rows < 2.5 and abs(rows - round(rows)) < 0.02 else 0

    def within(self, limits: Tolerances) -> bool:
        """Whether rounding explains it."""
        if self.rows_apart:
            return True
        small = self.relative <= limits.tolerance
        if not self.change:
            return small
        return small and self.size <= max(limits.share * self.change, _ROUNDING * self.scale)


def limits_for(record: TrainingRecord, tolerance: float | None) -> Tolerances:
    """What counts as rounding in a training.

    Args:
        record: of the training; its model may compute in 16 bits.
        tolerance: what the user asked for, None for nothing.
    """
    told = [fact.what for fact in record.facts if fact.kind == "reduced_precision"]
    precision = " ".join(told)
    usual = next((limits for name, limits in _LIMITS.items() if name in precision), Tolerances())
    return usual if tolerance is None else Tolerances(tolerance, usual.share)


def weight_gaps(
    one: tuple[RecordedRun, TrainingRecord],
    many: tuple[RecordedRun, TrainingRecord],
    left_out: Sequence[int],
) -> Iterator[Gap]:
    """The largest difference at each moment of which both runs have kept the weights.

    Args:
        one: the run on one rank, and its record of the training.
        many: the same of N ranks.
        left_out: positions of weights that are not compared.
    """
    (run, single), (runs, root) = one, many
    start: Arrays | None = None
    for snapshot in single.snapshots:
        other = root.at(snapshot.when)
        mine, its = run.arrays(snapshot.file), runs.arrays(other.file if other else None)
        if mine is None or its is None:
            continue
        if snapshot.when == "start":
            start = its
        if not len(mine) == len(its) == len(single.weights):
            continue  # one rank builds some models in the first step only
        gap = largest_gap(snapshot.when, single.weights, mine, its, left_out)
        if start is not None and snapshot.when != "start":
            gap = _with_change(gap, start, mine, single.trainable)
        yield gap


def _with_change(gap: Gap, start: Arrays, now: Arrays, trainable: Sequence[bool]) -> Gap:
    changes = [
        float(np.max(np.abs(after.astype(np.float64) - before), initial=0.0))
        for before, after, moves in zip(start, now, trainable, strict=True)
        if moves and before.shape == after.shape
    ]
    return replace(gap, change=max(changes, default=0.0))


def largest_gap(
    when: str, names: Sequence[str], one: Arrays, many: Arrays, left_out: Sequence[int] = ()
) -> Gap:
    """The array whose relative difference is the largest.

    Args:
        when: the moment.
        names: of the arrays.
        one: the arrays on one rank.
        many: those on N ranks, in the same order.
        left_out: positions of those that are not compared.

    Returns:
        The gap; of infinite size where shapes differ, or one of two numbers is not finite.

    Example:
        >>> gap = largest_gap("end", ["bias"], [np.array([1.0, 4.0])], [np.array([1.0, 5.0])])
        >>> gap.where, gap.size, gap.relative
        ('bias', 1.0, 0.25)
    """
    gaps = [
        _gap(when, *each)
        for number, each in enumerate(zip(names, one, many, strict=True))
        if number not in left_out
    ]
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
    scale = max(1.0, float(np.max(finite, initial=0.0)))
    alike = int(np.sum(~(apart <= size / 10))) if size else 0
    return Gap(when, name, size, scale, alike=alike, numbers=a.size)


def metric_gaps(unit: str, single: TrainingRecord, root: TrainingRecord) -> Iterator[list[Gap]]:
    """The differences of all metrics in each epoch, or each call, the largest first.

    Those that are one or two rows come last.

    Args:
        unit: "epoch" or "call".
        single: the training on one rank.
        root: the training on N ranks.
    """
    one, many = single.logs, root.logs
    names = [name for name in one if name in many and name not in _OWN_LOGS]
    missing = sorted(set(one).symmetric_difference(many) - set(_OWN_LOGS))
    for name in missing:
        yield [Gap(f"{unit} 1", f"{name}, which only one of the runs logs", float("inf"))]
    epochs = max((max(len(one[name]), len(many[name])) for name in names), default=0)
    for epoch in range(epochs):
        when = f"{unit} {epoch + 1}"
        gaps = [_metric_gap(when, name, one[name], many[name], epoch) for name in names]
        gaps = [replace(gap, rows=_rows(gap.where, single)) for gap in gaps]
        yield sorted(gaps, key=lambda gap: (gap.rows_apart > 0, -gap.relative))


def _rows(metric: str, record: TrainingRecord) -> int:
    if metric.endswith("loss"):
        return 0
    return record.rows.get("val_" if metric.startswith("val_") else "", 0)


def _metric_gap(when: str, name: str, one: list[Any], many: list[Any], epoch: int) -> Gap:
    if len(one) != len(many):
        return Gap(when, f"{name} ({len(one)} values against {len(many)})", float("inf"))
    if epoch >= len(one):
        return Gap(when, name, 0.0)  # not in every epoch, as with validation_freq
    return _gap(when, name, np.asarray(one[epoch]), np.asarray(many[epoch]))


def optimizer_gap(
    one: tuple[RecordedRun, TrainingRecord], many: tuple[RecordedRun, TrainingRecord]
) -> Gap | None:
    """The largest difference of the optimizers' variables at the end; None where they have none.

    Args:
        one: the run on one rank, and its record of the training.
        many: the same of N ranks.
    """
    (run, single), (runs, root) = one, many
    mine, its = run.arrays(single.optimizer_file), runs.arrays(root.optimizer_file)
    if mine is None or its is None or len(mine) != len(its):
        return None
    return largest_gap("end", single.optimizer, mine, its)
