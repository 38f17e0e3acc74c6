"""Give `candle run`'s standard input to root, and an empty one to all ranks but root.

hydra copies it to root through a pipe and ends the job where root does not keep up, and gives the
other ranks a pipe that never ends. On the launcher's own node root therefore reads the file, pipe
or terminal that the launcher was started with, and nothing is read ahead.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from keras_candle.launch.environment import STDIN


@contextmanager
def inheritable_stdin() -> Iterator[int]:
    """Duplicate this process's standard input for child processes to inherit."""
    try:
        os.fstat(0)
    except OSError:  # started without stdin: the next opened file would become it
        empty_stdin()
    descriptor = os.dup(0)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def stdin_id(descriptor: int) -> str:
    """Return the descriptor with its file's identity, which differs on another node.

    Args:
        descriptor: from `inheritable_stdin`.
    """
    status = os.fstat(descriptor)
    return f"{descriptor} {status.st_dev} {status.st_ino}"


def assign_stdin(rank: int, environment: Mapping[str, str]) -> None:
    """Set up a rank's standard input: inherited on root, empty elsewhere.

    Args:
        rank: root keeps its launcher's standard input if it inherited no descriptor.
        environment: the rank's variables.
    """
    inherited = _descriptor(environment.get(STDIN, ""))
    if rank == 0 and inherited is not None:
        os.dup2(inherited, 0)
    if rank > 0:
        empty_stdin()
    if inherited is not None:
        os.close(inherited)


def empty_stdin() -> None:
    """Replace standard input by an empty one."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null != 0:
        os.close(null)


def _descriptor(name: str) -> int | None:
    if not name:
        return None
    descriptor = int(name.partition(" ")[0])
    try:
        return descriptor if stdin_id(descriptor) == name else None
    except OSError:
        return None
