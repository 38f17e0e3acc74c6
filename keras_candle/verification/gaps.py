"""Measure the differences between two runs' weights and metrics, and separate rounding."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_candle.verification.record import Arrays, RecordedRun, TrainingRecord

# A few roundings of float32. Smaller differences are within limits, whatever their share.
_ROUNDING = 1e-6
# Logs of N ranks only.
_OWN_LOGS = ("effective_learning_rate",)


@dataclass(frozen=True)
class Tolerances:
    """The largest differences that count as rounding.

    Attributes:
        tolerance: the largest relative difference.
        share: the largest difference of weights as a fraction of their change in the training. A
            tolerance alone is always met by weights that hardly move; a wrong gradient exceeds
            this fraction. Infinite in 16 bits: Adam turns the digits that small gradients lose
            there into steps of full length in any direction.
    """

    tolerance: float = 1e-5
    share: float = 0.01


# "bfloat16" first: it contains "float16".
_LIMITS = {"bfloat16": Tolerances(8e-3, math.inf), "float16": Tolerances(1e-3, math.inf)}


@dataclass(frozen=True)
class Gap:
    """The largest difference between two arrays, or two lists of arrays.

    Attributes:
        when: "step 1", "epoch 2", "end" and so on.
        where: a weight's path, or a metric's name.
        size: the difference.
        scale: the largest number of that weight or metric on one rank, at least 1.
        change: the largest change of a weight since the start of the training, 0 for metrics.
        alike: how many numbers of that weight differ by more than a tenth of `size`. A wrong
            gradient changes most of them; rounding that Adam amplifies changes few.
        numbers: how many numbers that weight has.
        rows: the number of rows of a metric; 0 for a loss, and where unknown.
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
        """The difference, relative to the scale."""
        return self.size / self.scale

    @property
    def rows_apart(self) -> int:
        """The number of rows, 1 or 2, by which a metric that counts rows differs; 0 otherwise.

        Rounding decides on which side a prediction at the decision boundary falls.
        """
        rows = self.size * self.rows if np.isfinite(self.size) else 0.0
        return round(rows) if 0.5 < rows < 2.5 and abs(rows - round(rows)) < 0.02 else 0

    def within(self, limits: Tolerances) -> bool:
        """Return whether rounding explains the difference."""
        if self.rows_apart:
            return True
        small = self.relative <= limits.tolerance
        if not self.change:
            return small
        return small and self.size <= max(limits.share * self.change, _ROUNDING * self.scale)


def limits_for(record: TrainingRecord, tolerance: float | None) -> Tolerances:
    """Return the largest differences that count as rounding in a training.

    Args:
        record: the training's record; its model may compute in 16 bits.
        tolerance: the user's tolerance, None for the default.
    """
    precision = " ".join(fact.what for fact in record.facts if fact.kind == "reduced_precision")
    usual = next((limits for name, limits in _LIMITS.items() if name in precision), Tolerances())
    return usual if tolerance is None else Tolerances(tolerance, usual.share)


def weight_gaps(
    one: tuple[RecordedRun, TrainingRecord],
    many: tuple[RecordedRun, TrainingRecord],
    left_out: Sequence[int],
) -> Iterator[Gap]:
    """Yield the largest difference at each moment at which both runs have stored the weights.

    Args:
        one: the run on one rank, and its record of the training.
        many: the run on N ranks, and its record.
        left_out: positions of weights that are not compared.
    """
    (run, single), (runs, root) = one, many
    start: Arrays | None = None
    for snapshot in single.snapshots:
        same_moment = root.at(snapshot.when)
        on_one = run.arrays(snapshot.file)
        on_many = runs.arrays(same_moment.file if same_moment else None)
        if on_one is None or on_many is None:
            continue
        if snapshot.when == "start":
            start = on_many
        if not len(on_one) == len(on_many) == len(single.weights):
            continue  # one rank builds some models in the first step only
        gap = largest_gap(snapshot.when, single.weights, on_one, on_many, left_out)
        if start is not None and snapshot.when != "start":
            gap = _with_change(gap, start, on_one, single.trainable)
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
    """Return the gap of the array with the largest relative difference.

    Args:
        when: the moment.
        names: of the arrays.
        one: the arrays on one rank.
        many: the arrays on N ranks, in the same order.
        left_out: positions of arrays that are not compared.

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
    """Yield the differences of all metrics in each epoch, or each call, the largest first.

    Differences of one or two rows come last.

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
        return Gap(when, name, 0.0)  # not logged in every epoch, as with validation_freq
    return _gap(when, name, np.asarray(one[epoch]), np.asarray(many[epoch]))


def optimizer_gap(
    one: tuple[RecordedRun, TrainingRecord], many: tuple[RecordedRun, TrainingRecord]
) -> Gap | None:
    """Return the largest difference of the optimizers' variables at the end; None without any.

    Args:
        one: the run on one rank, and its record of the training.
        many: the run on N ranks, and its record.
    """
    (run, single), (runs, root) = one, many
    on_one, on_many = run.arrays(single.optimizer_file), runs.arrays(root.optimizer_file)
    if on_one is None or on_many is None or len(on_one) != len(on_many):
        return None
    return largest_gap("end", single.optimizer, on_one, on_many)
