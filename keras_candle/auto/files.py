"""Files that a script writes from every rank: the root's are real, the others' are their own.

A script that knows nothing of ranks writes the same file N times at once, and reads it back while
another rank writes. So on ranks other than the root Python's functions for files work on a view
in which the rank's own files lie over the real ones. Native code goes its own way: h5py and
TensorFlow are looked after where they can be, others are not.
"""

from __future__ import annotations

import atexit
import builtins
import functools
import io
import os
import secrets
import shutil
import tempfile
from types import ModuleType
from typing import Any

from keras_candle.auto.file_overlay import FileOverlay
from keras_candle.auto.overlay_files import OverlayFiles
from keras_candle.when_imported import when_imported

_READING = (
    *("access", "chmod", "getxattr", "listxattr", "lstat"),
    *("readlink", "setxattr", "stat", "truncate", "utime"),
)

_views: list[FileOverlay] = []


def write_on_root_alone(*, is_root: bool, started_s: float) -> None:
    """Put the view in the place of Python's own functions.

    Args:
        is_root: whether this rank's files are the real ones: then only its temporary files are
            taken note of.
        started_s: when the job began, in seconds of the epoch.
    """
    scratch = None
    if not is_root:
        name = f"candle-rank-{os.getpid()}-{secrets.token_hex(4)}"
        folder = os.path.join(tempfile.gettempdir(), name)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        scratch = OverlayFiles(folder, started_s)
    view = FileOverlay(scratch)
    _views[:] = [view]
    _put("mkdir", view.mkdir)
    _put("open", view.os_open)
    if is_root:
        return
    builtins.open = io.open = view.open
    shutil.rmtree = view.removing(shutil.rmtree)  # type: ignore[assignment]
    for name in ("chdir", "listdir", "rename", "scandir"):
        _put(name, getattr(view, name))
    _put("replace", view.rename)
    for name in ("remove", "rmdir", "unlink"):
        _put(name, view.removing(getattr(os, name)))
    for name in filter(functools.partial(hasattr, os), _READING):
        _put(name, view.reading(getattr(os, name)))
    when_imported("h5py", functools.partial(_look_after_h5py, view=view))


def is_private(path: Any) -> bool:
    """Whether a path leads to a temporary file or folder that this process made for itself."""
    return bool(_views) and _views[0].is_private(path)


def find_elsewhere(path: Any, real: str) -> None:
    """On this rank, a path that the script made up means the root's path from now on."""
    if _views and _views[0].scratch:
        _views[0].scratch.find_elsewhere(os.fspath(path), real)


def _put(name: str, function: Any) -> None:
    plain = getattr(os, name)
    for offers in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
        if plain in offers:
            offers.add(function)
    setattr(os, name, function)


def _look_after_h5py(h5py: ModuleType, view: FileOverlay) -> None:
    plain: Any = h5py.File.__init__

    @functools.wraps(plain)
    def init(file: Any, name: Any, mode: str = "r", *args: Any, **kwargs: Any) -> None:
        path = view.path_for(name, writing=mode != "r", keep=mode != "w")
        plain(file, path, mode, *args, **kwargs)

    h5py.File.__init__ = init
