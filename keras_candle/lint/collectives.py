"""Findings about work of all ranks together that only some ranks do."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from keras_candle.lint.candle_usage import candle_options
from keras_candle.lint.finding import ERROR, INFO, WARNING, Finding, FindingKind
from keras_candle.lint.names import Module
from keras_candle.lint.script import EVALUATION, TRAINING, Flow, Script, data_of

COLLECTIVE = FindingKind(
    "collective-on-some-ranks",
    ERROR,
    "{call} runs on some ranks only, by the test on line {guard}",
    "it is the work of all ranks together: the ranks that skip it hang or raise an error",
    "move {call} out of the test; keep only printing and writing inside",
)
CHANGING_CALLBACK = FindingKind(
    "callback-on-some-ranks",
    ERROR,
    "{name} is a callback of some ranks only, by the test on line {guard}",
    "it changes the training, so the ranks would no longer train in the same way",
    "give it to all ranks: callbacks=[{name}(...), ...] without a test",
)
OWN_CALLBACK = FindingKind(
    "own-callback-on-some-ranks",
    WARNING,
    "{name} is a callback of some ranks only, by the test on line {guard}",
    "its class uses self.model: the other ranks do not make its changes and evaluations",
    "give it to all ranks and test inside, where it prints or writes: if candle.is_root(): ...",
)
NEEDLESS_TEST = FindingKind(
    "callback-test-not-needed",
    INFO,
    "{name} is given to some ranks only, by the test on line {guard}",
    "keras_candle runs Keras's writing callbacks on the root only",
    "callbacks=[{name}(...), ...] without a test is enough",
)
DIFFERENT_MODEL = FindingKind(
    "model-differs-by-rank",
    ERROR,
    "{name} is made on some ranks only, by the test on line {guard}",
    "all ranks must hold the same model, or their gradients cannot be averaged",
    "build the same layers on every rank",
)
HAND_SHARD = FindingKind(
    "sharded-by-hand",
    ERROR,
    "{what} takes this rank's part of the data",
    "keras_candle shards the data of fit, so they would be sharded twice",
    "give fit the whole data; or use @candle.scalable(shard=False) and keep this line",
)

_CHANGING = (
    "BackupAndRestore",
    "EarlyStopping",
    "LearningRateScheduler",
    "ReduceLROnPlateau",
    "SwapEMAWeights",
    "TerminateOnNaN",
)
_OF_ALL_RANKS = ("keras_candle.get_file", "keras_candle.stage")
_BUILDING = ("keras.layers.", "keras.Input")
KINDS = (
    *(COLLECTIVE, CHANGING_CALLBACK, OWN_CALLBACK, NEEDLESS_TEST),
    *(DIFFERENT_MODEL, HAND_SHARD),
)


def find(script: Script) -> Iterator[Finding]:
    """Yield the findings of `KINDS` in a script."""
    yield from _collectives(script)
    yield from _callbacks(script)
    yield from _models(script)
    if not candle_options(script).has("shard", False):
        yield from _shards(script)


def _collectives(script: Script) -> Iterator[Finding]:
    ours = ((module, call) for module, call, dotted in script.calls() if dotted in _OF_ALL_RANKS)
    methods = ((module, call) for module, call, _ in script.method_calls(*TRAINING, *EVALUATION))
    for module, call in (*methods, *ours):
        guard = script.ranks.guard(module, call)
        if guard is not None and not _on_both_sides(guard, call):
            what = ast.unparse(call.func)
            yield COLLECTIVE.at(module.path, call.lineno, call=what, guard=_line(guard))


def _on_both_sides(guard: ast.AST, call: ast.Call) -> bool:
    """Return whether both branches call it: every rank runs one of them."""
    orelse = getattr(guard, "orelse", None)
    if not isinstance(guard, ast.If) or not orelse:
        return False
    name = ast.unparse(call.func).rpartition(".")[2]
    return all(_calls(block, name) for block in (guard.body, orelse))


def _calls(block: list[ast.stmt], name: str) -> bool:
    return any(
        name == (node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None))
        for statement in block
        for node in ast.walk(statement)
    )


def _callbacks(script: Script) -> Iterator[Finding]:
    own = {node.name: node for _, node in script.classes("callback")}
    for module, call, dotted in script.calls():
        name = dotted.split(".")[-1]
        if not dotted.startswith("keras.callbacks.") and name not in own:
            continue
        guard = script.ranks.guard(module, call)
        if guard is None:
            continue
        kind = CHANGING_CALLBACK if name in _CHANGING else NEEDLESS_TEST
        if name in own:
            kind = OWN_CALLBACK
            if "self.model" not in ast.unparse(own[name]):
                continue
        yield kind.at(module.path, call.lineno, name=name, guard=_line(guard))


def _models(script: Script) -> Iterator[Finding]:
    for module, call, dotted in script.calls():
        if not dotted.startswith(_BUILDING) or "()" in dotted:
            continue
        guard = script.ranks.guard(module, call, depth=0)
        if guard is not None and not _same_layers(module, guard):
            name = dotted.split(".")[-1]
            yield DIFFERENT_MODEL.at(module.path, call.lineno, name=name, guard=_line(guard))


def _same_layers(module: Module, guard: ast.AST) -> bool:
    """Return whether both branches of a test make the same layers, with different arguments."""
    if not isinstance(guard, ast.If) or not guard.orelse:
        return False
    sides = [
        [
            module.dotted(node.func)
            for statement in side
            for node in ast.walk(statement)
            if isinstance(node, ast.Call) and module.dotted(node.func).startswith(_BUILDING)
        ]
        for side in (guard.body, guard.orelse)
    ]
    return sides[0] == sides[1]


def _shards(script: Script) -> Iterator[Finding]:
    """Find shards taken by hand that reach a training."""
    flow = Flow(script)
    for module, call, _ in script.method_calls(*TRAINING):
        for expression in data_of(call):
            for owner, node in flow.nodes(module, expression):
                what = _part(script, owner, node)
                if what:
                    yield HAND_SHARD.at(owner.path, _line(node), what=what)


def _part(script: Script, module: Module, node: ast.AST) -> str:
    """Describe an expression that takes this rank's shard; else return ""."""
    if isinstance(node, ast.Subscript) and _is_strided_by_rank(script, module, node):
        return ast.unparse(node)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return ""
    ours = module.dotted(node.func).startswith("keras_candle.")
    by_rank = [script.ranks.depends_on_rank(module, each) for each in node.args]
    return "." + _tail(node) if node.func.attr == "shard" and any(by_rank) and not ours else ""


def _tail(call: ast.Call) -> str:
    return f"shard({', '.join(map(ast.unparse, call.args))})"


def _is_strided_by_rank(script: Script, module: Module, node: ast.Subscript) -> bool:
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    first = parts[0] if parts else None
    if not isinstance(first, ast.Slice) or not isinstance(node.ctx, ast.Load):
        return False
    bounds = [each for each in (first.lower, first.upper, first.step) if each is not None]
    return any(script.ranks.depends_on_rank(module, each) for each in bounds)


def _line(node: ast.AST) -> int:
    return int(getattr(node, "lineno", 0))
