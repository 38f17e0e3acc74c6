"""A rank's overlay of the file system: the files that it wrote, over the real ones."""

from __future__ import annotations

import os
import shutil
import stat
import time
from pathlib import Path


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
