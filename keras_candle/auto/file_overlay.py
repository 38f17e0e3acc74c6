"""Replacements of Python's file functions that overlay a rank's own files on the real ones."""

from __future__ import annotations

import builtins
import functools
import os
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from keras_candle.auto.overlay_files import OverlayFiles

_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_SYSTEM = ("/dev", "/proc", "/sys")
# How long chdir waits for the root to make the folder.
_CHDIR_TIMEOUT_S = 60

_thread = threading.local()


class FileOverlay:
    """Python's file functions with a rank's overlay.

    Args:
        scratch: the rank's own files; None on the root.
    """

    def __init__(self, scratch: OverlayFiles | None) -> None:
        self.scratch = scratch
        self._private: set[str] = set()
        self._start = os.path.abspath(os.getcwd())
        # Looked up here: later, tempfile may hold its lock while it calls us.
        self._temporary = tempfile.gettempdir()
        names = ("chdir", "mkdir", "open", "listdir", "scandir", "rename")
        self._plain = {"file": builtins.open, **{name: getattr(os, name) for name in names}}

    def is_private(self, path: Any) -> bool:
        whole = os.path.abspath(os.fsdecode(path))
        return any(whole == each or whole.startswith(each + os.sep) for each in self._private)

    def _overlay_for(self, path: Any, options: Any = ()) -> OverlayFiles | None:
        """Return the rank's own files if the overlay applies to this path."""
        named = isinstance(path, str | bytes | os.PathLike)
        if not named or self.scratch is None or getattr(_thread, "in_overlay", False):
            return None
        if "dir_fd" in options and options["dir_fd"] is not None:
            return None
        whole = os.path.abspath(os.fsdecode(path))
        if self._is_temporary(whole):
            return None
        if any(_below(whole, each) for each in _SYSTEM) or self.is_private(whole):
            return None
        return self.scratch

    def _is_temporary(self, whole: str) -> bool:
        in_job = _below(whole, self._start) and not _below(self._temporary, self._start)
        return _below(whole, self._temporary) and not in_job

    def wrap_reading(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function that reads the path of its first argument."""

        @functools.wraps(plain)
        def read(path: Any, *args: Any, **kwargs: Any) -> Any:
            overlay = self._overlay_for(path, kwargs)
            if overlay is None:
                return plain(path, *args, **kwargs)
            with _without_overlay():
                return plain(overlay.read_path(os.fsdecode(path)), *args, **kwargs)

        return read

    def open(self, file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        overlay = self._overlay_for(file)
        if overlay is None:
            return self._plain["file"](file, mode, *args, **kwargs)
        with _without_overlay():
            path = os.fsdecode(file)
            if not set(mode) & set("wax+"):
                return self._plain["file"](overlay.read_path(path), mode, *args, **kwargs)
            if _is_special_file(path):
                return self._plain["file"](path, mode, *args, **kwargs)
            if not os.path.lexists(overlay.private_path(path)):
                mode = mode.replace("x", "w")  # the root may have created it already
            own = overlay.write_path(path, keep="a" in mode or "r" in mode)
            return self._plain["file"](own, mode, *args, **kwargs)

    def os_open(self, path: Any, flags: int, mode: int = 0o777, **kwargs: Any) -> int:
        if flags & os.O_EXCL and _below(_absolute(path), self._temporary):
            self._private.add(_absolute(path))
        overlay = self._overlay_for(path, kwargs)
        if overlay is None:
            return int(self._plain["open"](path, flags, mode, **kwargs))
        with _without_overlay():
            name = os.fsdecode(path)
            if not flags & _WRITE_FLAGS or _is_special_file(name):
                return int(self._plain["open"](overlay.read_path(name), flags, mode, **kwargs))
            if not os.path.lexists(overlay.private_path(name)):
                flags &= ~os.O_EXCL
            own = overlay.write_path(name, keep=not flags & os.O_TRUNC)
            return int(self._plain["open"](own, flags, mode, **kwargs))

    def mkdir(self, path: Any, mode: int = 0o777, **kwargs: Any) -> None:
        # As tempfile does it.
        if mode == 0o700 and _below(_absolute(path), self._temporary):
            self._private.add(_absolute(path))
        overlay = self._overlay_for(path, kwargs)
        if overlay is None:
            self._plain["mkdir"](path, mode, **kwargs)
            return
        with _without_overlay():
            overlay.make_folder(os.fsdecode(path), mode)

    def wrap_removing(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function that removes the path of its first argument."""

        @functools.wraps(plain)
        def remove(path: Any, *args: Any, **kwargs: Any) -> None:
            overlay = self._overlay_for(path, kwargs)
            if overlay is None:
                plain(path, *args, **kwargs)
                return
            with _without_overlay():
                overlay.remove(os.fsdecode(path))

        return remove

    def rename(self, src: Any, dst: Any, **kwargs: Any) -> None:
        overlay = self._overlay_for(src, kwargs) or self._overlay_for(dst, kwargs)
        if overlay is None:
            self._plain["rename"](src, dst, **kwargs)
            return
        with _without_overlay():
            overlay.rename(os.fsdecode(src), os.fsdecode(dst))

    def listdir(self, path: Any = ".") -> list[Any]:
        overlay = self._overlay_for(path)
        if overlay is None or isinstance(path, bytes):
            return list(self._plain["listdir"](path))
        with _without_overlay():
            return list(overlay.names(os.fsdecode(path)))

    def scandir(self, path: Any = ".") -> Any:
        overlay = self._overlay_for(path)
        if overlay is None or isinstance(path, bytes):
            return self._plain["scandir"](path)
        with _without_overlay():
            return _Entries(self._entries(overlay, os.fsdecode(path)))

    def _entries(self, overlay: OverlayFiles, path: str) -> list[os.DirEntry[str]]:
        found: dict[str, os.DirEntry[str]] = {}
        for folder in (os.path.abspath(path), overlay.private_path(path)):
            if os.path.isdir(folder):
                # A relative path gives relative entries, as os.scandir does.
                given = path if folder == os.path.abspath(path) else folder
                with self._plain["scandir"](given) as entries:
                    found.update((entry.name, entry) for entry in entries)
        return [found[name] for name in overlay.names(path) if name in found]

    def chdir(self, path: Any) -> None:
        overlay = self._overlay_for(path)
        if overlay is not None:
            with _without_overlay():
                # The script made it in the rank's own files; the working directory must be the
                # root's folder.
                deadline_s = time.monotonic() + _CHDIR_TIMEOUT_S
                while os.path.isdir(overlay.private_path(os.fsdecode(path))) and not os.path.isdir(
                    path
                ):
                    if time.monotonic() > deadline_s:
                        break
                    time.sleep(0.01)
        self._plain["chdir"](path)

    def path_for(self, path: Any, *, writing: bool, keep: bool = False) -> Any:
        """Return the path to give to native code instead of a path."""
        overlay = self._overlay_for(path)
        if overlay is None:
            return path
        with _without_overlay():
            name = os.fsdecode(path)
            return overlay.write_path(name, keep=keep) if writing else overlay.read_path(name)


class _Entries(AbstractContextManager["_Entries"]):
    """The iterator that os.scandir returns."""

    def __init__(self, entries: list[os.DirEntry[str]]) -> None:
        self._left = iter(entries)

    def __iter__(self) -> Iterator[os.DirEntry[str]]:
        return self._left

    def __next__(self) -> os.DirEntry[str]:
        return next(self._left)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._left = iter(())


class _without_overlay(AbstractContextManager[None]):  # noqa: N801 - used like a function
    """Switch the overlay off in this thread, so that its own lookups see the real files."""

    def __enter__(self) -> None:
        _thread.in_overlay = True

    def __exit__(self, *_: object) -> None:
        _thread.in_overlay = False


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _absolute(path: Any) -> str:
    return os.path.abspath(os.fsdecode(path))


def _is_special_file(path: str) -> bool:
    """Return whether the path exists and is not a regular file or folder: a pipe, a device."""
    try:
        kind = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))
