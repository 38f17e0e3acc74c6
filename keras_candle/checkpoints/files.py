"""Write files atomically and wait until they are on the disk."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk.

    Raises:
        OSError: when they cannot be written.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, content: bytes) -> None:
    """Write or replace a file atomically: a reader sees the earlier or the new content.

    Raises:
        OSError: with the path, when it cannot be written; the earlier file stays.
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
    """Create a symbolic link, or replace an existing one atomically.

    The link is relative, so that it stays valid when the folder is moved.
    """
    partial = link.with_name(f".{link.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    os.symlink(target, partial)
    try:
        os.replace(partial, link)
    finally:
        partial.unlink(missing_ok=True)
    sync(link.parent)
