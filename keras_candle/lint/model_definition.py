"""Findings about a model's training steps, losses and layers."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from keras_candle.lint.batch_values import (
    Entry,
    StepFunction,
    calls_in,
    last_name,
    parameters,
)
from keras_candle.lint.candle_usage import candle_options
from keras_candle.lint.finding import ERROR, INFO, Finding, FindingKind
from keras_candle.lint.names import Function, Module, argument, constant
from keras_candle.lint.script import Script

ASSIGNED = FindingKind(
    "update-without-optimizer",
    ERROR,
    "{call} updates a variable with a gradient, past the optimizer",
    "keras_candle averages gradients on their way into an optimizer: this one stays the rank's own",
    "self.optimizer.apply(gradients, self.trainable_variables)",
)
SUMMED = FindingKind(
    "loss-is-a-sum",
    ERROR,
    "the loss of train_step is a sum over the batch: {text}",
    "gradients are averaged over the ranks by rows: the step of a sum would be as large as one "
    "rank's, not as the whole batch's",
    "{mean}",
)
NOT_REDUCED = FindingKind(
    "loss-not-reduced",
    ERROR,
    "{call} stays a vector, one loss for each row",
    "its gradient depends on how the ranks shard a batch, so keras_candle refuses it",
    "reduction='sum_over_batch_size', or 'sum'",
)
LOCAL_STATISTICS = FindingKind(
    "batch-norm-local",
    INFO,
    "BatchNormalization takes its statistics from one rank's rows",
    "with small batches that differs from one rank with the whole batch",
    "@candle.scalable(sync_batch_norm=True)",
)
SYNCHRONIZED = FindingKind(
    "batch-norm-synchronized",
    INFO,
    "BatchNormalization(synchronized=True)",
    "Keras alone would keep it local; keras_candle takes the statistics over all ranks, one more "
    "collective for each such layer and step",
    "nothing; remove it if the replica batch size is large enough",
)
STATEFUL = FindingKind(
    "stateful-layer",
    ERROR,
    "{text} continues each row from the state of the same row in the previous batch",
    "ranks shard batches, which would tear the sequences: fit and evaluate refuse it",
    "@candle.scalable(shard=False), with whole sequences for each rank; or stateful=False",
)
JIT = FindingKind(
    "jit-compile",
    INFO,
    "jit_compile=True",
    "collectives do not run in XLA: on several ranks the averaging happens outside of it",
    "nothing; remove it if steps are slower with it",
)
KINDS = (
    *(ASSIGNED, SUMMED, NOT_REDUCED),
    *(LOCAL_STATISTICS, SYNCHRONIZED, STATEFUL, JIT),
)

_SUMS = (
    "tensorflow.reduce_sum",
    "keras.ops.sum",
    "keras.backend.sum",
    "tensorflow.math.reduce_sum",
)
_REDUCING = ("mean", "reduce_mean", "matmul", "einsum", "dot", "tensordot")
_STEPS = ("train_step", "_train_step")


def find(script: Script) -> Iterator[Finding]:
    """Yield the findings of `KINDS` in a script."""
    for module, owner in script.classes("model"):
        for function in owner.body:
            if isinstance(function, ast.FunctionDef) and function.name in _STEPS:
                yield from _assignments(module, function)
                parts = StepFunction(
                    module, function, Entry(module, owner, function.name), parameters(function)
                )
                yield from _sums(parts)
    yield from _reductions(script)
    yield from _batch_norm(script)
    yield from _stateful(script)
    for module, call, _ in script.method_calls("compile"):
        if constant(argument(call, "jit_compile")) is True:
            yield JIT.at(module.path, call.lineno)


def _assignments(module: Module, function: Function) -> Iterator[Finding]:
    gradients = _names_of_gradients(function)
    for call in calls_in(function):
        named = isinstance(call.func, ast.Attribute) and call.func.attr in ("assign_sub", "assign")
        used = {n.id for each in call.args for n in ast.walk(each) if isinstance(n, ast.Name)}
        if named and used & gradients:
            yield ASSIGNED.at(module.path, call.lineno, call=ast.unparse(call))


def _names_of_gradients(function: Function) -> set[str]:
    """Return the names that hold the result of tape.gradient, or a part of it."""
    names: set[str] = set()
    for _ in range(2):
        for node in ast.walk(function):
            target = value = None
            if isinstance(node, ast.Assign):
                target, value = node.targets[0], node.value
            elif isinstance(node, ast.For):
                target, value = node.target, node.iter
            if target is None or value is None:
                continue
            calls = [c.func.attr for c in calls_in(value) if isinstance(c.func, ast.Attribute)]
            read = [n.id for n in ast.walk(value) if isinstance(n, ast.Name)]
            if "gradient" in calls and isinstance(node, ast.Assign):
                names.update(n.id for n in ast.walk(target) if isinstance(n, ast.Name))
            elif isinstance(node, ast.For) and names.intersection(read):
                names.update(_same_places(target, value, names))
    return names


def _same_places(target: ast.expr, value: ast.expr, names: set[str]) -> Iterator[str]:
    """Yield the loop variables of gradients: g in `for g, v in zip(gradients, variables)`."""
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Call):
        for name, source in zip(target.elts, value.args, strict=False):
            if isinstance(name, ast.Name) and ast.unparse(source) in names:
                yield name.id


def _sums(step: StepFunction) -> Iterator[Finding]:
    """Yield findings for losses of tape.gradient that are a sum over the batch, or have one."""
    module = step.module
    for call in calls_in(step.node):
        if not isinstance(call.func, ast.Attribute) or call.func.attr != "gradient":
            continue
        loss = call.args[0] if call.args else None
        values = module.bound(loss) if isinstance(loss, ast.Name) else [loss]
        for value in _terms(values):
            if not isinstance(value, ast.Call) or module.dotted(value.func) not in _SUMS:
                continue
            if argument(value, "axis", 1) is None and _is_of_rows(step, value.args[0]):
                mean = ast.unparse(value).replace("reduce_sum", "reduce_mean")
                mean = mean.replace(".sum(", ".mean(", 1)
                yield SUMMED.at(module.path, value.lineno, text=ast.unparse(value), mean=mean)


def _is_of_rows(step: StepFunction, summed: ast.expr) -> bool:
    """Return whether a sum has terms for each row, which are not reduced over rows before."""

    def reduces(node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and last_name(node.func) in _REDUCING

    return step.holds_batch(summed) and step.module.find(summed, reduces) is None


def _terms(values: Sequence[ast.AST | None]) -> Iterator[ast.AST]:
    """Yield the terms of sums, and the factors of products."""
    waiting = [each for each in values if each is not None]
    for each in waiting:  # grows as it goes
        if isinstance(each, ast.BinOp) and isinstance(each.op, ast.Add | ast.Sub | ast.Mult):
            waiting += [each.left, each.right]
        else:
            yield each


def _reductions(script: Script) -> Iterator[Finding]:
    """Yield findings for compiled losses without a reduction."""
    for module, compiled, _ in script.method_calls("compile"):
        loss = argument(compiled, "loss", 1)
        if loss is None:
            continue

        def is_vector(node: ast.AST, module: Module = module) -> bool:
            if not isinstance(node, ast.Call):
                return False
            given = argument(node, "reduction")
            is_loss = module.dotted(node.func).startswith("keras.losses.")
            return is_loss and isinstance(given, ast.Constant) and given.value in (None, "none")

        found = module.find(loss, is_vector)
        if isinstance(found, ast.Call):
            yield NOT_REDUCED.at(module.path, found.lineno, call=ast.unparse(found))


def _batch_norm(script: Script) -> Iterator[Finding]:
    """Yield the first finding of each kind; more would repeat it."""
    reported: set[str] = set()
    by_option = candle_options(script).has("sync_batch_norm", True)
    for module, call, name in script.calls():
        if name != "keras.layers.BatchNormalization":
            continue
        synchronized = constant(argument(call, "synchronized")) is True
        kind = SYNCHRONIZED if synchronized else LOCAL_STATISTICS
        if kind.code not in reported and (synchronized or not by_option):
            reported.add(kind.code)
            yield kind.at(module.path, call.lineno)


def _stateful(script: Script) -> Iterator[Finding]:
    if candle_options(script).has("shard", False):
        return
    own = {node for _, node in script.classes("layer")}
    for module, call, name in script.calls():
        made = {node for _, node in script.objects.classes(module, call.func)}
        is_layer = name.startswith("keras.layers.") or made & own
        for given in _given(module, call, "stateful") if is_layer else ():
            if script.objects.may_be(module, given, True):
                text = f"{ast.unparse(call.func)}(stateful={ast.unparse(given)})"
                yield STATEFUL.at(module.path, call.lineno, text=text)
    for module in script.modules:
        for node in module.nodes:
            if isinstance(node, ast.Assign) and constant(node.value) is True:
                names = [each for each in node.targets if last_name(each) == "stateful"]
                if any(_is_of_layer(module, each, own) for each in names):
                    yield STATEFUL.at(module.path, node.lineno, text=ast.unparse(node))


def _given(module: Module, call: ast.Call, name: str) -> Iterator[ast.expr]:
    """Yield the values of an argument, also in a dict: f(**options)."""
    given = argument(call, name)
    if given is not None:
        yield given
    for word in call.keywords:
        if word.arg is None and isinstance(word.value, ast.Name):
            yield from filter(None, (_item(each, name) for each in module.bound(word.value)))


def _item(node: ast.expr, key: str) -> ast.expr | None:
    """Return the value of a key in a dict that is written out, None where there is none."""
    if isinstance(node, ast.Call) and last_name(node.func) == "dict":
        return argument(node, key)
    if not isinstance(node, ast.Dict):
        return None
    return next(
        (v for k, v in zip(node.keys, node.values, strict=True) if constant(k) == key), None
    )


def _is_of_layer(module: Module, target: ast.expr, own: set[ast.ClassDef]) -> bool:
    """Return whether an attribute is that of a layer: not of self in some class of the script."""
    if not isinstance(target, ast.Attribute):
        return False
    return ast.unparse(target.value) != "self" or any(
        each in own for each in module.ancestors(target)
    )
