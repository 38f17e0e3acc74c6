"""A rank's own view of the files: the real ones, and over them what the rank wrote itself."""

from __future__ import annotations

import os
import shutil
import stat
import time
from pathlib import Path


class OverlayFiles:
    """What a rank other than the root writes goes into a folder of its own.

    Reading finds the rank's own copy first, then the real file. What the rank removed is hidden
    until somebody, that is the root, writes it anew.

    Args:
        folder: where it shall be; made when something is written.
        started_s: when the ranks began; the root made what is newer.
    """

    def __init__(self, folder: str, started_s: float) -> None:
        self._folder, self._started_s = folder, started_s
        self._removed_s: dict[str, float] = {}
        self._elsewhere: dict[str, str] = {}

    def copy_of(self, path: str) -> str:
        """Where the rank's own copy of an absolute path lies, or would."""
        return self._folder + os.path.abspath(path)

    def see(self, path: str) -> str:
        """The path to read in the place of a path."""
        path = os.path.abspath(path)
        if path in self._elsewhere:
            return self._elsewhere[path]
        own = self.copy_of(path)
        # Own folders shadow no real ones: both have entries.
        if os.path.lexists(own) and (not os.path.isdir(own) or not os.path.isdir(path)):
            return own
        return own if self._is_hidden(path) else path

    def own(self, path: str, *, keep: bool) -> str:
        """The path to write in the place of a path.

        Args:
            path: the file that the script names.
            keep: whether its content counts, as it does for appending.
        """
        seen, own = self.see(path), self.copy_of(path)
        self._elsewhere.pop(os.path.abspath(path), None)
        folder = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(self._folder):
            os.mkdir(self._folder, 0o700)
        if os.path.isdir(self.see(folder)):
            os.makedirs(os.path.dirname(own), exist_ok=True)
        if keep and seen != own and os.path.isfile(seen):
            shutil.copyfile(seen, own)
        return own

    def make_folder(self, path: str, mode: int) -> None:
        """os.mkdir. A folder that the root has just made is no obstacle."""
        path = os.path.abspath(path)
        existed = os.path.lexists(path) and not self._is_hidden(path)
        if existed and os.stat(path).st_ctime < self._started_s:
            raise FileExistsError(17, os.strerror(17), path)
        os.mkdir(self.own(path, keep=False), mode)

    def remove(self, path: str) -> None:
        """Remove a file or a folder with what is in it, as far as this rank sees."""
        path = os.path.abspath(path)
        own = Path(self.copy_of(path))
        if own.is_dir() and not own.is_symlink():
            shutil.rmtree(own)
        else:
            own.unlink(missing_ok=True)
        self._elsewhere.pop(path, None)
        self._removed_s[path] = time.time()

    def rename(self, source: str, target: str) -> None:
        """os.replace. A source that is gone was renamed by the root."""
        seen = self.see(source)
        if os.path.lexists(seen):
            own = self.own(target, keep=False)
            if seen == self.copy_of(source):
                os.replace(seen, own)
            elif os.path.isdir(seen):
                shutil.copytree(seen, own, dirs_exist_ok=True)
            else:
                shutil.copyfile(seen, own)
        self.remove(source)

    def names(self, path: str) -> list[str]:
        """os.listdir."""
        path = os.path.abspath(path)
        own, hidden, found = self.copy_of(path), self._is_hidden(path), set[str]()
        is_own = os.path.isdir(own)
        if is_own:
            found.update(os.listdir(own))
        elif hidden:
            raise FileNotFoundError(2, os.strerror(2), path)
        if not hidden and (not is_own or os.path.isdir(path)):
            real = os.listdir(path)
            found.update(each for each in real if not self._is_hidden(os.path.join(path, each)))
        return sorted(found)

    def find_elsewhere(self, path: str, real: str) -> None:
        """From now on, reading a path means reading another one: the root's name for it."""
        self._elsewhere[os.path.abspath(path)] = os.path.abspath(real)

    def _is_hidden(self, path: str) -> bool:
        """Whether the rank has removed a path that nobody has written since."""
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
