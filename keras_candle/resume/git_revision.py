"""The git revision of the script that runs."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path


def revision_of(folder: Path) -> str | None:
    """Return the git revision of a folder's work tree; None outside of one.

    It reads git's files: starting a program within an MPI job can end the job.
    """
    for each in (folder, *folder.parents):
        git = each / ".git"
        with contextlib.suppress(OSError, ValueError):
            if git.is_file():  # a linked work tree
                git = (each / git.read_text().removeprefix("gitdir:").strip()).resolve()
            if git.is_dir():
                return _revision(git)
    return None


def _revision(git: Path) -> str | None:
    head = (git / "HEAD").read_text().strip()
    if not head.startswith("ref:"):
        return head
    name = head.removeprefix("ref:").strip()
    common = git
    if (git / "commondir").is_file():
        common = (git / (git / "commondir").read_text().strip()).resolve()
    if (common / name).is_file():
        return (common / name).read_text().strip()
    packed = (common / "packed-refs").read_text().splitlines()
    return next((line.split()[0] for line in packed if line.endswith(f" {name}")), None)


def script_revision() -> str | None:
    """Return the git revision of the program's main file; None outside of a work tree."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    return revision_of(Path(main).absolute().parent) if main else None
