"""Large files, written from memory without a copy in the system's cache.

Beside a training the cache costs more than the disk: each of its pages is allocated, filled, and
given back when an older checkpoint goes, by a core that the training wants.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 4096
_PIECE_BYTES = 1 << 24


def aligned(size_bytes: int) -> NDArray[np.uint8]:
    """Zeros in memory as `write` wants it: whole blocks, the first one at a block's boundary.

    Args:
        size_bytes: at least so many.

    Returns:
        Bytes, one axis.
    """
    blocks = -(-size_bytes // BLOCK_BYTES)
    memory = np.zeros((blocks + 1) * BLOCK_BYTES, np.uint8)
    begin = -memory.ctypes.data % BLOCK_BYTES
    return memory[begin : begin + blocks * BLOCK_BYTES]


def write(path: Path, content: NDArray[np.uint8], size_bytes: int) -> None:
    """Write a new file, on the disk when this returns.

    The room is taken at once, so that a full disk is told before a byte is written.

    Args:
        path: a file that is not there yet.
        content: what `aligned` returned for the size.
        size_bytes: how long the file is to be.

    Raises:
        OSError: when the disk has no room, or cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        os.posix_fallocate(descriptor, 0, content.size)
        past_cache = _set_direct(descriptor, getattr(os, "O_DIRECT", 0))
        at = 0
        while at < content.size:
            try:
                at += os.pwrite(descriptor, content[at : at + _PIECE_BYTES].data, at)
            except OSError as cause:
                if cause.errno != errno.EINVAL or not past_cache:
                    raise
                past_cache = _set_direct(descriptor, 0)
        os.ftruncate(descriptor, size_bytes)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _set_direct(descriptor: int, flag: int) -> bool:
    """Whether the file is now written past the cache; not every file system can."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    others = flags & ~getattr(os, "O_DIRECT", 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, others | flag)
    except OSError:
        return False
    return bool(flag)
