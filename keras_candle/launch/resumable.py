"""Whether a program may resume: its script, or a module beside it, names CandleCallback.

While the program still imports, its source is all that is known of it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

_MOST_FILES = 300
_CALLBACK = "CandleCallback"
_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(.+)|import[ \t]+(.+))", re.M)


def may_resume(arguments: Sequence[str]) -> bool:
    """Return whether a program names CandleCallback, or a file of its folder that it imports.

    Args:
        arguments: ["script.py", ...] or ["-m", "package.module", ...].
    """
    if arguments[0] == "-m":
        start = _file_of_module(arguments[1])
        folder = Path.cwd()
    else:
        start = Path(arguments[0])
        start = start / "__main__.py" if start.is_dir() else start
        folder = Path(arguments[0]).resolve().parent
    waiting, seen = [start] if start else [], set[Path]()
    while waiting and len(seen) < _MOST_FILES:
        path = waiting.pop().resolve()
        if path in seen:
            continue
        seen.add(path)
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        if _CALLBACK in text:
            return True
        waiting += [file for name in _imported(text) for file in _files(name, path, folder)]
    return False


def _imported(text: str) -> Iterator[str]:
    """Yield the names of modules that a source imports; some may be names in a module."""
    for source, names, modules in _IMPORT.findall(text):
        words = re.findall(r"[\w.]+", names or modules)
        if source:
            yield source
            dot = "" if source.endswith(".") else "."
            words = [f"{source}{dot}{word}" for word in words]
        yield from words


def _files(name: str, importer: Path, folder: Path) -> Iterator[Path]:
    dots = len(name) - len(name.lstrip("."))
    base = importer.parents[dots - 1] if 0 < dots <= len(importer.parents) else folder
    path = base.joinpath(*name.strip(".").split("."))
    for each in (path.parent / f"{path.name}.py", path / "__init__.py"):
        if each.is_file():
            yield each


def _file_of_module(name: str) -> Path | None:
    """Find a module's file without importing its package."""
    where: Sequence[str] | None = [str(Path.cwd()), *sys.path]
    parts = name.split(".")
    origin: str | None = None
    for number in range(len(parts)):
        spec = PathFinder.find_spec(".".join(parts[: number + 1]), where)
        if spec is None:
            return None
        origin, where = spec.origin, spec.submodule_search_locations
    if where is not None:  # a package runs its __main__
        return Path(next(iter(where)), "__main__.py")
    return Path(origin) if origin else None
