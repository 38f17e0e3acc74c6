"""Redirect run directories into a copy of the user's folder, while trainings are killed."""

from __future__ import annotations

import os
from pathlib import Path


class RunCopies:
    """Maps the paths of run directories into a copy of the user's folder.

    Args:
        original: the user's folder, absolute and without links.
        scratch: the folder of the copy, in which the program runs; the copy has the same path in
            it as the original below the root.
        elsewhere: an empty folder for run directories outside of the user's folder.
    """

    def __init__(self, original: str, scratch: str, elsewhere: str) -> None:
        self._original, self._scratch = os.path.realpath(original), os.path.realpath(scratch)
        self._elsewhere = os.path.realpath(elsewhere)

    @property
    def copy(self) -> str:
        """The copy of the user's folder."""
        return os.path.join(self._scratch, os.path.relpath(self._original, os.sep))

    def name_of(self, path: str | os.PathLike[str]) -> str:
        """Return a run directory's name, which is the same in every copy.

        Args:
            path: the program's path, or a resolved one.

        Returns:
            Its path in the user's folder, or an absolute one outside.
        """
        real = os.path.realpath(path)
        for folder in (self._scratch, self._elsewhere):
            if _is_in(real, folder):
                real = os.path.join(os.sep, os.path.relpath(real, folder))
        return os.path.relpath(real, self._original) if _is_in(real, self._original) else real

    def resolve(self, path: Path) -> Path:
        """Return the absolute path of a run directory's copy; a path in the copy maps to itself."""
        name = self.name_of(path)
        if os.path.isabs(name):
            return Path(self._elsewhere, os.path.relpath(name, os.sep))
        return Path(self.copy, name)


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))
