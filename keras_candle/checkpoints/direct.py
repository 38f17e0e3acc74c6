"""Write large files from memory, bypassing the page cache (O_DIRECT).

During a training the cache costs more than the disk: a core that the training needs allocates and
fills each page, and frees it when an older checkpoint is removed.
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
    """Allocate zeroed memory for `write`: whole blocks that begin at a block boundary.

    Args:
        size_bytes: minimum size.

    Returns:
        uint8 [bytes].
    """
    blocks = -(-size_bytes // BLOCK_BYTES)
    memory = np.zeros((blocks + 1) * BLOCK_BYTES, np.uint8)
    begin = -memory.ctypes.data % BLOCK_BYTES
    return memory[begin : begin + blocks * BLOCK_BYTES]


def write(path: Path, content: NDArray[np.uint8], size_bytes: int) -> None:
    """Write a new file and wait until it is on the disk.

    The space is allocated first, so that a full disk raises before a byte is written.

    Args:
        path: a file that does not exist yet.
        content: memory of `aligned` for this size.
        size_bytes: size of the file.

    Raises:
        OSError: when the disk is full or cannot be written.
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
    """Set or clear O_DIRECT; return whether it is set. Not every file system has it."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    without_direct = flags & ~getattr(os, "O_DIRECT", 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, without_direct | flag)
    except OSError:
        return False
    return bool(flag)
