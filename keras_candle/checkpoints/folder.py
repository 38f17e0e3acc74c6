"""The checkpoints of a run, each in a folder that is committed atomically."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_candle.checkpoints import manifest
from keras_candle.errors import CheckpointError
from keras_candle.run_directory import sync

LAST, BEST = "last", "best"
_COMMITTED = re.compile(r"step-(\d{8,})")
_UNFINISHED, _REPLACED, _SET_ASIDE = ".writing-", ".replaced-", "set-aside"


@dataclass(frozen=True)
class Keep:
    """Which checkpoints to keep when a new one is committed.

    Attributes:
        last: number of newest checkpoints to keep, at least 1.
        every: also keep the checkpoints whose step it divides; None for no more.
    """

    last: int = 3
    every: int | None = None

    def __post_init__(self) -> None:
        if self.last < 1 or (self.every is not None and self.every < 1):
            raise CheckpointError(
                f"Got keep_last={self.last}, keep_every={self.every}; expected at least 1 of each."
            )

    def chosen(self, steps: Iterable[int]) -> set[int]:
        """Return the steps whose checkpoints are kept.

        Example:
            >>> sorted(Keep(last=2, every=100).chosen([100, 150, 200, 250, 260]))
            [100, 200, 250, 260]
        """
        ordered = sorted(steps)
        regular = {step for step in ordered if self.every and step % self.every == 0}
        return regular | set(ordered[-self.last :])


class CheckpointFolder:
    """A folder of checkpoints, which one process at a time writes.

    Args:
        path: the folder. It is not created or opened before a checkpoint is written.
        find_damage: returns the damage of a checkpoint's folder, one line each;
            `reading.find_damage` also reads its state.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        find_damage: Callable[[Path], list[str]] = manifest.find_damage,
    ) -> None:
        self.path, self._find_damage = Path(path), find_damage

    def steps(self) -> list[int]:
        """Return the steps of all committed checkpoints in ascending order.

        Raises:
            CheckpointError: when the folder cannot be read.
        """
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return []
        except OSError as cause:
            raise CheckpointError(f"{self.path} cannot be read ({cause}).") from cause
        return sorted(int(found[1]) for found in map(_COMMITTED.fullmatch, names) if found)

    def path_of(self, step: int) -> Path:
        """Return the path of a step's checkpoint, which need not exist."""
        return self.path / f"step-{step:08d}"

    @contextmanager
    def new(self, step: int) -> Iterator[Path]:
        """Yield a temporary folder for a checkpoint's files, which is committed at the end.

        The caller writes the files, the manifest last. After an error the folder is removed; the
        earlier checkpoints are unchanged.

        Args:
            step: step of the run.

        Raises:
            CheckpointError: when it cannot be written, with the path and the free bytes.
        """
        partial = self.path / f"{_UNFINISHED}{step:08d}"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            yield partial
            self._commit(partial, step)
        except OSError as cause:
            shutil.rmtree(partial, ignore_errors=True)
            raise CheckpointError(self._write_error(partial, cause)) from cause
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def _commit(self, partial: Path, step: int) -> None:
        if not (partial / manifest.NAME).is_file():
            raise CheckpointError(f"{partial} has no {manifest.NAME}, expected one.")
        for folder, _, names in os.walk(partial):
            for name in names:
                sync(Path(folder) / name)
            sync(Path(folder))
        place, before = self.path_of(step), self.path / f"{_REPLACED}{step:08d}"
        if place.exists():
            shutil.rmtree(before, ignore_errors=True)
            os.rename(place, before)
        os.rename(partial, place)
        _point(self.path / LAST, place.name)  # also waits for the names
        shutil.rmtree(before, ignore_errors=True)

    def _write_error(self, partial: Path, cause: OSError) -> str:
        free = shutil.disk_usage(existing(self.path)).free
        hint = ": make room there" if cause.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return (
            f"The checkpoint {partial} cannot be written ({cause}); {free} bytes are free{hint}. "
            "The checkpoints before it are unchanged."
        )

    def point_to_best(self, step: int) -> None:
        """Point the link `best` to a step's checkpoint."""
        _point(self.path / BEST, self.path_of(step).name)

    def best(self) -> int | None:
        """Return the step that the link `best` points to; None without one."""
        try:
            found = _COMMITTED.fullmatch(os.readlink(self.path / BEST))
        except OSError:
            return None
        return int(found[1]) if found else None

    def newest_whole(self, warn: Callable[[str], Any]) -> int | None:
        """Return the step of the newest undamaged checkpoint; None where there is none.

        Args:
            warn: called with a message for each newer, damaged checkpoint.
        """
        for step in reversed(self.steps()):
            damage = self.find_damage(step)
            if not damage:
                return step
            warn(f"{self.path_of(step)} is skipped: {'; '.join(damage)}.")
        return None

    def recover(self) -> None:
        """Complete or remove what a process left that was killed while it wrote."""
        for place in self.path.glob(f"{_REPLACED}*"):
            number = place.name.removeprefix(_REPLACED)
            if not number.isdecimal() or self.path_of(int(number)).exists():
                _remove(place)
            else:
                os.rename(place, self.path_of(int(number)))
        for place in self.path.glob(f"{_UNFINISHED}*"):
            _remove(place)
        for place in self.path.glob(".*.*"):  # a link that was not yet in place
            if place.is_symlink():
                place.unlink()

    def prune(self, keep: Keep, always: Iterable[int] = ()) -> list[int]:
        """Remove the checkpoints that are not kept.

        Args:
            keep: which to keep.
            always: further steps to keep.

        Returns:
            The steps of the removed checkpoints.
        """
        steps = self.steps()
        gone = sorted(set(steps) - keep.chosen(steps) - set(always))
        for step in gone:
            # Rename it first: a partly removed checkpoint would be reported as damaged.
            partial = self.path / f"{_UNFINISHED}{step:08d}"
            os.rename(self.path_of(step), partial)
            shutil.rmtree(partial)
        return gone

    def roll_back(self, step: int) -> list[int]:
        """Roll back to a step's checkpoint: set newer ones aside, remove none.

        Returns:
            The steps of the checkpoints that were set aside.

        Raises:
            CheckpointError: when there is no such checkpoint, or it is damaged.
        """
        steps = self.steps()
        if step not in steps:
            raise CheckpointError(f"{self.path} has no checkpoint of step {step}, only of {steps}.")
        if damage := self.find_damage(step):
            raise CheckpointError(f"{self.path_of(step)} is damaged: {'; '.join(damage)}.")
        newer = [each for each in steps if each > step]
        self.set_aside(newer)
        return newer

    def set_aside(self, steps: Iterable[int]) -> None:
        """Move checkpoints to a folder `set-aside` without removing them.

        Args:
            steps: steps of the checkpoints.
        """
        aside = _free(self.path / _SET_ASIDE)
        gone = set(steps)
        for step in sorted(gone):
            aside.mkdir(exist_ok=True)
            os.rename(self.path_of(step), aside / self.path_of(step).name)
        left = self.steps()
        if left:
            _point(self.path / LAST, self.path_of(left[-1]).name)
        else:
            (self.path / LAST).unlink(missing_ok=True)
        if self.best() in gone:
            (self.path / BEST).unlink()

    def find_damage(self, step: int) -> list[str]:
        """Return the damage of a step's checkpoint, one line each; empty for a whole one."""
        return self._find_damage(self.path_of(step))


def existing(path: Path) -> Path:
    """Return the path, or the nearest existing folder above it."""
    return path if path.exists() else existing(path.absolute().parent)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _free(path: Path) -> Path:
    """Return the path, with a number appended where it exists already."""
    number = 1
    free = path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _point(link: Path, target: str) -> None:
    """Create a symbolic link, or replace an existing one atomically.

    The link is relative, so that it stays valid when the folder is moved.
    """
    partial = link.with_name(f".{link.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    os.symlink(target, partial)
    try:
        os.replace(partial, link)
    finally:
        partial.unlink(missing_ok=True)
    sync(link.parent)
