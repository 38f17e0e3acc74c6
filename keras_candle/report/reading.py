"""Files that may be missing, cut or damaged: what can be read of them, and what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# A journal of a million epochs is shorter; more would be no journal.
_LARGEST_BYTES = 512 << 20
# What is larger is as good as infinite, and its square or its sum with others would be.
_LARGEST = 1e100


def json_of(path: Path, missing: list[str]) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none.

    Args:
        path: the file.
        missing: gets a sentence when it is there and cannot be read.
    """
    try:
        found = json.loads(_read(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as cause:
        missing.append(f"{path.name} cannot be read ({cause}).")
        return {}
    if not isinstance(found, dict):
        missing.append(f"{path.name} holds {type(found).__name__}, expected an object.")
        return {}
    return found


def lines_of(path: Path, missing: list[str]) -> list[dict[str, Any]]:
    """The objects in a file with one in each line; a line that is cut is left out.

    Args:
        path: the file.
        missing: gets a sentence when lines are left out or the file cannot be read. The last line
            may be under way and is no reason for one.
    """
    try:
        lines = _read(path).split("\n")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as cause:
        missing.append(f"{path.name} cannot be read ({cause}).")
        return []
    found, damaged = [], 0
    for number, line in enumerate(lines):
        try:
            value = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            damaged += number < len(lines) - 1
            continue
        if isinstance(value, dict):
            found.append(value)
        elif value is not None:
            damaged += 1
    if damaged:
        said = "1 line is" if damaged == 1 else f"{damaged} lines are"
        missing.append(f"{path.name}: {said} damaged and left out.")
    return found


def number(value: object) -> float | None:
    """A number as a float; None for everything else, and for one that no axis can hold.

    Example:
        >>> number(3), number(True), number("3"), number(float("nan"))
        (3.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if abs(found) <= _LARGEST else None


def numbers(value: object) -> dict[str, float]:
    """The finite numbers of an object, by name; empty for what is none."""
    if not isinstance(value, dict):
        return {}
    found = {str(name): number(each) for name, each in value.items()}
    return {name: each for name, each in found.items() if each is not None}


def table(value: object) -> dict[str, Any]:
    """An object; an empty one for everything else."""
    return value if isinstance(value, dict) else {}


def rows(value: object) -> list[dict[str, Any]]:
    """The objects of a list; empty for what is none."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _read(path: Path) -> str:
    size = path.stat().st_size
    if size > _LARGEST_BYTES:
        raise ValueError(f"it has {size} bytes, at most {_LARGEST_BYTES} are read")
    return path.read_bytes().decode(errors="replace")
