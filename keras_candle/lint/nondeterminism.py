"""Findings about clocks and hash orders that differ on each rank."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from keras_candle.lint.finding import ERROR, INFO, WARNING, Finding, FindingKind
from keras_candle.lint.names import Module
from keras_candle.lint.script import TRAINING, Script

LOOP_BY_CLOCK = FindingKind(
    "loop-ends-by-clock",
    ERROR,
    "a clock decides when the loop with {method} on line {there} ends",
    "the ranks' clocks differ: one leaves the loop and the rest wait for it in {method}",
    "stop = bool(candle.engine.current().allreduce({test}, 'max')), and test that",
)
CALLBACK_BY_CLOCK = FindingKind(
    "batch-stop-by-clock",
    WARNING,
    "{name}.{hook} stops the training by a clock",
    "the ranks' clocks differ, so they want to stop at different batches",
    "do it in on_epoch_end, where keras_candle stops all ranks when one requests it",
)
SETS = FindingKind(
    "layers-in-hash-order",
    INFO,
    "layers are made in the order of a set",
    "it differs between processes unless PYTHONHASHSEED is set: candle run sets it, other "
    "launchers do not",
    "for {target} in sorted({iterable}):",
    by_auto=True,
)
KINDS = (LOOP_BY_CLOCK, CALLBACK_BY_CLOCK, SETS)

_CLOCKS = (
    *("time.time", "time.monotonic", "time.perf_counter", "time.process_time"),
    *("timeit.default_timer", "datetime.datetime.now", "datetime.datetime.utcnow"),
)
_AGREEING = ("keras_candle", "horovod", "mpi4py")
_BATCH_HOOKS = ("on_batch_end", "on_train_batch_end", "on_batch_begin", "on_train_batch_begin")


def find(script: Script) -> Iterator[Finding]:
    """Yield the findings of `KINDS` in a script."""
    for module, call, _ in script.method_calls(*TRAINING):
        yield from _loops_by_clock(module, call)
    for module, owner in script.classes("callback"):
        yield from _callbacks_by_clock(module, owner)
    yield from _sets(script)


def _loops_by_clock(module: Module, call: ast.Call) -> Iterator[Finding]:
    for loop in _loops_around(module, call):
        tests = [loop.test] if isinstance(loop, ast.While) else []
        tests += [
            node.test
            for node in ast.walk(loop)
            if isinstance(node, ast.If) and isinstance(node.body[-1], ast.Break | ast.Return)
        ]
        for test in tests:
            if _is_by_clock(module, test):
                method = call.func.attr  # type: ignore[attr-defined]
                words = {"method": method, "there": call.lineno, "test": ast.unparse(test)}
                yield LOOP_BY_CLOCK.at(module.path, test.lineno, **words)


def _loops_around(module: Module, node: ast.AST) -> Iterator[ast.For | ast.While]:
    for each in module.ancestors(node):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(each, ast.For | ast.While):
            yield each


def _is_by_clock(module: Module, test: ast.expr) -> bool:
    def names(node: ast.AST) -> str:
        return module.dotted(node.func) if isinstance(node, ast.Call) else ""

    agreed = module.find(test, lambda each: names(each).partition(".")[0] in _AGREEING)
    return agreed is None and module.find(test, lambda each: names(each) in _CLOCKS) is not None


def _callbacks_by_clock(module: Module, owner: ast.ClassDef) -> Iterator[Finding]:
    for hook in owner.body:
        if not isinstance(hook, ast.FunctionDef) or hook.name not in _BATCH_HOOKS:
            continue
        for node in ast.walk(hook):
            stops = isinstance(node, ast.If) and "stop_training" in ast.unparse(node)
            if stops and _is_by_clock(module, node.test):  # type: ignore[attr-defined]
                words = {"name": owner.name, "hook": hook.name}
                yield CALLBACK_BY_CLOCK.at(module.path, node.lineno, **words)  # type: ignore[attr-defined]


def _sets(script: Script) -> Iterator[Finding]:
    for module in script.modules:
        for node in module.nodes:
            if not isinstance(node, ast.For) or not _is_set(module, node.iter):
                continue
            calls = [each for each in ast.walk(node) if isinstance(each, ast.Call)]
            if any(module.dotted(each.func).startswith("keras.layers.") for each in calls):
                words = {"target": ast.unparse(node.target), "iterable": ast.unparse(node.iter)}
                yield SETS.at(module.path, node.lineno, **words)


def _is_set(module: Module, node: ast.expr) -> bool:
    values = module.bound(node) if isinstance(node, ast.Name) else [node]
    return any(
        isinstance(value, ast.Set | ast.SetComp)
        or (isinstance(value, ast.Call) and module.dotted(value.func) in ("set", "frozenset"))
        for value in values
    )
