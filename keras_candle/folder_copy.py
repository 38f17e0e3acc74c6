"""Copy a folder into a scratch folder for a program that may write anywhere."""

import contextlib
import os
import re
import shutil
from pathlib import Path

from keras_candle.errors import LaunchError
from keras_candle.run_directory import CHECKPOINTS, JOURNAL

MOST_BYTES = 1_000_000_000
MOST_FILES = 20_000
# Large, and not written by scripts.
_LINKED = (".git", ".venv", "venv", "node_modules", "__pycache__")


def copy_of_folder(folder: Path, scratch: Path, *, runs: bool = True) -> Path:
    """Copy a folder below a scratch folder so that paths like ../data still resolve.

    Args:
        folder: the folder, absolute and without links.
        scratch: an empty folder. It gets the parents of `folder` as folders, their other entries
            as links, and `folder` itself as a copy.
        runs: whether the checkpoints and journals of run directories are copied.

    Returns:
        The copy.

    Raises:
        LaunchError: the folder is too large to copy.
    """
    files = _files(folder, scratch, runs=runs)
    copy = scratch
    for parent in (*reversed(folder.parents), folder):
        copy = copy / parent.name
        copy.mkdir(exist_ok=True)
        if parent != folder:
            _link_siblings(parent, copy, folder)
    for source in files:
        target = copy / source.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(PermissionError):  # what we cannot read, the script cannot either
            _copy(source, target)
    return copy


def map_into_copy(text: str, folder: Path, copy: Path) -> str:
    """Map a path, or an argument with a path in it, into the copy of a folder."""
    return re.sub(rf"(^|=){re.escape(str(folder))}(?=/|$)", rf"\g<1>{copy}", text)


def _files(folder: Path, scratch: Path, *, runs: bool) -> list[Path]:
    """List the files, links, empty folders and linked folders to copy."""
    found: list[Path] = []
    size = 0
    for place, folders, names in os.walk(folder):
        here = Path(place)
        left_out = (CHECKPOINTS, JOURNAL) if not runs and JOURNAL in names else ()
        folders[:] = [n for n in folders if n not in left_out and here / n != scratch]
        linked = [name for name in folders if name in _LINKED or (here / name).is_symlink()]
        folders[:] = [name for name in folders if name not in linked]
        # Folders are listed too, so that empty ones are copied.
        found += [here / n for n in (*folders, *linked, *names) if n not in left_out]
        sizes = ((here / name).lstat().st_size for name in names)
        size += sum(sizes)
        if size > MOST_BYTES or len(found) > MOST_FILES:
            raise LaunchError(
                f"{folder} holds more than {MOST_BYTES / 1e9:g} GB or {MOST_FILES} files"
            )
    return found


def _copy(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(os.path.realpath(source))
    elif source.is_dir():
        if source.name in _LINKED:
            target.symlink_to(source)
        else:
            target.mkdir(exist_ok=True)
    elif source.is_file():  # no sockets and pipes
        shutil.copy2(source, target)


def _link_siblings(parent: Path, copy: Path, folder: Path) -> None:
    """Link the entries of a parent folder, except the one on the path to the copy."""
    try:
        entries = list(parent.iterdir())
    except PermissionError:
        return  # the folder below may be readable all the same
    for entry in entries:
        if entry != folder and entry not in folder.parents:
            (copy / entry.name).symlink_to(entry)
