"""Follow the data of a training backwards to their sources, by simple names."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from keras_candle.lint.names import Function, Module
from keras_candle.lint.script import Script

_DATA = ("x", "y", "generator", "sample_weight", "validation_data")
_FURTHEST = 4000


class Flow:
    """Follow expressions of a script to the calls that make their values.

    Args:
        script: the script.
    """

    def __init__(self, script: Script) -> None:
        self._functions: dict[str, list[tuple[Module, Function]]] = {}
        for module, function in script.functions():
            self._functions.setdefault(function.name, []).append((module, function))
        self._callers: dict[str, list[tuple[Module, ast.Call]]] = {}
        # x of random.shuffle(x), where nothing is assigned
        self._changed: dict[tuple[str, str], list[ast.Call]] = {}
        for module, call, dotted in script.calls():
            self._callers.setdefault(dotted.split(".")[-1], []).append((module, call))
            if dotted in ("random.shuffle", "numpy.random.shuffle") and call.args:
                key = (module.path, ast.unparse(call.args[0]))
                self._changed.setdefault(key, []).append(call)

    def sources(self, module: Module, expression: ast.AST) -> Iterator[tuple[Module, ast.Call]]:
        """Yield the calls that an expression's value may come from."""
        for owner, node in self.nodes(module, expression):
            if isinstance(node, ast.Call):
                yield owner, node

    def nodes(self, module: Module, expression: ast.AST) -> Iterator[tuple[Module, ast.AST]]:
        """Yield the expressions, with their parts, that an expression's value may come from."""
        waiting = [(module, expression)]
        seen = {id(expression)}
        for module_, node in waiting:  # grows as it goes
            for each in ast.walk(node):
                yield module_, each
                for further in self._before(module_, each):
                    if id(further[1]) not in seen and len(seen) < _FURTHEST:
                        seen.add(id(further[1]))
                        waiting.append(further)

    def _before(self, module: Module, node: ast.AST) -> Iterator[tuple[Module, ast.AST]]:
        if isinstance(node, ast.Call):
            for owner, function in self._functions.get(_name(node.func), []):
                yield from ((owner, value) for value in _returned(owner, function))
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            for call in self._changed.get((module.path, ast.unparse(node)), []):
                yield module, call
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            values = module.bound(node)
            yield from ((module, value) for value in values)
            if not values:
                yield from self._given(module, node)

    def _given(self, module: Module, name: ast.Name) -> Iterator[tuple[Module, ast.AST]]:
        """Yield the arguments that a parameter gets where its function is called."""
        function = module.function(name)
        if function is None:
            return
        names = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
        if name.id not in names:
            return
        position = names.index(name.id) - (names[0] in ("self", "cls"))
        for owner, call in self._callers.get(function.name, []):
            by_name = [word.value for word in call.keywords if word.arg == name.id]
            by_place = call.args[position : position + 1] if position >= 0 else []
            yield from ((owner, value) for value in by_name or by_place)


def data_of(call: ast.Call) -> list[ast.expr]:
    """Return the data arguments of a call of fit or train_on_batch."""
    by_name = [word.value for word in call.keywords if word.arg in _DATA]
    return [*call.args[:2], *by_name]


def _name(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def _returned(module: Module, function: Function) -> Iterator[ast.expr]:
    for node in ast.walk(function):
        gives = isinstance(node, ast.Return | ast.Yield) and module.function(node) is function
        value = getattr(node, "value", None) if gives else None
        if value is not None:
            yield value
