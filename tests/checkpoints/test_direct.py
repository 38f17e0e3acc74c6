"""A file holds what was in memory, wherever it is written."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import numpy as np
import pytest

from keras_candle.checkpoints.writing import BLOCK_BYTES, aligned_memory, write_directly

SIZES = (1, BLOCK_BYTES, BLOCK_BYTES + 1, (1 << 24) + 5)


def filled(size):
    """Memory with something in it, and what a file of the size should hold."""
    memory = aligned_memory(size)
    assert memory.ctypes.data % BLOCK_BYTES == memory.size % BLOCK_BYTES == 0
    memory[:] = np.random.default_rng(size).integers(0, 256, memory.size, np.uint8)
    return memory, memory[:size].tobytes()


@pytest.mark.parametrize("size", SIZES)
def test_it_is_as_long_as_it_should_be(size, tmp_path):
    memory, expected = filled(size)
    write_directly(tmp_path / "file", memory, size)
    assert (tmp_path / "file").read_bytes() == expected


def test_a_file_system_in_memory():
    path = Path("/dev/shm") / f"candle-{os.getpid()}"  # noqa: S108
    memory, expected = filled(5000)
    try:
        write_directly(path, memory, 5000)
        assert path.read_bytes() == expected
    finally:
        path.unlink()


@pytest.mark.parametrize("refuses", ["the flag", "the write"])
def test_a_file_system_that_knows_only_its_cache(refuses, tmp_path, monkeypatch):
    fcntl_of_system, pwrite = fcntl.fcntl, os.pwrite
    refused = []

    def flags(descriptor, command, argument=0):
        if refuses == "the flag" and argument & os.O_DIRECT:
            refused.append(command)
            raise OSError(errno.EINVAL, "Invalid argument")
        return fcntl_of_system(descriptor, command, argument)

    def written(descriptor, content, offset):
        if fcntl_of_system(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
            refused.append(offset)
            raise OSError(errno.EINVAL, "Invalid argument")
        return pwrite(descriptor, content, offset)

    monkeypatch.setattr(fcntl, "fcntl", flags)
    monkeypatch.setattr(os, "pwrite", written)
    memory, expected = filled(9000)
    write_directly(tmp_path / "file", memory, 9000)
    assert (tmp_path / "file").read_bytes() == expected
    assert len(refused) == 1


def test_an_error_is_told(tmp_path, monkeypatch):
    def broken(descriptor, content, offset):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pwrite", broken)
    with pytest.raises(OSError, match="Input/output error"):
        write_directly(tmp_path / "file", filled(9000)[0], 9000)


def test_a_file_that_is_there_stays(tmp_path):
    (tmp_path / "file").write_text("here")
    with pytest.raises(FileExistsError):
        write_directly(tmp_path / "file", filled(9000)[0], 9000)
    assert (tmp_path / "file").read_text() == "here"
