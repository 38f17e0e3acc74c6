"""Find the line of the user's program that is running, outside of libraries and keras_candle."""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

_PACKAGE = str(Path(__file__).parent) + os.sep
_ENGINE = _PACKAGE + "engine" + os.sep
_LIBRARIES = tuple(
    {_PACKAGE, *(sysconfig.get_path(each) + os.sep for each in ("stdlib", "purelib", "platlib"))}
)


@functools.cache
def is_users(path: str) -> bool:
    """Return whether a file is the user's own.

    Args:
        path: as a frame has it.

    Example:
        >>> is_users("/home/me/train.py"), is_users(threading.__file__), is_users(__file__)
        (True, False, False)
    """
    return not path.startswith(("<", *_LIBRARIES))


def place(path: str, line: int, function: str) -> str:
    """Format a line of a program, with a relative path below the working directory.

    Args:
        path: of the file.
        line: its number.
        function: the function that contains the line.

    Example:
        >>> place("/somewhere/train.py", 12, "f")
        '/somewhere/train.py, line 12, in f'
    """
    inside = Path.cwd()
    shown = Path(path)
    shown = shown.relative_to(inside) if shown.is_relative_to(inside) else shown
    return f"{shown}, line {line}, in {function}"


def call_site() -> str:
    """Describe where this process is: the innermost line of the user's on its main thread.

    Returns:
        The line, and the module of keras_candle that called the engine from there; "" for neither.
    """
    parts = []
    main = sys._current_frames().get(threading.main_thread().ident or 0)
    users = next((each for each in _frames(main) if is_users(each.f_code.co_filename)), None)
    if users is not None:
        parts.append(place(users.f_code.co_filename, users.f_lineno, users.f_code.co_name))
    for frame in _frames(sys._getframe(1)):
        if frame is users:
            break
        if _is_ours(frame):
            within = frame.f_code.co_filename.removeprefix(_PACKAGE)
            parts.append(f"in keras_candle/{within}, line {frame.f_lineno}")
            break
    return ", ".join(parts)


def _frames(innermost: FrameType | None) -> Iterator[FrameType]:
    while innermost is not None:
        yield innermost
        innermost = innermost.f_back


def _is_ours(frame: FrameType) -> bool:
    path = frame.f_code.co_filename
    return path.startswith(_PACKAGE) and not path.startswith((_ENGINE, __file__))
