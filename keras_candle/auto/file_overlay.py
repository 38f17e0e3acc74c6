"""Python's functions for files as one rank has them: its own files over the real ones."""

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
# How long a rank waits for the root to make a folder that it works in.
_PATIENCE_S = 60

_within = threading.local()


class FileOverlay:
    """Python's functions for files as this rank has them.

    Args:
        scratch: the rank's own files; None on the root.
    """

    def __init__(self, scratch: OverlayFiles | None) -> None:
        self.scratch = scratch
        self._private: set[str] = set()
        self._start = os.path.abspath(os.getcwd())
        # Found out now: later, tempfile may hold its lock while it calls us.
        self._temporary = tempfile.gettempdir()
        names = ("chdir", "mkdir", "open", "listdir", "scandir", "rename")
        self._plain = {"file": builtins.open, **{name: getattr(os, name) for name in names}}

    def is_private(self, path: Any) -> bool:
        whole = os.path.abspath(os.fsdecode(path))
        return any(whole == each or whole.startswith(each + os.sep) for each in self._private)

    def _over(self, path: Any, options: Any = ()) -> OverlayFiles | None:
        """The rank's own files, when they count for this path."""
        named = isinstance(path, str | bytes | os.PathLike)
        if not named or self.scratch is None or getattr(_within, "view", False):
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

    def reading(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        """A function whose first argument is a path to look at."""

        @functools.wraps(plain)
        def read(path: Any, *args: Any, **kwargs: Any) -> Any:
            over = self._over(path, kwargs)
            if over is None:
                return plain(path, *args, **kwargs)
            with _plainly():
                return plain(over.see(os.fsdecode(path)), *args, **kwargs)

        return read

    def open(self, file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        over = self._over(file)
        if over is None:
            return self._plain["file"](file, mode, *args, **kwargs)
        with _plainly():
            path = os.fsdecode(file)
            if not set(mode) & set("wax+"):
                return self._plain["file"](over.see(path), mode, *args, **kwargs)
            if _is_no_file(path):
                return self._plain["file"](path, mode, *args, **kwargs)
            if not os.path.lexists(over.copy_of(path)):
                mode = mode.replace("x", "w")  # the root may have been faster
            own = over.own(path, keep="a" in mode or "r" in mode)
            return self._plain["file"](own, mode, *args, **kwargs)

    def os_open(self, path: Any, flags: int, mode: int = 0o777, **kwargs: Any) -> int:
        if flags & os.O_EXCL and _below(_absolute(path), self._temporary):
            self._private.add(_absolute(path))
        over = self._over(path, kwargs)
        if over is None:
            return int(self._plain["open"](path, flags, mode, **kwargs))
        with _plainly():
            name = os.fsdecode(path)
            if not flags & _WRITE_FLAGS or _is_no_file(name):
                return int(self._plain["open"](over.see(name), flags, mode, **kwargs))
            if not os.path.lexists(over.copy_of(name)):
                flags &= ~os.O_EXCL
            own = over.own(name, keep=not flags & os.O_TRUNC)
            return int(self._plain["open"](own, flags, mode, **kwargs))

    def mkdir(self, path: Any, mode: int = 0o777, **kwargs: Any) -> None:
        # As tempfile does it.
        if mode == 0o700 and _below(_absolute(path), self._temporary):
            self._private.add(_absolute(path))
        over = self._over(path, kwargs)
        if over is None:
            self._plain["mkdir"](path, mode, **kwargs)
            return
        with _plainly():
            over.make_folder(os.fsdecode(path), mode)

    def removing(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        """A function that removes what its first argument names."""

        @functools.wraps(plain)
        def remove(path: Any, *args: Any, **kwargs: Any) -> None:
            over = self._over(path, kwargs)
            if over is None:
                plain(path, *args, **kwargs)
                return
            with _plainly():
                over.remove(os.fsdecode(path))

        return remove

    def rename(self, src: Any, dst: Any, **kwargs: Any) -> None:
        over = self._over(src, kwargs) or self._over(dst, kwargs)
        if over is None:
            self._plain["rename"](src, dst, **kwargs)
            return
        with _plainly():
            over.rename(os.fsdecode(src), os.fsdecode(dst))

    def listdir(self, path: Any = ".") -> list[Any]:
        over = self._over(path)
        if over is None or isinstance(path, bytes):
            return list(self._plain["listdir"](path))
        with _plainly():
            return list(over.names(os.fsdecode(path)))

    def scandir(self, path: Any = ".") -> Any:
        over = self._over(path)
        if over is None or isinstance(path, bytes):
            return self._plain["scandir"](path)
        with _plainly():
            return _Entries(self._entries(over, os.fsdecode(path)))

    def _entries(self, over: OverlayFiles, path: str) -> list[os.DirEntry[str]]:
        found: dict[str, os.DirEntry[str]] = {}
        for folder in (os.path.abspath(path), over.copy_of(path)):
            if os.path.isdir(folder):
                # A relative path gives relative entries, as os.scandir does.
                given = path if folder == os.path.abspath(path) else folder
                with self._plain["scandir"](given) as entries:
                    found.update((entry.name, entry) for entry in entries)
        return [found[name] for name in over.names(path) if name in found]

    def chdir(self, path: Any) -> None:
        over = self._over(path)
        if over is not None:
            with _plainly():
                # The script made it; here that is the rank's own folder, and only the root's is
                # a place to work in.
                deadline_s = time.monotonic() + _PATIENCE_S
                while os.path.isdir(over.copy_of(os.fsdecode(path))) and not os.path.isdir(path):
                    if time.monotonic() > deadline_s:
                        break
                    time.sleep(0.01)
        self._plain["chdir"](path)

    def path_for(self, path: Any, *, writing: bool, keep: bool = False) -> Any:
        """The path to hand to native code in the place of a path."""
        over = self._over(path)
        if over is None:
            return path
        with _plainly():
            name = os.fsdecode(path)
            return over.own(name, keep=keep) if writing else over.see(name)


class _Entries(AbstractContextManager["_Entries"]):
    """What os.scandir returns."""

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


class _plainly(AbstractContextManager[None]):  # noqa: N801 - used like a function
    """Python's own functions do what they always do while the view looks things up."""

    def __enter__(self) -> None:
        _within.view = True

    def __exit__(self, *_: object) -> None:
        _within.view = False


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _absolute(path: Any) -> str:
    return os.path.abspath(os.fsdecode(path))


def _is_no_file(path: str) -> bool:
    """Whether something stands there that is no regular file: a pipe, a device."""
    try:
        kind = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))
