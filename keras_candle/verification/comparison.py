"""Compare the records of one rank and of N ranks, training by training, and know the causes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from keras_candle.verification.gaps import (
    Gap,
    Tolerances,
    limits_for,
    metric_gaps,
    optimizer_gap,
    weight_gaps,
)
from keras_candle.verification.record import Fact, RecordedRun, TrainingRecord, WeightSnapshot

# kind of fact -> (why the runs differ, what to do for an exact comparison)
EXPLANATIONS: dict[str, tuple[str, str]] = {
    "random": (
        "{what} drew at random in training, and each rank draws its own numbers",
        "candle verify --exact, which sets the strength of dropout and noise to 0",
    ),
    "draw": (
        "{what} drew at random in training, and each rank draws its own numbers",
        "candle verify --exact, if it draws normal or uniform numbers with keras.random; else "
        "leave the layer out",
    ),
    "unseeded": (
        "{what} drew without a seed generator of the layer's: ranks with one global seed draw the "
        "same numbers for different rows, and a resume does not continue them",
        "keras.random.SeedGenerator() in the layer's __init__, passed as seed to "
        "keras.random.normal in its call, then candle verify --exact",
    ),
    "compression": ("the gradients were rounded to 16 bits: {what}", "leave compression out"),
    "own_part": (
        "{what}, so that the ranks' batches together need not be those of one rank",
        "let fit divide the data: shard=True and no sharding by hand",
    ),
    "earlier": ("it follows an explained training: {what}", "see there"),
}

# kind of fact -> (why N ranks compute something else than one rank, what to do)
CAUSES: dict[str, tuple[str, str]] = {
    "batch_normalization": (
        "{what} normalised each rank's rows by their own mean and variance",
        "use @candle.scalable(sync_batch_norm=True), or compare with candle verify --exact",
    ),
    "local_state": (
        "{what} changed its own state in training, which each rank computes from its rows",
        "compute it from candle.gather_rows(tensor)",
    ),
    "across_rows": (
        "{what} computes a row of its output from several rows of the batch, and each rank has its "
        "own rows only",
        "gather the rows of all ranks there, candle.gather_rows(tensor)",
    ),
    "loss_across_rows": (
        "the loss of {what} depends on several rows of the batch at once, such as pairs, and each "
        "rank has its own rows only",
        "compute it from candle.gather_rows(tensor), or as a compiled loss",
    ),
    "sum_of_rows": (
        "the loss of {what} adds up the rows of a batch, where the average over ranks needs a mean",
        "divide it by the number of rows",
    ),
    "not_rows": (
        "the step fails on the rows of one rank ({what}): the first axis of its data is not rows "
        "that ranks can divide",
        "train it on one rank, or with @candle.scalable(shard=False) on whole batches of each "
        "rank's own",
    ),
}

# kind of fact -> a hint where to look for the cause
HINTS: dict[str, str] = {
    "train_step": "{what} is not Keras's own: check it first",
    "mask": "a mask reaches the loss at {what}: a loss of the model's own must count the values",
    "reduced_precision": "the model computes in {what}, which rounds more: see --tolerance",
}


# Kinds that only the first step on shards shows.
PROBED = ("unseeded", "across_rows", "loss_across_rows", "sum_of_rows", "not_rows")

EQUAL, EXPLAINED, DIFFERENT = "EQUAL", "EXPLAINED", "DIFFERENT"


@dataclass
class Comparison:
    """The comparison of one training on one rank and on N ranks.

    Attributes:
        title: the number, method and model of the training.
        weights: the largest difference at each moment with stored weights.
        optimizer: the largest difference of the optimizers' variables.
        metrics: the largest difference in each epoch.
        problems: differences that neither rounding nor random draws explain, a sentence each.
        reasons: facts that can explain a difference.
        facts: all recorded facts about the training.
        ranks_equal: whether all ranks ended with the same weights to the bit.
        same_data: whether both used the same data; None where unknown.
        limits: the largest differences that count as rounding.
        within: whether all differences are within the limits.
        left_out: weights that are not compared, since their gradients are only rounding.
        finite: whether all weights are finite at the end.
        on_the_edge: metrics that differ by one or two rows.
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
    limits: Tolerances = field(default_factory=Tolerances)
    within: bool = True
    left_out: list[str] = field(default_factory=list)
    finite: bool = True
    on_the_edge: list[Gap] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """EQUAL, EXPLAINED or DIFFERENT."""
        if self.problems:
            return DIFFERENT
        if self.within:
            return EQUAL
        is_explained = self.reasons and not self.causes
        return EXPLAINED if is_explained else DIFFERENT

    @property
    def causes(self) -> list[Fact]:
        """Facts for which N ranks compute something else than one rank."""
        return [fact for fact in self.facts if fact.kind in CAUSES]


def compare_runs(
    one: RecordedRun,
    many: RecordedRun,
    tolerance: float | None = None,
    probe: RecordedRun | None = None,
) -> list[Comparison]:
    """Compare two runs training by training, in the order of the program.

    Args:
        one: the run on one rank.
        many: the run on N ranks.
        tolerance: the largest relative difference that counts as rounding; None for the default
            of each model's precision.
        probe: the run of the first steps on shards, where there was one.

    Returns:
        A comparison for each training that both have.
    """
    comparisons: list[Comparison] = []
    for number, (single, root) in enumerate(zip(one.ranks[0], many.ranks[0], strict=False)):
        title = f"{single.kind} {number + 1}: {single.model}"
        facts = [*_probed(probe, number, single), *root.facts]
        comparison = Comparison(title, facts=facts, limits=limits_for(root, tolerance))
        comparison.reasons = [fact for fact in facts if fact.kind in EXPLANATIONS]
        earlier = next((each for each in comparisons if each.verdict == EXPLAINED), None)
        comparisons.append(comparison)
        problem = _misfit(single, root)
        if problem:
            comparison.problems.append(problem)
            continue
        records = [records[number] for records in many.ranks if len(records) > number]
        _compare(comparison, (one, single), (many, root), earlier)
        _compare_metrics(comparison, single, records)
        _compare_ranks(comparison, records, size=len(many.ranks))
    return comparisons


def _probed(probe: RecordedRun | None, number: int, single: TrainingRecord) -> list[Fact]:
    """The facts of a training's first step on shards."""
    records = probe.ranks[0][number : number + 1] if probe else []
    return [
        fact
        for each in records
        if (each.kind, each.model) == (single.kind, single.model)
        for fact in each.facts
        if fact.kind in PROBED
    ]


def _compare(
    comparison: Comparison,
    one: tuple[RecordedRun, TrainingRecord],
    many: tuple[RecordedRun, TrainingRecord],
    earlier: Comparison | None,
) -> None:
    single, root = one[1], many[1]
    noise = sorted(set(single.noise) & set(root.noise))
    comparison.left_out = [single.weights[number] for number in noise]
    comparison.weights = list(weight_gaps(one, many, noise))
    comparison.optimizer = optimizer_gap(one, many)
    if single.data and root.data:
        comparison.same_data = single.data == root.data
    start = next((gap for gap in comparison.weights if gap.when == "start"), Gap("start", "", 0))
    if earlier and (start.size or comparison.same_data is False or not comparison.weights):
        comparison.reasons.append(Fact("earlier", earlier.title))
    else:
        comparison.problems += _different_beginnings(comparison, start, single, root)
    is_sharded = any(fact.kind == "own_part" for fact in root.facts)
    if single.steps != root.steps and not is_sharded:
        comparison.problems.append(
            f"the weights were updated {single.steps} times on one rank and {root.steps} on N"
        )
    comparison.within = all(gap.within(comparison.limits) for gap in comparison.weights)
    end = single.at("end")
    last = one[0].arrays(end.file) if end else None
    comparison.finite = all(np.isfinite(each).all() for each in last or [])


def _different_beginnings(
    comparison: Comparison, start: Gap, single: TrainingRecord, root: TrainingRecord
) -> Iterator[str]:
    if comparison.same_data is False:
        yield (
            f"the data differ: {'; '.join(single.data)} on one rank, {'; '.join(root.data)} on N. "
            "Draw them from a seed that is the same on every rank"
        )
    if not start.within(comparison.limits):
        yield (
            f"the trainings start from different weights ({start.where}): the program draws them "
            "without a seed, or loads a file that its first run has written"
        )


def _compare_metrics(
    comparison: Comparison, single: TrainingRecord, records: Sequence[TrainingRecord]
) -> None:
    root = records[0]
    if root.kind == "train_on_batch" and any(each.logs != root.logs for each in records):
        # Each rank has its own batches, and logs their metrics.
        return
    unit = "epoch" if root.kind == "fit" else "call"
    epochs = list(metric_gaps(unit, single, root))
    comparison.metrics = [gaps[0] for gaps in epochs]
    comparison.on_the_edge = [gap for gaps in epochs for gap in gaps if gap.rows_apart]
    comparison.within &= all(gap.within(comparison.limits) for gap in comparison.metrics)


def _misfit(single: TrainingRecord, root: TrainingRecord) -> str | None:
    """The reason why two records are not of the same training, or None."""
    if single.kind != root.kind:
        return f"one rank called {single.kind} where N ranks called {root.kind}"
    if len(single.weights) != len(root.weights):
        return f"the models differ: {len(single.weights)} weights and {len(root.weights)}"
    return None


def _compare_ranks(comparison: Comparison, records: Sequence[TrainingRecord], size: int) -> None:
    """Check that the ranks held the same weights after each epoch and at the end."""
    root = records[0]
    if len(records) < size:
        comparison.problems.append(f"only {len(records)} of {size} ranks ran this training")
        comparison.ranks_equal = False
        return
    if root.kind != "evaluate" and not root.scaled:
        comparison.problems.append(
            "the model was not scaled: each rank trained it alone, on all of its data"
        )
    for snapshot in root.snapshots:
        if snapshot.when.startswith("step"):
            continue  # moving statistics are equal after an epoch only
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


def _first_different(
    root: TrainingRecord, snapshot: WeightSnapshot, own: WeightSnapshot | None
) -> str | None:
    if own is None or len(own.digests) != len(snapshot.digests):
        return "model"
    digests = zip(root.weights, snapshot.digests, own.digests, strict=True)
    return next((path for path, expected, found in digests if expected != found), None)
