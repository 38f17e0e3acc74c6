"""Findings from the facts that two dry runs of a script recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from keras_candle.lint.candle_usage import candle_options
from keras_candle.lint.file_writes import WRITE
from keras_candle.lint.finding import ERROR, INFO, WARNING, Finding, FindingKind
from keras_candle.lint.script import Script
from keras_candle.lint.training_loops import lines_read, loop_finding

FAILED = FindingKind(
    "dry-run-failed",
    ERROR,
    "the dry run failed: {reason}",
    "the script ran on one rank, fit cut to an epoch of two steps, in a copy of its folder",
    "make `python {script}` work first; if it does, the cut breaks it: pass --no-run",
)
TIMED_OUT = FindingKind(
    "dry-run-unfinished",
    WARNING,
    "the dry run did not end in {timeout:g} s",
    "fit and evaluate are cut short, the script's own loops are not; the lines after them were "
    "not checked",
    "candle check --timeout {longer:g} ..., or let the script take its size from an argument",
)
TOO_LARGE = FindingKind(
    "dry-run-left-out",
    INFO,
    "no dry run: {why}",
    "it works on a copy of the folder, so that none of your files is touched",
    "start it in a smaller folder; the findings here come from reading the script alone",
)
DIFFERENT_DATA = FindingKind(
    "data-differ-between-runs",
    ERROR,
    "{method} got other data in a second run: {first}, then {second}",
    "ranks are separate processes, as these runs: each would train on different data",
    "seed the draws and fix the order: keras.utils.set_random_seed(0) at the top, sorted(...) "
    "around sets and listings of folders",
)
UNSEEDED_ORDER = FindingKind(
    "dataset-order-unseeded",
    ERROR,
    "{method} got a tf.data.Dataset that is shuffled without a seed",
    "its order differs on each rank, and keras_candle refuses it",
    "keras.utils.set_random_seed(0) before the dataset is made, or .shuffle(..., seed=0)",
)
DIFFERENT_MODELS = FindingKind(
    "models-differ-between-runs",
    ERROR,
    "{method} trained another model in a second run",
    "all ranks must hold the same layers in the same order",
    "sorted(...) around sets that layers are made from, a seed before sizes that are drawn",
)
BATCH_HOOKS = FindingKind(
    "batch-hook-callback",
    INFO,
    "the callback {name} has {hooks}",
    "on several ranks the logs of a batch are one rank's own; those of an epoch are all ranks'",
    "decide in on_epoch_end where all ranks have to decide alike",
)
GENERATOR = FindingKind(
    "data-from-generator",
    INFO,
    "{method} got a Python generator",
    "each rank has to run the whole generator to take its shard",
    "a tf.data.Dataset or a keras.utils.PyDataset can be sharded at less cost",
)
ELSEWHERE = FindingKind(
    "write-elsewhere",
    INFO,
    "{file} was not written: it lies outside of the dry run's copy",
    "the dry run keeps your files as they are; on several ranks each of them would write it",
    "if candle.is_root(): around it",
)
NO_TRAINING = FindingKind(
    "nothing-trained",
    INFO,
    "the dry run trained nothing",
    "no fit, train_on_batch or optimizer was called, so no training could be checked",
    "give the arguments that make it train: candle check {script} ...",
)
KINDS = (
    *(FAILED, TIMED_OUT, TOO_LARGE, DIFFERENT_DATA, UNSEEDED_ORDER, DIFFERENT_MODELS),
    *(BATCH_HOOKS, GENERATOR, ELSEWHERE, NO_TRAINING),
)
Fact = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class DryRun:
    """The record of one dry run.

    Attributes:
        facts: in the order in which they happened; "kind" is the kind of fact, "lines" its place:
            pairs of path and line, the innermost first.
        reason: why it failed, empty when it did not.
        traceback: path and line of each call on the way to the failure, the outermost first.
        timeout_s: the timeout that it exceeded, else 0.
    """

    facts: Sequence[Fact]
    reason: str = ""
    traceback: tuple[tuple[str, int], ...] = ()
    timeout_s: float = 0

    def of_kind(self, kind: str) -> list[Fact]:
        """Return the facts of one kind."""
        return [fact for fact in self.facts if fact["kind"] == kind]


def judge(runs: Sequence[DryRun], script: Script) -> Iterator[Finding]:
    """Yield the findings in the records of dry runs.

    Args:
        runs: one or two of the same script.
        script: as it was read.
    """
    path = script.main.path
    for run in runs:
        if run.timeout_s:
            words = {"timeout": run.timeout_s, "longer": 4 * run.timeout_s}
            yield TIMED_OUT.at(path, 0, **words)
        elif run.reason and not run.of_kind("refused"):
            own = {module.path for module in script.modules}
            where = next((each for each in reversed(run.traceback) if each[0] in own), (path, 0))
            yield FAILED.at(*where, reason=run.reason, script=path)
    first = runs[0]
    whole = not first.reason and not first.timeout_s
    if whole and not any(map(first.of_kind, ("fit", "trained", "applied"))):
        yield NO_TRAINING.at(path, 0, script=path)
    divided = not candle_options(script).has("shard", False)
    found = [*_trainings(first)]
    for one, second_run in zip(first.of_kind("fit"), runs[-1].of_kind("fit"), strict=False):
        found += _differences(one, second_run)
    # With shard=False, each rank may have its own data.
    of_data = (DIFFERENT_DATA.code, UNSEEDED_ORDER.code)
    yield from (each for each in found if divided or each.code not in of_data)
    yield from _files(first, script)
    yield from _loops(first, script)


def _trainings(run: DryRun) -> Iterator[Finding]:
    for fact in run.of_kind("fit"):
        where, method = fact["lines"][0], fact["method"]
        if fact["data"] == "generator":
            yield GENERATOR.at(*where, method=method)
        if fact["unseeded"]:
            yield UNSEEDED_ORDER.at(*where, method=method)
    for fact in run.of_kind("callback"):
        yield BATCH_HOOKS.at(
            *fact["lines"][0], name=fact["name"], hooks=" and ".join(fact["hooks"])
        )


def _differences(one: Fact, second_run: Fact) -> Iterator[Finding]:
    where, method = one["lines"][0], one["method"]
    if one["lines"] != second_run["lines"]:
        return
    pairs = zip(one["fingerprint"], second_run["fingerprint"], strict=False)
    different = [(a, b) for a, b in pairs if a != b]
    if len(one["fingerprint"]) != len(second_run["fingerprint"]):
        different = [(f"{len(f['fingerprint'])} arrays" for f in (one, second_run))]  # type: ignore[list-item]
    if different:
        first, second = different[0]
        yield DIFFERENT_DATA.at(*where, method=method, first=first, second=second)
    if one["model"] != second_run["model"]:
        yield DIFFERENT_MODELS.at(*where, method=method)


def _files(run: DryRun, script: Script) -> Iterator[Finding]:
    if script.auto:
        return  # each rank but root writes into a folder of its own
    for kind, name in ((WRITE, "written"), (ELSEWHERE, "refused")):
        for fact in run.of_kind(name):
            if not any(_on_some_ranks(script, *line) for line in fact["lines"]):
                where = fact["lines"][0]
                yield kind.at(*where, call=script.line(*where), file=fact["file"])


def _on_some_ranks(script: Script, path: str, line: int) -> bool:
    """Return whether a line is inside a test for the rank."""
    for module in script.modules:
        if module.path != path:
            continue
        here = [node for node in module.nodes if getattr(node, "lineno", 0) == line]
        if any(script.ranks.guard(module, node) is not None for node in here):
            return True
    return False


def _loops(run: DryRun, script: Script) -> Iterator[Finding]:
    """Yield findings for gradients applied outside of fit, by calls that reading misses."""
    read = lines_read(script)
    for fact in run.of_kind("applied"):
        where = fact["lines"][0]
        if tuple(where) not in read:
            yield loop_finding(script, *where, of_model=fact["compiled"])
