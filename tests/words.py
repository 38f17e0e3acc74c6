"""Words that keras_candle keeps out of its names and of the first lines of its docstrings.

    python -m tests.words [PATH]...

`make lint` runs it. The words are in pyproject.toml, `[tool.words]`: private ones, where Keras, MPI
and HPC have a term.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


class Finding(NamedTuple):
    """A banned word, and where it is."""

    path: Path
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}"


def banned() -> dict[str, list[str]]:
    """The words and phrases of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["words"]


def findings(path: Path, source: str, words: dict[str, list[str]]) -> Iterator[Finding]:
    """The names and first lines of a module that have a banned word."""
    in_names, allowed = set(words["names"]), set(words["allowed"])
    first_line = re.compile(
        rf"(?<![\w`])(?:{'|'.join(words['first-lines'])})(?![\w`])", re.IGNORECASE
    )
    for line, name in [(1, path.stem), *_names(ast.parse(source))]:
        if name not in allowed and in_names.intersection(_parts(name)):
            yield Finding(path, line, f"the name {name}")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
            if found := first_line.search(re.sub(r"`[^`]*`", "``", first)):
                yield Finding(path, getattr(node, "lineno", 1), f"{found[0]!r} in {first!r}")


def _names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def _parts(name: str) -> list[str]:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().split("_")


def main(given: list[str]) -> int:
    """Prints all findings; 1 where there are some."""
    paths = [Path(each) for each in given] or [ROOT / "keras_candle"]
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*.py"))]
    words = banned()
    found = [each for file in sorted(files) for each in findings(file, file.read_text(), words)]
    for each in found:
        print(each)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
