"""Private names of other libraries, which stand in keras_candle/keras_private alone.

    python -m tests.private_names

`make lint` runs it. It finds modules such as `keras.src` in imports and strings, and attributes
that begin with an underscore and are not defined by keras_candle itself.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
_MODULES = re.compile(r"\b(?:keras\.src|tensorflow\.python|keras_tuner\.src)\b")
# Documented, although they begin with an underscore.
_PUBLIC = {"_getframe", "_current_frames", "_exit", "_replace", "_asdict", "_fields"}
# What the linter looks for in users' scripts.
_ALLOWED = {"keras_candle/lint/names.py", "keras_candle/lint/model_definition.py"}


def findings(sources: Mapping[str, str]) -> Iterator[str]:
    """A line for each private name of another library.

    Args:
        sources: modules by path.
    """
    trees = {path: ast.parse(source) for path, source in sources.items()}
    defined = {path: set(_defined(tree)) for path, tree in trees.items()}
    anywhere = set().union(*defined.values())
    for path, tree in trees.items():
        if path in _ALLOWED:
            continue
        skipped = {id(each) for each in [*_docstrings(tree), *_parts_of_strings(tree)]}
        for node in ast.walk(tree):
            if name := _foreign_attribute(node, defined[path], anywhere) or (
                ""
                if id(node) in skipped
                else _foreign_module(node) or _foreign_string(node, anywhere)
            ):
                yield f"{path}:{node.lineno}: {name} belongs into keras_candle/keras_private"


def _defined(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _docstrings(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr):
                yield first.value


def _parts_of_strings(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield from node.values


def _foreign_module(node: ast.AST) -> str:
    names = []
    if isinstance(node, ast.ImportFrom):
        names = [node.module or ""]
    elif isinstance(node, ast.Import):
        names = [each.name for each in node.names]
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        names = [node.value]
    return next((name for name in names if _MODULES.search(name)), "")


def _foreign_string(node: ast.AST, anywhere: set[str]) -> str:
    """A string that is an attribute's name, for getattr and setattr somewhere else."""
    value = node.value if isinstance(node, ast.Constant) else None
    if not isinstance(value, str) or not re.fullmatch(r"_[a-z]+(?:_[a-z]+)+", value):
        return ""
    return "" if value in anywhere | _PUBLIC or value.startswith("_candle") else value


def _foreign_attribute(node: ast.AST, here: set[str], anywhere: set[str]) -> str:
    if isinstance(node, ast.Attribute):
        owner, name = node.value, node.attr
    elif (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("getattr", "hasattr", "setattr")
        and isinstance(node.args[1], ast.Constant)
    ):
        owner, name = node.args[0], str(node.args[1].value)
    else:
        return ""
    if not re.match(r"_(?!_|candle)", name) or name in _PUBLIC:
        return ""
    ours = anywhere if isinstance(owner, ast.Name) and owner.id in ("self", "cls") else here
    inherited = isinstance(owner, ast.Call) and ast.unparse(owner.func) == "super"
    return "" if name in ours or (inherited and name in here) else name


def main() -> int:
    """Prints all findings; 1 where there are some."""
    files = [
        each
        for each in sorted((ROOT / "keras_candle").rglob("*.py"))
        if each.parent.name != "keras_private"
    ]
    found = list(findings({str(each.relative_to(ROOT)): each.read_text() for each in files}))
    sys.stdout.writelines(f"{each}\n" for each in found)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
