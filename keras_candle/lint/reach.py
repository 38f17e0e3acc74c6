"""Find what a script never runs of the modules that it imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from keras_candle.lint.names import Function
from keras_candle.lint.script import Script


def unreached(script: Script) -> set[tuple[str, int]]:
    """Return the path and line of each statement that importing and calling by name never reach.

    These are functions and classes of imported modules to which nothing refers, and blocks under
    `if __name__ == "__main__":` there. A name reaches every definition of that name.
    """
    left: dict[ast.stmt, str] = {}
    waiting: list[ast.stmt] = []
    for module in script.modules:
        for node in module.tree.body:
            if module is script.main or not _waits(node):
                waiting.append(node)
            else:
                left[node] = module.path
    while waiting:
        names = set(_names(waiting.pop()))
        reached = [each for each in left if getattr(each, "name", None) in names]
        for each in reached:
            del left[each]
        waiting += reached
    return {
        (path, line)
        for node, path in left.items()
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def _waits(node: ast.stmt) -> bool:
    """Return whether importing a module does not run a statement of it."""
    if isinstance(node, Function | ast.ClassDef):
        return not node.decorator_list
    return isinstance(node, ast.If) and "__name__" in set(_names(node.test))


def _names(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Name):
            yield each.id
        elif isinstance(each, ast.Attribute):
            yield each.attr
        elif isinstance(each, ast.alias):
            yield each.name
        elif isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield each.value  # getattr(module, "name")
