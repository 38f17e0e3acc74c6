"""Findings about the script's own metrics whose states do not add up over the ranks."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from keras_candle.lint.finding import ERROR, Finding, FindingKind
from keras_candle.lint.names import Module, argument, constant
from keras_candle.lint.script import Script

EXTREME = FindingKind(
    "metric-state",
    ERROR,
    "{metric} keeps the {extreme} of its batches in self.{attribute}",
    "keras_candle adds the ranks' states up, and refuses a state that is no sum",
    "candle.register_metric_reduction({metric}, {states}), by the names that add_weight(name=...) "
    "gives",
)
KINDS = (EXTREME,)

_REDUCTIONS = {
    **dict.fromkeys(("maximum", "max", "reduce_max"), ("largest value", "max")),
    **dict.fromkeys(("minimum", "min", "reduce_min"), ("smallest value", "min")),
}


def find(script: Script) -> Iterator[Finding]:
    """Yield the findings of `KINDS` in a script."""
    registered = {
        ast.unparse(call.args[0])
        for _, call, name in script.calls()
        if name.endswith("candle.register_metric_reduction") and call.args
    }
    for module, owner in script.classes("metric"):
        if owner.name not in registered:
            yield from _extremes(module, owner)


def _extremes(module: Module, owner: ast.ClassDef) -> Iterator[Finding]:
    found = list(_kept(owner))
    states = {_name_of(owner, attribute): reduction for _, attribute, (_, reduction) in found}
    for call, attribute, (extreme, _) in found:
        words = {"metric": owner.name, "attribute": attribute, "extreme": extreme}
        yield EXTREME.at(module.path, call.lineno, states=states, **words)


def _kept(owner: ast.ClassDef) -> Iterator[tuple[ast.Call, str, tuple[str, str]]]:
    """Yield each self.x.assign(maximum(self.x, ...)) with x and the kind of extreme."""
    for call in ast.walk(owner):
        if not isinstance(call, ast.Call) or len(call.args) != 1:
            continue
        target, value = call.func, call.args[0]
        assigns = isinstance(target, ast.Attribute) and target.attr == "assign"
        if not assigns or not isinstance(value, ast.Call):
            continue
        variable: ast.expr = target.value  # type: ignore[attr-defined]
        reduction = _REDUCTIONS.get(ast.unparse(value.func).rpartition(".")[2])
        same = [each for each in ast.walk(value) if ast.dump(each) == ast.dump(variable)]
        if reduction and same and isinstance(variable, ast.Attribute):
            yield call, variable.attr, reduction


def _name_of(owner: ast.ClassDef, attribute: str) -> str:
    """Return the name that the metric gives its variable, else the attribute's."""
    for node in ast.walk(owner):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            targets = [each.attr for each in node.targets if isinstance(each, ast.Attribute)]
            name = constant(argument(node.value, "name", 3))
            if attribute in targets and isinstance(name, str):
                return name
    return attribute
