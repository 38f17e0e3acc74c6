"""Redirect a script's file writes: the root writes real files, each further rank its private ones.

An unedited script writes the same file N times at once, and reads it back while another rank
writes. So on all ranks but the root, Python's file functions work on an overlay of the rank's own
files over the real ones. Native code bypasses them: h5py and TensorFlow are handled where that is
possible, further libraries are not.
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

_overlays: list[FileOverlay] = []


def write_only_on_root(*, is_root: bool, started_s: float) -> None:
    """Replace Python's file functions by those of an overlay.

    Args:
        is_root: whether this rank writes the real files: then only its temporary files are
            recorded.
        started_s: when the job began, in seconds since the epoch.
    """
    scratch = None
    if not is_root:
        name = f"candle-rank-{os.getpid()}-{secrets.token_hex(4)}"
        folder = os.path.join(tempfile.gettempdir(), name)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        scratch = OverlayFiles(folder, started_s)
    overlay = FileOverlay(scratch)
    _overlays[:] = [overlay]
    _patch_os("mkdir", overlay.mkdir)
    _patch_os("open", overlay.os_open)
    if is_root:
        return
    builtins.open = io.open = overlay.open
    shutil.rmtree = overlay.wrap_removing(shutil.rmtree)  # type: ignore[assignment]
    for name in ("chdir", "listdir", "rename", "scandir"):
        _patch_os(name, getattr(overlay, name))
    _patch_os("replace", overlay.rename)
    for name in ("remove", "rmdir", "unlink"):
        _patch_os(name, overlay.wrap_removing(getattr(os, name)))
    for name in filter(functools.partial(hasattr, os), _READING):
        _patch_os(name, overlay.wrap_reading(getattr(os, name)))
    when_imported("h5py", functools.partial(_patch_h5py, overlay=overlay))


def is_private(path: Any) -> bool:
    """Return whether a path is in a temporary file or folder that this process made."""
    return bool(_overlays) and _overlays[0].is_private(path)


def redirect_reads(path: Any, real: str) -> None:
    """Read the root's path `real` wherever this rank's script reads `path` from now on."""
    if _overlays and _overlays[0].scratch:
        _overlays[0].scratch.redirect_reads(os.fspath(path), real)


def _patch_os(name: str, function: Any) -> None:
    plain = getattr(os, name)
    for offers in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
        if plain in offers:
            offers.add(function)
    setattr(os, name, function)


def _patch_h5py(h5py: ModuleType, overlay: FileOverlay) -> None:
    plain: Any = h5py.File.__init__

    @functools.wraps(plain)
    def init(file: Any, name: Any, mode: str = "r", *args: Any, **kwargs: Any) -> None:
        path = overlay.path_for(name, writing=mode != "r", keep=mode != "w")
        plain(file, path, mode, *args, **kwargs)

    h5py.File.__init__ = init
