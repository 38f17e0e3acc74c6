"""Who of the ranks reads `candle run`'s standard input: root alone, as MPI has it.

hydra copies it to root through a pipe and ends the job where root does not keep up, and gives the
other ranks a pipe that never ends. On the launcher's own node root therefore reads the very file,
pipe or terminal that the launcher was started with: nothing is read that root does not read.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from keras_candle.launch.environment import STDIN


@contextmanager
def handed_on() -> Iterator[int]:
    """A descriptor of this process's standard input that the processes it starts may inherit."""
    try:
        os.fstat(0)
    except OSError:  # it was started without any, and the next file would take its number
        read_nothing()
    descriptor = os.dup(0)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def named(descriptor: int) -> str:
    """What `take` finds the descriptor by: on another node it is another file, or none.

    Args:
        descriptor: what `handed_on` gave.
    """
    status = os.fstat(descriptor)
    return f"{descriptor} {status.st_dev} {status.st_ino}"


def take(rank: int, environment: Mapping[str, str]) -> None:
    """Make standard input what a rank has to read.

    Args:
        rank: root keeps what its launcher gave it where no descriptor was handed on to it.
        environment: the rank's variables.
    """
    handed = _descriptor(environment.get(STDIN, ""))
    if rank == 0 and handed is not None:
        os.dup2(handed, 0)
    if rank > 0:
        read_nothing()
    if handed is not None:
        os.close(handed)


def read_nothing() -> None:
    """Let standard input end at once."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    if nothing != 0:
        os.close(nothing)


def _descriptor(name: str) -> int | None:
    if not name:
        return None
    descriptor = int(name.partition(" ")[0])
    try:
        return descriptor if named(descriptor) == name else None
    except OSError:
        return None
