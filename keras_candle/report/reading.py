"""Read files that may be missing, cut or damaged, and describe the damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# A journal of a million epochs is shorter; a larger file is no journal.
_LARGEST_BYTES = 512 << 20
# Larger numbers are treated as infinite: their squares and sums may overflow.
_LARGEST = 1e100


def json_of(path: Path, missing: list[str]) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one without the file.

    Args:
        path: the file.
        missing: gets a sentence if the file exists and cannot be read.
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
    """Return the objects in a file with one JSON object in each line; cut lines are left out.

    Args:
        path: the file.
        missing: gets a sentence if lines are left out or the file cannot be read. A cut last line
            adds none, as it may still be written.
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
        subject = "1 line is" if damaged == 1 else f"{damaged} lines are"
        missing.append(f"{path.name}: {subject} damaged and left out.")
    return found


def number(value: object) -> float | None:
    """Return a number as a float; None for anything else, and for one that is not finite or huge.

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
    """Return the finite numbers of an object, by name; empty if it is no object."""
    if not isinstance(value, dict):
        return {}
    found = {str(name): number(each) for name, each in value.items()}
    return {name: each for name, each in found.items() if each is not None}


def table(value: object) -> dict[str, Any]:
    """Return the value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def rows(value: object) -> list[dict[str, Any]]:
    """Return the objects of a list; empty if it is no list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _read(path: Path) -> str:
    size = path.stat().st_size
    if size > _LARGEST_BYTES:
        raise ValueError(f"it has {size} bytes, expected at most {_LARGEST_BYTES}")
    return path.read_bytes().decode(errors="replace")
