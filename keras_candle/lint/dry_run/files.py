"""Protect the user's files from a dry run, and record its writes in the copy of them."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

from keras_candle.lint.dry_run.journal import FactLog

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Python's event -> which of its arguments are paths that change
_CHANGES = {
    "os.mkdir": (0,),
    "os.remove": (0,),
    "os.rename": (0, 1),
    "os.rmdir": (0,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "os.link": (1,),
    "os.symlink": (1,),
    "shutil.rmtree": (0,),
}
# Whether the path must exist for the change to work; where the call fails anyway, let it fail.
_NEEDS = {
    "os.mkdir": False,
    **dict.fromkeys(("os.remove", "os.rmdir", "os.truncate", "os.chmod", "shutil.rmtree"), True),
}
_SYSTEM = ("/dev/", "/proc/", "/sys/")
# Their own files, safe on every rank: model.save and the callbacks write on the root only.
_SAFE_WRITERS = ("keras", "keras_candle")


def watch_files(journal: FactLog, scratch: str) -> None:
    """Refuse changes of files outside of a folder, and record what the script opens to write.

    Python's audit hook covers every file that Python opens, not those that native code opens
    (HDF5, TensorFlow's checkpoints). Those are safe only in the copy of the script's folder.

    Args:
        journal: gets the facts.
        scratch: the folder, with the copy in it.
    """
    guard = _FileGuard(journal, os.path.realpath(scratch))
    sys.addaudithook(guard.handle)


class _FileGuard:
    def __init__(self, journal: FactLog, scratch: str) -> None:
        self._journal, self._scratch = journal, os.path.join(scratch, "")
        self._temporary = os.path.join(os.path.realpath(os.environ["TMPDIR"]), "")
        self._home = os.path.join(
            os.path.realpath(os.path.expanduser("~")), "."
        )  # ~/.keras, ~/.cache
        # The folder that is copied.
        self._original = os.path.join("/", os.path.relpath(os.getcwd(), scratch), "")
        self._busy = False

    def handle(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Handle an event of Python's audit hook."""
        if self._busy or (event != "open" and event not in _CHANGES):
            return
        self._busy = True
        try:
            for path in _changed(event, arguments):
                self._judge(event, _resolved(event, path))
        finally:
            self._busy = False

    def _judge(self, event: str, path: str) -> None:
        # tempfile opens the folder itself where the system has files without names.
        in_temporary = os.path.join(path, "").startswith(self._temporary)
        if in_temporary or path.startswith(_SYSTEM):
            return
        if path.startswith(self._scratch):
            if event == "open" and not self._journal.called_by_script(_SAFE_WRITERS):
                self._journal.write("written", self._journal.lines(), file=os.path.basename(path))
            return
        in_cache = path.startswith(self._home) and not path.startswith(self._original)
        if in_cache or (_NEEDS.get(event) not in (None, os.path.exists(path))):
            return
        self._journal.write("refused", self._journal.lines(), file=path)
        raise PermissionError(
            errno.EACCES, "a dry run changes nothing outside of its copy of the folder", path
        )


def _resolved(event: str, path: str) -> str:
    """Resolve links in a path; of a link that is removed or renamed, only in its folder."""
    if event in ("open", "os.truncate", "os.chmod"):
        return os.path.realpath(path)
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), name)


def _changed(event: str, arguments: tuple[Any, ...]) -> list[str]:
    """Return the paths that an event is about to change."""
    if event == "open":
        path, _, flags = arguments
        if not isinstance(flags, int) or not flags & _WRITING:
            return []
        paths = [path]
    else:
        paths = [arguments[position] for position in _CHANGES[event]]
    return [os.fsdecode(path) for path in paths if isinstance(path, str | bytes | os.PathLike)]
