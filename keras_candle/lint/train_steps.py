"""Findings about a script's own training steps and about what counts them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from keras_candle.lint.batch_values import (
    STEPS,
    StepFunction,
    assigned_to_self,
    attribute_of_self,
    calls_in,
    last_name,
    step_functions,
)
from keras_candle.lint.candle_usage import candle_options
from keras_candle.lint.finding import ERROR, WARNING, Finding, FindingKind
from keras_candle.lint.names import Module, argument, constant
from keras_candle.lint.script import Script

OPTIMIZER = FindingKind(
    "optimizer-of-a-part",
    ERROR,
    "{call} applies gradients with an optimizer that is no attribute of {model}",
    "keras_candle averages the gradients of the model's own optimizers: these stay each rank's, "
    "and it stops with a DivergenceError after the first step",
    "make it one: self.{attribute} = {optimizer} in {model}.__init__",
)
COUNTER = FindingKind(
    "own-step-counter",
    WARNING,
    "{text} counts steps, and {use} depends on the count",
    'with batch="replica" N ranks take one step where one rank takes N: the count grows N times as '
    "slowly, and keras_candle corrects Keras's own schedules only",
    "{remedy}",
)
BATCH_SIZE = FindingKind(
    "batch-constant",
    ERROR,
    "{text} in {name} takes {size} for the number of rows",
    'it is the global batch size, and with batch="global" a rank has 1/N of these rows in a step',
    "take the number of rows from the step's tensors, tf.shape(x)[0]; divide a loss by it, or use "
    "tf.reduce_mean",
)
LAST_BATCH = FindingKind(
    "batch-constant-in-last-step",
    WARNING,
    "{text} in {name} takes {size} for the number of rows",
    "the ranks divide the last rows of an epoch, so that in its last step a rank often has fewer",
    BATCH_SIZE.remedy,
)
KINDS = (OPTIMIZER, COUNTER, BATCH_SIZE, LAST_BATCH)

_APPLY = ("apply_gradients", "apply")
_BATCH_HOOKS = ("on_batch_end", "on_train_batch_end", "on_batch_begin", "on_train_batch_begin")
_STARTS = ("__init__", "build", "on_train_begin", "set_model")
_CHANGES = ("learning_rate", ".lr", "set_value", ".assign(", "stop_training")
_CASTS = ("cast", "float", "int", "get_value", "read_value", "numpy")
_ORDERED = (ast.Eq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_SCHEDULES = ("sched", "decay", "anneal", "warm", "cosine", "cyclic")
_SHAPED = ("zeros", "ones", "range", "arange", "eye", "fill", "normal", "uniform", "reshape")
_BATCHING = ("batch", "fit", "padded_batch", "ragged_batch")


def find(script: Script) -> Iterator[Finding]:
    """Yield the findings of `KINDS` in a script."""
    steps = [each for each in step_functions(script, "model") if each.entry.name != "call"]
    options = candle_options(script)
    if not script.auto:  # `candle run --auto` averages the gradients of every optimizer
        yield from _optimizers(script, steps)
    if options.has("shard", False):
        return
    of_all = options.has("batch", "global")
    yield from _batch_sizes(script, steps, BATCH_SIZE if of_all else LAST_BATCH)
    if not of_all:
        yield from _counters(script)


def _optimizers(script: Script, steps: list[StepFunction]) -> Iterator[Finding]:
    for step in steps:
        owner = step.entry.owner
        if owner is None:
            continue
        kept = {ast.unparse(value) for value in _kept(script, step.entry.module, owner)}
        for call in calls_in(step.node):
            if not isinstance(call.func, ast.Attribute) or call.func.attr not in _APPLY:
                continue
            optimizer = call.func.value
            if ast.unparse(optimizer) not in kept and _is_of_a_part(script, step, optimizer):
                words = {"call": ast.unparse(call.func), "model": owner.name}
                words |= _as_attribute(step, optimizer)
                yield OPTIMIZER.at(step.module.path, call.lineno, **words)


def _as_attribute(step: StepFunction, optimizer: ast.expr) -> dict[str, str]:
    """Return the words for the assignment that makes an optimizer an attribute of the model."""
    text = ast.unparse(optimizer)
    attribute = re.sub(r"\W", "_", text.removeprefix("self."))
    owner = step.module.parents.get(step.node)
    if attribute_of_self(optimizer) and isinstance(owner, ast.ClassDef):
        text = f"the {owner.name}'s {attribute}"
    return {"attribute": attribute, "optimizer": text}


def _kept(script: Script, module: Module, owner: ast.ClassDef) -> Iterator[ast.expr]:
    """Yield the values that a model's class assigns to attributes, with items of lists."""
    for _, base in script.objects.bases(module, owner):
        for _, value in assigned_to_self(base):
            yield value
            if isinstance(value, ast.List | ast.Tuple | ast.Dict):
                yield from (each for each in ast.walk(value) if isinstance(each, ast.expr))


def _is_of_a_part(script: Script, step: StepFunction, optimizer: ast.expr) -> bool:
    """Return whether an optimizer surely is no attribute of the step's model."""
    if isinstance(optimizer, ast.Name):
        return _is_global(script, step.module, optimizer)
    owner = step.module.parents.get(step.node)
    if attribute_of_self(optimizer):
        layers = {node for _, node in script.classes("layer")}
        return owner in layers and _is_made_here(script, step.module, optimizer)
    part = optimizer.value if isinstance(optimizer, ast.Attribute) else None
    if part is None or not attribute_of_self(part) or owner is not step.entry.owner:
        return False
    options = candle_options(script)
    may_be_scaled = len(options.decorated) + len(options.scaled) > 1
    return _is_made_here(script, step.module, optimizer) or (
        optimizer.attr == "optimizer"  # type: ignore[attr-defined]
        and script.is_model(step.module, part)
        and not may_be_scaled
    )


def _is_made_here(script: Script, module: Module, node: ast.expr) -> bool:
    """Return whether the script makes the optimizer that an expression is."""
    return any(
        not origin.path
        and isinstance(origin.node, ast.Call)
        and origin.module.dotted(origin.node.func).startswith("keras.optimizers.")
        for origin in script.objects.origins(module, node)
    )


def _is_global(script: Script, module: Module, name: ast.Name) -> bool:
    """Return whether a name is an optimizer of the module that no model is given."""
    made = module.bound(name)
    is_own = len(made) == 1 and module.dotted(made[0]).startswith("keras.optimizers.")
    if not is_own or not isinstance(made[0], ast.Call) or module.function(made[0]) is not None:
        return False
    given = {
        each.id
        for owner, call, _ in script.calls()
        if owner is module
        for value in (*call.args, *(word.value for word in call.keywords))
        for each in ast.walk(value)
        if isinstance(each, ast.Name)
    }
    return name.id not in given


def _counters(script: Script) -> Iterator[Finding]:
    for kind, hooks in (("model", STEPS), ("callback", _BATCH_HOOKS)):
        for module, owner in script.classes(kind):
            if kind == "callback" and not _changes(owner):
                continue
            methods = {node.name: node for node in owner.body if isinstance(node, ast.FunctionDef)}
            for hook in filter(methods.get, hooks):
                for node, attribute in _counted(methods[hook]):
                    use = _use(script, module, owner, attribute)
                    if use and not _is_reset(methods, attribute, node):
                        yield COUNTER.at(
                            *(module.path, node.lineno),  # type: ignore[attr-defined]
                            text=ast.unparse(node),
                            use=use,
                            remedy=_by_size(node),
                        )


def _counted(function: ast.FunctionDef) -> Iterator[tuple[ast.AST, str]]:
    """Yield the statements that add 1 to an attribute of self, outside of loops and tests."""
    for statement in function.body:
        for node in ast.walk(statement) if isinstance(statement, ast.With) else [statement]:
            target, value = _addition(node)
            if target and isinstance(value, ast.AST) and _is_one(value):
                yield node, target


def _addition(node: ast.AST) -> tuple[str, ast.AST | None]:
    """Return the attribute of a statement that adds to it, with the number."""
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
        return attribute_of_self(node.target), node.value
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp):
        target = attribute_of_self(node.targets[0])
        added = node.value
        is_sum = isinstance(added.op, ast.Add) and attribute_of_self(added.left) == target
        return (target, added.right) if is_sum else ("", None)
    call = node.value if isinstance(node, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.args:
        target = attribute_of_self(call.func.value)
        if call.func.attr == "assign_add":
            return target, call.args[0]
        given = call.args[0]
        if call.func.attr == "assign" and isinstance(given, ast.BinOp):
            is_sum = isinstance(given.op, ast.Add) and attribute_of_self(given.left) == target
            return (target, given.right) if is_sum else ("", None)
    return "", None


def _is_one(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and len(node.args) >= 1:  # tf.constant(1, tf.int64)
        return last_name(node.func) in ("constant", "cast") and _is_one(node.args[0])
    return isinstance(node, ast.Constant) and node.value in (1, 1.0) and node.value is not True


def _use(script: Script, module: Module, owner: ast.ClassDef, attribute: str) -> str:
    """Return the expression that a schedule makes of a count, "" where there is none."""
    for method in owner.body:
        if not isinstance(method, ast.FunctionDef):
            continue
        names = {
            each.targets[0].id
            for each in ast.walk(method)
            if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name)
            if attribute_of_self(_without_casts(each.value)) == attribute
        }
        for node in ast.walk(method):
            is_name = isinstance(node, ast.Name) and node.id in names
            if (is_name or attribute_of_self(node) == attribute) and isinstance(node.ctx, ast.Load):  # type: ignore[attr-defined]
                used = _scheduled(script, module, node)
                if used is not None:
                    return ast.unparse(used)
    return ""


def _without_casts(node: ast.AST) -> ast.AST:
    while isinstance(node, ast.Call) and last_name(node.func) in _CASTS and node.args:
        node = node.args[0]
    return node


def _scheduled(script: Script, module: Module, node: ast.AST) -> ast.expr | None:
    """Return the quotient, power, comparison or schedule that a count is part of."""
    parent = module.parents.get(node)
    while isinstance(parent, ast.Call) and last_name(parent.func) in _CASTS:
        node, parent = parent, module.parents.get(parent)
    while isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Add | ast.Sub | ast.Mult):
        node, parent = parent, module.parents.get(parent)
    if isinstance(parent, ast.BinOp):
        is_share = isinstance(parent.op, ast.Div) and parent.left is node
        is_power = isinstance(parent.op, ast.Pow) and parent.right is node
        return parent if is_share or is_power else None
    if isinstance(parent, ast.Compare) and isinstance(parent.ops[0], _ORDERED):
        limit = constant(parent.comparators[0] if parent.left is node else parent.left)
        return parent if limit is None or (isinstance(limit, int) and limit >= 100) else None
    if isinstance(parent, ast.Call) and last_name(parent.func) in ("pow", "power"):
        return parent if node in parent.args[1:] else None
    call = module.parents.get(parent) if isinstance(parent, ast.keyword) else parent
    if isinstance(call, ast.Call) and _is_schedule(script, module, call):
        return call
    return None


def _is_schedule(script: Script, module: Module, call: ast.Call) -> bool:
    name = ast.unparse(call.func).lower()
    return any(word in name for word in _SCHEDULES) or (
        bool(script.objects.functions(module, call.func)) and ("rate" in name or "lr" in name)
    )


def _changes(callback: ast.ClassDef) -> bool:
    """Return whether a callback changes the training."""
    text = ast.unparse(callback)
    return any(word in text for word in _CHANGES)


def _is_reset(methods: dict[str, ast.FunctionDef], attribute: str, counted: ast.AST) -> bool:
    """Return whether a count begins anew during a training, as one of each epoch's batches."""
    for name, method in methods.items():
        if name in _STARTS:
            continue
        for node in ast.walk(method):
            if node is not counted and attribute in _reset_by(node):
                return True
    return False


def _reset_by(node: ast.AST) -> list[str]:
    """Return the attributes of self that a node sets to a value."""
    if isinstance(node, ast.Assign):
        return [attribute_of_self(each) for each in node.targets]
    if isinstance(node, ast.Call) and last_name(node.func) == "assign":
        owner = getattr(node.func, "value", node)
        return [attribute_of_self(owner)] if isinstance(node.args[0], ast.Constant) else []
    return []


def _by_size(node: ast.AST) -> str:
    text = ast.unparse(node)
    added = _addition(node)[1]
    one = ast.unparse(added) if added is not None else "1"
    before, _, after = text.rpartition(one)
    return f"{before}candle.size(){after}"


def _batch_sizes(script: Script, steps: list[StepFunction], kind: FindingKind) -> Iterator[Finding]:
    """Yield findings for the name of the batch size of `fit` or `batch` in a training step."""
    names = {each.lower() for each in _names_of_size(script, kind)}
    for step in steps:
        for node in ast.walk(step.node):
            size = node.id if isinstance(node, ast.Name) else attribute_of_self(node)
            if size.lower() not in names or not _is_number(script, step, node):
                continue
            use = _use_of_size(step.module, node)
            if use is not None:
                words = {"text": ast.unparse(use), "size": ast.unparse(node)}
                owner = step.entry.owner
                name = f"{owner.name if owner else ''}.{step.entry.name}"
                yield kind.at(step.module.path, use.lineno, name=name, **words)


def _is_number(script: Script, step: StepFunction, node: ast.AST) -> bool:
    """Return whether the name or attribute of self is a number that the script writes."""
    return any(
        not origin.path and isinstance(origin.node, ast.Constant)
        for origin in script.objects.origins(step.module, node)
    )


def _names_of_size(script: Script, kind: FindingKind) -> Iterator[str]:
    """Yield the names of batch sizes; without batch="global" those of arrays, which are divided."""
    for _, call, _ in script.calls():
        called = last_name(call.func)
        if kind is LAST_BATCH and called != "fit":
            continue
        given = argument(call, "batch_size", 0 if called in ("batch", "padded_batch") else None)
        if given is not None and (called in _BATCHING or called.endswith("from_directory")):
            name = last_name(given)
            if "batch" in name.lower():
                yield name


def _use_of_size(module: Module, node: ast.AST) -> ast.expr | None:
    """Return the division or the tensor's form with a batch size in it."""
    child: ast.AST = node
    for parent in module.ancestors(node):
        if isinstance(parent, ast.stmt):
            return None
        if isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Div):
            return parent if parent.right is child else None
        if isinstance(parent, ast.Call):
            shaped = last_name(parent.func) in _SHAPED
            return parent if shaped and child is not parent.func else None
        child = parent
    return None
