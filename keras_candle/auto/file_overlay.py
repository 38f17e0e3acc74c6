"""Overlay a rank's own files on the real ones, so that the root alone writes real files.

An unedited script writes the same file N times at once, and reads it back while another rank
writes. So on all ranks but the root, Python's file functions work on files of the rank's own over
the real ones. Native code bypasses them: h5py and TensorFlow are handled where that is possible,
further libraries are not.
"""

from __future__ import annotations

import atexit
import builtins
import functools
import io
import os
import secrets
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from keras_candle.when_imported import when_imported

_READING = (
    *("access", "chmod", "getxattr", "listxattr", "lstat"),
    *("readlink", "setxattr", "stat", "truncate", "utime"),
)
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_SYSTEM = ("/dev", "/proc", "/sys")
# How long chdir waits for the root to make the folder.
_CHDIR_TIMEOUT_S = 60

# Names of arguments that are paths, where a function has one, and of open folders.
_PATHS = ("path", "file", "src", "dst")
_FOLDERS = ("dir_fd", "src_dir_fd", "dst_dir_fd")

_temporary_files: list[TemporaryFiles] = []
_overlay_files: list[OverlayFiles] = []
_thread = threading.local()


def write_only_on_root(*, is_root: bool, started_s: float) -> None:
    """Replace Python's file functions by those of an overlay.

    Args:
        is_root: whether this rank writes the real files: then only its temporary files are
            recorded.
        started_s: when the job began, in seconds since the epoch.
    """
    _temporary_files[:] = [TemporaryFiles()]
    _temporary_files[0].record()
    if is_root:
        return
    name = f"candle-rank-{os.getpid()}-{secrets.token_hex(4)}"
    folder = os.path.join(tempfile.gettempdir(), name)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _overlay_files[:] = [OverlayFiles(folder, started_s)]
    FileOverlay(_overlay_files[0], _temporary_files[0]).install()


def is_private(path: Any) -> bool:
    """Return whether a path is in a temporary file or folder that this process made."""
    return any(each.has_made(_absolute(path)) for each in _temporary_files)


def redirect_reads(path: Any, real: str) -> None:
    """Read the root's path `real` wherever this rank's script reads `path` from now on."""
    for each in _overlay_files:
        each.redirect_reads(os.fspath(path), real)


class TemporaryFiles:
    """The system's temporary folder, and what this process makes there by `tempfile`."""

    def __init__(self) -> None:
        self._made: set[str] = set()
        # Looked up here: later, tempfile may hold its lock while it calls us.
        self._folder = tempfile.gettempdir()
        start = os.getcwd()
        self._job = start if _below(start, self._folder) and start != self._folder else None

    def has_made(self, path: str) -> bool:
        """Return whether a path is, or is in, a temporary file or folder of this process."""
        return any(_below(path, each) for each in self._made)

    def has(self, path: str) -> bool:
        """Return whether a path is a temporary one; a job that runs there has real ones."""
        in_job = self._job is not None and _below(path, self._job)
        return _below(path, self._folder) and (not in_job or self.has_made(path))

    def record(self) -> None:
        """Record from now on each path that is made in the manner of `tempfile`."""
        plain_mkdir, plain_open = os.mkdir, os.open

        def mkdir(path: Any, mode: int = 0o777, **kwargs: Any) -> None:
            if mode == 0o700 and _below(_absolute(path), self._folder):
                self._made.add(_absolute(path))
            plain_mkdir(path, mode, **kwargs)

        def open_(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
            if flags & os.O_EXCL and _below(_absolute(path), self._folder):
                self._made.add(_absolute(path))
            return plain_open(path, flags, *args, **kwargs)

        _replace(os, "mkdir", mkdir)
        _replace(os, "open", open_)


class OverlayFiles:
    """Files that a rank writes into a private folder instead of the real paths.

    Reading finds the rank's own copy first, then the real file. A file that the rank removed is
    hidden until the root writes it again.

    Args:
        folder: the private folder, made at the first write.
        started_s: when the ranks began; newer real files are the root's.
    """

    def __init__(self, folder: str, started_s: float) -> None:
        self._folder, self._started_s = folder, started_s
        self._removed_s: dict[str, float] = {}
        self._redirected: dict[str, str] = {}

    def private_path(self, path: str) -> str:
        """Return the path of the rank's own copy of a path, whether it exists or not."""
        return self._folder + os.path.abspath(path)

    def read_path(self, path: str) -> str:
        """Return the path to read instead of a path."""
        path = os.path.abspath(path)
        if path in self._redirected:
            return self._redirected[path]
        private = self.private_path(path)
        # Own folders shadow no real ones: both have entries.
        if os.path.lexists(private) and (not os.path.isdir(private) or not os.path.isdir(path)):
            return private
        return private if self._is_hidden(path) else path

    def write_path(self, path: str, *, keep: bool) -> str:
        """Return the path to write instead of a path.

        Args:
            path: the file that the script names.
            keep: whether to copy its content first, as for appending.
        """
        seen, private = self.read_path(path), self.private_path(path)
        self._redirected.pop(os.path.abspath(path), None)
        folder = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(self._folder):
            os.mkdir(self._folder, 0o700)
        if os.path.isdir(self.read_path(folder)):
            os.makedirs(os.path.dirname(private), exist_ok=True)
        if keep and seen != private and os.path.isfile(seen):
            shutil.copyfile(seen, private)
        return private

    def make_folder(self, path: str, mode: int) -> None:
        """Make a folder, as os.mkdir does; one that the root has just made does not count."""
        path = os.path.abspath(path)
        existed = os.path.lexists(path) and not self._is_hidden(path)
        if existed and os.stat(path).st_ctime < self._started_s:
            raise FileExistsError(17, os.strerror(17), path)
        os.mkdir(self.write_path(path, keep=False), mode)

    def remove(self, path: str) -> None:
        """Remove a file or a folder with its content, in this rank's overlay only."""
        path = os.path.abspath(path)
        private = Path(self.private_path(path))
        if private.is_dir() and not private.is_symlink():
            shutil.rmtree(private)
        else:
            private.unlink(missing_ok=True)
        self._redirected.pop(path, None)
        self._removed_s[path] = time.time()

    def rename(self, source: str, target: str) -> None:
        """Rename, as os.replace does; a missing source was renamed by the root."""
        seen = self.read_path(source)
        if os.path.lexists(seen):
            private = self.write_path(target, keep=False)
            if seen == self.private_path(source):
                os.replace(seen, private)
            elif os.path.isdir(seen):
                shutil.copytree(seen, private, dirs_exist_ok=True)
            else:
                shutil.copyfile(seen, private)
        self.remove(source)

    def names(self, path: str) -> list[str]:
        """List a folder, as os.listdir does."""
        path = os.path.abspath(path)
        private, hidden, found = self.private_path(path), self._is_hidden(path), set[str]()
        is_own = os.path.isdir(private)
        if is_own:
            found.update(os.listdir(private))
        elif hidden:
            raise FileNotFoundError(2, os.strerror(2), path)
        if not hidden and (not is_own or os.path.isdir(path)):
            real = os.listdir(path)
            found.update(each for each in real if not self._is_hidden(os.path.join(path, each)))
        return sorted(found)

    def redirect_reads(self, path: str, real: str) -> None:
        """Read `real`, the root's path, wherever the script reads `path` from now on."""
        self._redirected[os.path.abspath(path)] = os.path.abspath(real)

    def _is_hidden(self, path: str) -> bool:
        """Return whether the rank has removed a path that has not been written since."""
        while self._removed_s:
            if path in self._removed_s:
                try:
                    facts = os.lstat(path)
                except OSError:
                    return False
                changed = facts.st_mtime if stat.S_ISREG(facts.st_mode) else facts.st_ctime
                return changed <= self._removed_s[path]
            if path == os.path.dirname(path):
                return False
            path = os.path.dirname(path)
        return False


class FileOverlay:
    """Python's file functions with a rank's overlay.

    Args:
        files: the rank's own files.
        temporary: paths without an overlay.
    """

    def __init__(self, files: OverlayFiles, temporary: TemporaryFiles) -> None:
        self._files, self._temporary = files, temporary

    def install(self) -> None:
        """Replace Python's file functions."""
        own: dict[str, Callable[..., Any]] = {
            **{name: self._read for name in _READING if hasattr(os, name)},
            **dict.fromkeys(("remove", "rmdir", "unlink"), self._remove),
            **dict.fromkeys(("rename", "replace"), self._rename),
            "chdir": self._chdir,
            "listdir": self._listdir,
            "mkdir": self._mkdir,
            "open": self._os_open,
            "scandir": self._scandir,
        }
        for name, function in own.items():
            _replace(os, name, self._overlaid(getattr(os, name), function))
        _replace(shutil, "rmtree", self._overlaid(shutil.rmtree, self._remove))
        builtins.open = io.open = self._overlaid(builtins.open, self._open)
        when_imported("h5py", self._overlay_h5py)

    def _overlaid(self, plain: Callable[..., Any], own: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function of paths: own(plain, ...) is called where the overlay applies."""
        paths = 2 if own == self._rename else 1

        @functools.wraps(plain)
        def function(*args: Any, **kwargs: Any) -> Any:
            named = args[:paths] or [kwargs[each] for each in _PATHS if each in kwargs] or ["."]
            if any(map(kwargs.get, _FOLDERS)) or not any(map(self._applies, named)):
                return plain(*args, **kwargs)
            _thread.inside = True  # so that our own look-ups see the real files
            try:
                return own(plain, *args, **kwargs)
            finally:
                _thread.inside = False

        return function

    def _applies(self, path: Any) -> bool:
        if not isinstance(path, str | bytes | os.PathLike) or getattr(_thread, "inside", False):
            return False
        whole = _absolute(path)
        return not (self._temporary.has(whole) or any(_below(whole, each) for each in _SYSTEM))

    def _written(self, path: Any, *, keep: bool) -> tuple[str, bool]:
        """Return the path to write instead, and whether the rank's own file exists already."""
        name = os.fsdecode(path)
        if _is_special_file(name):
            return name, True
        existed = os.path.lexists(self._files.private_path(name))
        return self._files.write_path(name, keep=keep), existed

    def _read(self, plain: Callable[..., Any], path: Any, *args: Any, **kwargs: Any) -> Any:
        return plain(self._files.read_path(os.fsdecode(path)), *args, **kwargs)

    def _open(
        self, plain: Callable[..., Any], file: Any, mode: str = "r", *args: Any, **kwargs: Any
    ) -> Any:
        if not set(mode) & set("wax+"):
            return self._read(plain, file, mode, *args, **kwargs)
        own, existed = self._written(file, keep="a" in mode or "r" in mode)
        # The root may have created the real file already.
        return plain(own, mode if existed else mode.replace("x", "w"), *args, **kwargs)

    def _os_open(
        self, plain: Callable[..., Any], path: Any, flags: int, *args: Any, **kwargs: Any
    ) -> Any:
        if not flags & _WRITE_FLAGS:
            return self._read(plain, path, flags, *args, **kwargs)
        own, existed = self._written(path, keep=not flags & (os.O_TRUNC | os.O_EXCL))
        return plain(own, flags if existed else flags & ~os.O_EXCL, *args, **kwargs)

    def _mkdir(self, _: Any, path: Any, mode: int = 0o777, **__: Any) -> None:
        self._files.make_folder(os.fsdecode(path), mode)

    def _remove(self, _: Any, path: Any, *__: Any, **___: Any) -> None:
        self._files.remove(os.fsdecode(path))

    def _rename(self, _: Any, src: Any, dst: Any, **__: Any) -> None:
        self._files.rename(os.fsdecode(src), os.fsdecode(dst))

    def _listdir(self, plain: Callable[..., Any], path: Any = ".") -> list[Any]:
        return list(plain(path) if isinstance(path, bytes) else self._files.names(path))

    def _scandir(self, plain: Callable[..., Any], path: Any = ".") -> Any:
        if isinstance(path, bytes):
            return plain(path)
        found: dict[str, os.DirEntry[str]] = {}
        # A relative path gives relative entries, as os.scandir does.
        for folder in (os.fspath(path), self._files.private_path(path)):
            if os.path.isdir(folder):
                with plain(folder) as entries:
                    found.update((entry.name, entry) for entry in entries)
        return _Entries([found[name] for name in self._files.names(path) if name in found])

    def _chdir(self, plain: Callable[..., Any], path: Any) -> None:
        # The script made it in the rank's own files; the working directory must be the root's.
        deadline_s = time.monotonic() + _CHDIR_TIMEOUT_S
        own = self._files.private_path(os.fsdecode(path))
        while os.path.isdir(own) and not os.path.isdir(path) and time.monotonic() < deadline_s:
            time.sleep(0.01)
        plain(path)

    def _overlay_h5py(self, h5py: ModuleType) -> None:
        plain: Any = h5py.File.__init__

        def own_path(_: Any, name: Any, mode: str) -> str:
            if mode == "r":
                return self._files.read_path(os.fsdecode(name))
            return self._written(name, keep=mode != "w")[0]

        path_for = self._overlaid(lambda name, _: name, own_path)

        @functools.wraps(plain)
        def init(file: Any, name: Any, mode: str = "r", *args: Any, **kwargs: Any) -> None:
            plain(file, path_for(name, mode), mode, *args, **kwargs)

        h5py.File.__init__ = init


class _Entries(list["os.DirEntry[str]"]):
    """The entries as os.scandir returns them: an iterator to be closed."""

    def __next__(self) -> os.DirEntry[str]:
        if not self:
            raise StopIteration
        return self.pop(0)

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    close = list.clear


def _replace(home: Any, name: str, function: Callable[..., Any]) -> None:
    plain = getattr(home, name)
    for offers in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
        if plain in offers:
            offers.add(function)
    setattr(home, name, function)


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
