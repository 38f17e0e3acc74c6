"""Where run directories lie while a training is killed: never where the user's own are."""

from __future__ import annotations

import os
from pathlib import Path


class RunCopies:
    """Leads run directories into a copy of the user's folder.

    Args:
        original: the user's folder, absolute and without links.
        scratch: a folder in which the copy, in which the program runs, has the same path as the
            original has below the root.
        elsewhere: an empty folder for run directories that lie outside of the user's folder.
    """

    def __init__(self, original: str, scratch: str, elsewhere: str) -> None:
        self._original, self._scratch = os.path.realpath(original), os.path.realpath(scratch)
        self._elsewhere = os.path.realpath(elsewhere)

    @property
    def copy(self) -> str:
        """The copy of the user's folder."""
        return os.path.join(self._scratch, os.path.relpath(self._original, os.sep))

    def name_of(self, path: str | os.PathLike[str]) -> str:
        """What a run directory is called in every copy.

        Args:
            path: as the program says it, or where it lies.

        Returns:
            Its path in the user's folder, or an absolute one outside.
        """
        real = os.path.realpath(path)
        for folder in (self._scratch, self._elsewhere):
            if _lies_in(real, folder):
                real = os.path.join(os.sep, os.path.relpath(real, folder))
        return os.path.relpath(real, self._original) if _lies_in(real, self._original) else real

    def resolve(self, path: Path) -> Path:
        """Where a run directory lies, absolute. The same for what this returned."""
        name = self.name_of(path)
        if os.path.isabs(name):
            return Path(self._elsewhere, os.path.relpath(name, os.sep))
        return Path(self.copy, name)


def _lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))
