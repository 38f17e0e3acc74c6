"""Read files that may be missing, cut or damaged, and describe the damage."""

import json
from pathlib import Path
from typing import Any

# A journal of a million epochs is shorter; a larger file is no journal.
_LARGEST_BYTES = 512 << 20
# Larger numbers are treated as infinite: their squares and sums may overflow.
_LARGEST = 1e100


def json_of(path: Path, missing: list[str]) -> dict[str, Any]:
    """Return the object in a JSON file; for a damaged one `missing` gets a sentence."""
    text = _text(path, missing)
    try:
        found = json.loads(text) if text is not None else {}
    except (ValueError, RecursionError) as cause:
        missing.append(f"{path.name} cannot be read ({cause}).")
        return {}
    if not isinstance(found, dict):
        missing.append(f"{path.name} holds {type(found).__name__}, expected an object.")
    return mapping(found)


def lines_of(path: Path, missing: list[str]) -> list[dict[str, Any]]:
    """Return the objects in a file of JSON lines; for damaged lines `missing` gets a sentence.

    A cut last line is left out in silence, as it may still be written.
    """
    found, damaged, lines = [], 0, (_text(path, missing) or "").split("\n")
    for place, line in enumerate(lines):
        try:
            value = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            damaged += place < len(lines) - 1
            continue
        damaged += not isinstance(value, dict | None)
        found.append(mapping(value))
    if damaged:
        subject = "1 line is" if damaged == 1 else f"{damaged} lines are"
        missing.append(f"{path.name}: {subject} damaged and left out.")
    return found


def _text(path: Path, missing: list[str]) -> str | None:
    try:
        size = path.stat().st_size
        if size > _LARGEST_BYTES:
            raise OSError(f"it has {size} bytes, expected at most {_LARGEST_BYTES}")
        return path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return None
    except OSError as cause:
        missing.append(f"{path.name} cannot be read ({cause}).")
        return None


def number(value: object) -> float | None:
    """Return a finite number as a float; None for anything else, and for a huge one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= _LARGEST else None


def whole(value: object) -> int | None:
    """Return a number as an integer; None for anything else."""
    found = number(value)
    return None if found is None else int(found)


def numbers(value: object) -> dict[str, float]:
    """Return the finite numbers of an object, by name; empty if it is no object."""
    found = {str(name): number(each) for name, each in mapping(value).items()}
    return {name: each for name, each in found.items() if each is not None}


def mapping(value: object) -> dict[str, Any]:
    """Return the value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    """Return the value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def mappings(value: object) -> list[dict[str, Any]]:
    """Return the objects of a list; empty if it is no list."""
    return [each for each in sequence(value) if isinstance(each, dict)]
