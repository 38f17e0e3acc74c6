"""Follow a batch through the methods and functions of a script that a training step runs."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Iterator

from keras_candle.lint.names import Function, Module
from keras_candle.lint.script import Script

STEPS = ("train_step",)
_ENTRIES = (*STEPS, "compute_loss", "call")
_NO_BATCH = ("self", "training", "mask", "return_attention_scores")
# Attributes and calls that ask for the form of a tensor, not for its values.
_FORMS = ("shape", "dtype", "ndim", "name")
_FORM_CALLS = ("shape", "len", "size", "rank", "zeros_like", "ones_like", "int_shape", "range")
# Calls that give every rank the same values.
_TOGETHER = ("gather_rows", "allreduce", "allgather", "broadcast")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A function with which a training step begins.

    Attributes:
        module: its module.
        owner: the class of which it is a method, None for a loss function.
        name: its name.
    """

    module: Module
    owner: ast.ClassDef | None
    name: str


@dataclasses.dataclass
class StepFunction:
    """A function that a training step runs.

    Attributes:
        module: its module.
        node: the function.
        entry: the function with which the step begins.
        batch: the parameters that hold rows of the batch, or what is computed from them.
    """

    module: Module
    node: Function
    entry: Entry
    batch: set[str]

    def holds_batch(self, node: ast.AST) -> bool:
        """Return whether an expression's values depend on the rows of the batch."""
        return self.comes_from(node, self._is_batch, values_in)

    def comes_from(
        self,
        node: ast.AST,
        is_source: Callable[[ast.AST], bool],
        parts: Callable[[ast.AST], Iterator[ast.AST]],
    ) -> bool:
        """Return whether a source goes into an expression, also by way of names.

        Args:
            node: the expression.
            is_source: whether a part of an expression is one.
            parts: yields an expression, and its parts that are looked into.
        """
        waiting, seen = [node], {node}
        for expression in waiting:  # grows as it goes
            for each in parts(expression):
                if is_source(each):
                    return True
                if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load):
                    values = [value for value in self.module.bound(each) if value not in seen]
                    seen.update(values)
                    waiting += values
        return False

    def _is_batch(self, node: ast.AST) -> bool:
        if not isinstance(node, ast.Name) or node.id not in self.batch:
            return False
        return any(
            isinstance(each.node, ast.arg) and self.module.function(each.node) is self.node
            for each in self.module.definitions(node)
        )


def step_functions(script: Script, *kinds: str) -> list[StepFunction]:
    """Find the functions that training steps run: from `train_step`, `compute_loss` and `call`.

    Args:
        script: the script.
        kinds: of the classes with these methods, as in `Script.classes`.
    """
    owners = {each[1]: each for kind in kinds for each in script.classes(kind)}
    starts = [
        StepFunction(module, method, Entry(module, owner, method.name), parameters(method))
        for module, owner in owners.values()
        for method in owner.body
        if isinstance(method, ast.FunctionDef) and method.name in _ENTRIES
    ]
    return reached_from(script, starts)


def reached_from(script: Script, starts: list[StepFunction]) -> list[StepFunction]:
    """Return functions with those that they call, and the parameters that get the batch."""
    found: dict[tuple[Function, Entry], StepFunction] = {}
    waiting = list(starts)
    for each in waiting:  # grows as it goes
        key = (each.node, each.entry)
        known = found.get(key)
        if known is not None and each.batch <= known.batch:
            continue
        if known is not None:
            each = dataclasses.replace(each, batch=each.batch | known.batch)  # noqa: PLW2901
        found[key] = each
        waiting += _called(script, each)
    return list(found.values())


def parameters(function: Function) -> set[str]:
    """Return the parameters of a function that may hold a batch."""
    given = (*function.args.posonlyargs, *function.args.args)
    return {each.arg for each in given if each.arg not in _NO_BATCH}


def _called(script: Script, caller: StepFunction) -> Iterator[StepFunction]:
    for call in calls_in(caller.node):
        for module, function in script.objects.functions(caller.module, call.func):
            given = _given(module, function, call)
            batch = {name for name, value in given if caller.holds_batch(value)}
            yield StepFunction(module, function, caller.entry, batch)


def _given(module: Module, function: Function, call: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    """Yield the parameters that a call gives, with their values."""
    names = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
    is_method = isinstance(module.parents.get(function), ast.ClassDef)
    places = names[1:] if is_method and names[:1] == ["self"] else names
    yield from zip(places, call.args, strict=False)
    yield from ((word.arg, word.value) for word in call.keywords if word.arg)


def calls_in(node: ast.AST) -> list[ast.Call]:
    """Return the calls in a node."""
    return [each for each in ast.walk(node) if isinstance(each, ast.Call)]


def last_name(node: ast.AST) -> str:
    """Return the last part of a name or attribute, "" for anything else."""
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def attribute_of_self(node: ast.AST) -> str:
    """Return the name of an attribute of self, "" for a node that is none."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.attr if node.value.id == "self" else ""
    return ""


def assigned_to_self(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield the attributes that the statements in a node assign to self, with their values."""
    for each in ast.walk(node):
        if isinstance(each, ast.Assign | ast.AnnAssign) and each.value is not None:
            for target in each.targets if isinstance(each, ast.Assign) else [each.target]:
                name = attribute_of_self(target)
                if name:
                    yield name, each.value


def values_in(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of an expression whose values it uses; not those used for their form."""
    waiting = [node]
    for each in waiting:  # grows as it goes
        if isinstance(each, ast.Attribute) and each.attr in _FORMS:
            continue
        if isinstance(each, ast.Call) and last_name(each.func) in (*_FORM_CALLS, *_TOGETHER):
            continue
        yield each
        waiting += ast.iter_child_nodes(each)
