"""Findings about lines for Horovod, for pinned GPUs and for distribution strategies."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from keras_candle.lint.finding import ERROR, WARNING, Finding, FindingKind
from keras_candle.lint.names import Module
from keras_candle.lint.script import Script

IMPORT = FindingKind(
    "horovod-import",
    WARNING,
    "horovod is imported{more}",
    "keras_candle starts its engine itself; with the mpi engine, Horovod sees one rank only",
    "import keras_candle as candle",
)
INIT = FindingKind(
    "horovod-init",
    WARNING,
    "{call}() starts Horovod",
    "keras_candle's engine starts it where it is needed",
    "remove the line",
)
RANKS = FindingKind(
    "horovod-rank",
    WARNING,
    "{call}() asks Horovod{more}",
    "only the current engine knows the ranks; Horovod returns 0 of 1 under the mpi engine",
    "candle.{name}()",
)
OPTIMIZER = FindingKind(
    "horovod-optimizer",
    ERROR,
    "{call} wraps the optimizer",
    "gradients would be averaged twice, the second time after the clipping",
    "remove the line, and put @candle.scalable on the function that builds the model",
)
TAPE = FindingKind(
    "horovod-tape",
    ERROR,
    "{call} wraps a GradientTape",
    "Horovod averages gradients that keras_candle averages again, or does not average at all",
    "with the model's own optimizer inside train_step, a plain tf.GradientTape is enough",
)
CALLBACK = FindingKind(
    "horovod-callback",
    ERROR,
    "{call} is Horovod's version of a feature of keras_candle",
    "it works on Horovod's ranks, and does not support Keras 3's variables",
    "{remedy}",
)
COLLECTIVE = FindingKind(
    "horovod-collective",
    WARNING,
    "{call}() is a collective of Horovod{more}",
    "under the mpi engine Horovod sees one rank only",
    "candle.engine.current() has allreduce, allgather, broadcast and barrier for NumPy arrays; "
    "start weights and metrics need none of them",
)
PINNING = FindingKind(
    "gpu-pinned-by-hand",
    WARNING,
    "{call} chooses this rank's GPU",
    "keras_candle gives each rank of a node one GPU; a second choice may find no such GPU",
    "remove the line",
)
STRATEGY = FindingKind(
    "distribution-strategy",
    ERROR,
    "{call} divides the work",
    "keras_candle divides it too, and refuses a model that was built in a strategy",
    "build the model outside of the strategy's scope, and remove the strategy",
)
KINDS = (IMPORT, INIT, RANKS, OPTIMIZER, TAPE, CALLBACK, COLLECTIVE, PINNING, STRATEGY)

_CALLBACKS = {
    "BroadcastGlobalVariablesCallback": "remove it: every rank starts from the root's weights",
    "MetricAverageCallback": "remove it: metrics are those of the whole data",
    "LearningRateWarmupCallback": "@candle.scalable(warmup_epochs=...)",
    "LearningRateScheduleCallback": "keras.callbacks.LearningRateScheduler(...)",
    "BestModelCheckpoint": "keras.callbacks.ModelCheckpoint(..., save_best_only=True)",
    "SyncBatchNormalization": "keras.layers.BatchNormalization(synchronized=True)",
    "CommitStateCallback": "keras.callbacks.BackupAndRestore(...)",
}
_ASKS = {"rank": "rank", "size": "size", "local_rank": "local_rank"}
_COLLECTIVES = ("allreduce", "allgather", "broadcast", "grouped_allreduce", "alltoall", "join")


def find(script: Script) -> Iterator[Finding]:
    """Yield the findings of `KINDS` in a script."""
    for module in script.modules:
        yield from _imports(module)
    for calls in _same_calls(script).values():
        (module, call, dotted), *repeated = calls
        name = dotted.rpartition(".")[2]
        kind = _kind(name)
        more = _more(sorted({each.lineno for _, each, _ in repeated} - {call.lineno}))
        words = {"call": ast.unparse(call.func), "name": name, "more": more}
        if kind is not None:
            remedy = _CALLBACKS.get(name, "")
            yield kind.at(module.path, call.lineno, remedy=remedy, **words)
    for module, call, dotted in script.calls():
        package, _, name = dotted.rpartition(".")
        shown = ast.unparse(call.func)
        pins = name == "set_visible_devices" and package.startswith("tensorflow.config")
        if pins and any(script.ranks.depends_on_rank(module, each) for each in call.args):
            yield PINNING.at(module.path, call.lineno, call=shown)
        if _is_strategy(package, name):
            yield STRATEGY.at(module.path, call.lineno, call=shown)


def _same_calls(script: Script) -> dict[tuple[str, str], list[tuple[Module, ast.Call, str]]]:
    """Group Horovod's calls by file and name, sorted by line."""
    same: dict[tuple[str, str], list[tuple[Module, ast.Call, str]]] = {}
    for module, call, dotted in script.calls():
        if dotted.startswith("horovod.") and "()" not in dotted:
            same.setdefault((module.path, dotted), []).append((module, call, dotted))
    return {key: sorted(calls, key=lambda c: c[1].lineno) for key, calls in same.items()}


def _imports(module: Module) -> Iterator[Finding]:
    lines = sorted(line for line, name in module.import_lines() if name.split(".")[0] == "horovod")
    for line in lines[:1]:
        yield IMPORT.at(module.path, line, more=_more(sorted({*lines} - {line})))


def _kind(name: str) -> FindingKind | None:
    exact = {
        "init": INIT,
        "DistributedOptimizer": OPTIMIZER,
        "DistributedAdasumOptimizer": OPTIMIZER,
        "DistributedGradientTape": TAPE,
        **dict.fromkeys(_CALLBACKS, CALLBACK),
        **dict.fromkeys(_ASKS, RANKS),
        **dict.fromkeys(_COLLECTIVES, COLLECTIVE),
    }
    if name.startswith("broadcast_"):
        return COLLECTIVE
    return exact.get(name)


def _is_strategy(package: str, name: str) -> bool:
    by_tensorflow = package.startswith("tensorflow.distribute") and name.endswith("Strategy")
    by_keras = package == "keras.distribution" and name in ("set_distribution", "DataParallel")
    by_torch = name == "DistributedDataParallel"
    return by_tensorflow or by_keras or by_torch


def _more(lines: list[int]) -> str:
    return f" (and on line {', '.join(map(str, lines))})" if lines else ""
