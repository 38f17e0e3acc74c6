"""Findings about state of layers and models that no optimizer updates."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from keras_candle.lint.batch_values import (
    StepFunction,
    assigned_to_self,
    attribute_of_self,
    calls_in,
    last_name,
    step_functions,
)
from keras_candle.lint.candle_usage import candle_options
from keras_candle.lint.draws import GENERATORS, Draw, Seeds, draw_of, shown, unseeded
from keras_candle.lint.finding import WARNING, Finding, FindingKind
from keras_candle.lint.names import Module, argument, constant
from keras_candle.lint.script import Script

CONSTANT = FindingKind(
    "layer-constant",
    WARNING,
    "{call} draws {attribute} of {name} without a seed",
    "each rank draws a value of its own: at the start of fit all ranks take the root's, and before "
    "it their models compute different outputs from the same weights",
    "{remedy}; or keep it as a weight: self.add_weight(..., trainable=False)",
)
WEIGHT = FindingKind(
    "state-of-the-batch",
    WARNING,
    "{call} computes a weight of {name} from the rows of the batch",
    'each rank computes it from its own rows: with batch="global" keras_candle refuses that, else '
    "all ranks take the root's at the end of each epoch",
    "compute it from candle.gather_rows(rows), the rows of all ranks; or name the weight and "
    'candle.register_state_reduction({name}, {{"...": "mean"}})',
)
VARIABLE = FindingKind(
    "variable-of-the-batch",
    WARNING,
    "{call} computes a tf.Variable of {name} from the rows of the batch",
    'each rank computes it from its own rows: with batch="global" keras_candle refuses that, else '
    "all ranks take the root's at the end of each epoch",
    "compute it from candle.gather_rows(rows), the rows of all ranks",
)
KINDS = (CONSTANT, WEIGHT, VARIABLE)

_ASSIGN = ("assign", "assign_add", "assign_sub")
_UPDATES = ("keras.backend.update", "keras.backend.update_add", "keras.backend.update_sub")
_VARIABLES = ("tensorflow.Variable", "tensorflow.compat.v1.Variable")
_WEIGHTS = ("add_weight", "add_variable")
_KERAS_VARIABLES = ("keras.Variable", "keras.backend.Variable", "keras.variable")
# Calls that keep what is drawn in their argument.
_KEEPING = ("numpy.", "tensorflow.", "keras.ops.", "keras.backend.", "keras.initializers.")
_PARTS = (
    *(ast.BinOp, ast.UnaryOp, ast.Compare, ast.Attribute, ast.Subscript),
    *(ast.List, ast.Tuple, ast.ListComp),
)
_PLAIN = ("float", "int", "abs", "list", "tuple")
_COPIES = ("astype", "reshape", "transpose", "numpy", "copy", "tolist")


def find(script: Script) -> Iterator[Finding]:
    """Yield the findings of `KINDS` in a script."""
    functions = step_functions(script, "model", "layer")
    seeds = Seeds(script)
    for kind in ("layer", "model"):
        for module, owner in script.classes(kind):
            yield from _constants(script, module, owner, functions, seeds)
    if not candle_options(script).has("shard", False):
        yield from _from_batch(script, functions)


def _constants(
    script: Script,
    module: Module,
    owner: ast.ClassDef,
    functions: list[StepFunction],
    seeds: Seeds,
) -> Iterator[Finding]:
    read = {
        attribute_of_self(node)
        for function in functions
        if function.entry.owner is owner
        for node in ast.walk(function.node)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    made = [
        each
        for method in owner.body
        if isinstance(method, ast.FunctionDef) and method.name in ("__init__", "build")
        for each in assigned_to_self(method)
    ]
    for attribute, value in made:
        if attribute not in read or "seed" in attribute.lower():
            continue
        for call, draw in _kept_draws(script, module, value):
            if not seeds.reach(draw, module, call):
                words = {"call": shown(call), "attribute": f"self.{attribute}", "name": owner.name}
                yield CONSTANT.at(module.path, call.lineno, remedy=draw.remedy, **words)


def _kept_draws(script: Script, module: Module, value: ast.expr) -> Iterator[tuple[ast.Call, Draw]]:
    """Yield the unseeded draws of which a value consists, unless a weight is made of them."""
    waiting: list[ast.AST] = [value]
    for node in waiting:  # grows as it goes
        if isinstance(node, ast.Name):
            waiting += [each for each in module.bound(node) if each not in waiting]
        elif isinstance(node, ast.Call):
            draw = draw_of(script, module, node)
            if draw is not None and module.dotted(node.func) not in GENERATORS:
                yield node, draw
            elif made := unseeded(script, module, node):
                yield node, Draw("own", f"{ast.unparse(made.func)}(0)")
            elif _keeps(module, node):
                waiting += [*node.args, node.func]
        elif isinstance(node, _PARTS):
            waiting += ast.iter_child_nodes(node)


def _keeps(module: Module, call: ast.Call) -> bool:
    name = module.dotted(call.func)
    if name in _KERAS_VARIABLES or name.startswith("keras.initializers."):
        return False
    if isinstance(call.func, ast.Attribute) and call.func.attr in _COPIES:
        return True
    return name in _PLAIN or (name.startswith(_KEEPING) and "()" not in name)


def _from_batch(script: Script, functions: list[StepFunction]) -> Iterator[Finding]:
    registered = {
        ast.unparse(call.args[0])
        for _, call, name in script.calls()
        if name.endswith("register_state_reduction") and call.args
    }
    owners = {node for kind in ("model", "layer") for _, node in script.classes(kind)}
    for function in functions:
        owner = _owner(function, owners)
        if owner is None:
            continue
        for call, target, value in _assigned(function):
            kind = _kind_of(script, function.module, owner, target)
            if kind is None or not function.holds_batch(value):
                continue
            if kind is VARIABLE or owner.name not in registered:
                words = {"call": f"{ast.unparse(call.func)}(...)", "name": owner.name}
                yield kind.at(function.module.path, call.lineno, **words)


def _owner(function: StepFunction, owners: set[ast.ClassDef]) -> ast.ClassDef | None:
    parent = function.module.parents.get(function.node)
    return parent if isinstance(parent, ast.ClassDef) and parent in owners else None


def _assigned(function: StepFunction) -> Iterator[tuple[ast.Call, str, ast.expr]]:
    """Yield the assignments to variables of self: the call, the attribute and the value."""
    for call in calls_in(function.node):
        target: ast.AST | None = None
        if isinstance(call.func, ast.Attribute) and call.func.attr in _ASSIGN and call.args:
            target, value = call.func.value, call.args[0]
        elif function.module.dotted(call.func) in _UPDATES and len(call.args) > 1:
            target, value = call.args[0], call.args[1]
        while isinstance(target, ast.Subscript):
            target = target.value
        if target is not None and attribute_of_self(target):
            yield call, attribute_of_self(target), value


def _kind_of(
    script: Script, module: Module, owner: ast.ClassDef, attribute: str
) -> FindingKind | None:
    for base_module, base in script.objects.bases(module, owner):
        for name, value in assigned_to_self(base):
            made = base_module.dotted(value.func) if isinstance(value, ast.Call) else ""
            if name != attribute or not made:
                continue
            if made in _VARIABLES:
                return VARIABLE
            is_weight = last_name(value.func) in _WEIGHTS or made in _KERAS_VARIABLES  # type: ignore[attr-defined]
            if is_weight and constant(argument(value, "trainable")) is False:  # type: ignore[arg-type]
                return WEIGHT
    return None
