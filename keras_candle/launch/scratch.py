"""A copy of a folder, for a program that may write where it likes."""

import contextlib
import os
import re
import shutil
from pathlib import Path

from keras_candle.errors import LaunchError
from keras_candle.run_directory import CHECKPOINTS, JOURNAL

MOST_BYTES = 1_000_000_000
MOST_FILES = 20_000
# Large, and nothing that a script writes to.
_LINKED = (".git", ".venv", "venv", "node_modules", "__pycache__")


def copy_of_folder(folder: Path, scratch: Path, *, runs: bool = True) -> Path:
    """Copy a folder below another one, at a place where paths like ../data still lead somewhere.

    Args:
        folder: the folder, absolute and without links.
        scratch: an empty folder. It gets the parents of `folder` as folders, what lies beside
            them as links, and `folder` itself as a copy.
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


def led_inside(text: str, folder: Path, copy: Path) -> str:
    """A path, or an argument with a path in it, led into the copy of a folder."""
    return re.sub(rf"(^|=){re.escape(str(folder))}(?=/|$)", rf"\g<1>{copy}", text)


def _files(folder: Path, scratch: Path, *, runs: bool) -> list[Path]:
    """What is to be copied: files, links, empty folders, and folders that become links."""
    found: list[Path] = []
    size = 0
    for place, folders, names in os.walk(folder):
        here = Path(place)
        left_out = (CHECKPOINTS, JOURNAL) if not runs and JOURNAL in names else ()
        folders[:] = [n for n in folders if n not in left_out and here / n != scratch]
        linked = [name for name in folders if name in _LINKED or (here / name).is_symlink()]
        folders[:] = [name for name in folders if name not in linked]
        # A folder of its own for each, so that empty ones are there too.
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
    """Links to what lies in a parent folder, but for the way down to the copy."""
    try:
        entries = list(parent.iterdir())
    except PermissionError:
        return  # the way down may be open all the same
    for entry in entries:
        if entry != folder and entry not in folder.parents:
            (copy / entry.name).symlink_to(entry)
