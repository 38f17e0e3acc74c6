"""Files that are on the disk when a function returns, and never half there."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk.

    Raises:
        OSError: when they cannot be written there.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, content: bytes) -> None:
    """Put a file in its place as a whole: who reads it sees the one before or this one.

    Raises:
        OSError: with the path, when it cannot be written; what was there before stays.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)


def point(link: Path, target: str) -> None:
    """Make a relative symbolic link, in the place of one that is there already.

    Relative, so that it still points there when the folder has moved.
    """
    partial = link.with_name(f".{link.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    os.symlink(target, partial)
    try:
        os.replace(partial, link)
    finally:
        partial.unlink(missing_ok=True)
    sync(link.parent)
