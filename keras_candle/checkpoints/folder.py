"""The checkpoints of a run: each in a folder of its own, there as a whole or not at all."""

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

from keras_candle.checkpoints import files, manifest
from keras_candle.errors import CheckpointError

LAST, BEST = "last", "best"
_COMMITTED = re.compile(r"step-(\d{8,})")
_UNFINISHED, _REPLACED, _SET_ASIDE = ".writing-", ".replaced-", "set-aside"


@dataclass(frozen=True)
class Keep:
    """Which checkpoints stay when a new one is there.

    Attributes:
        last: so many of the newest, at least 1.
        every: also those whose step it divides; None for no others.
    """

    last: int = 3
    every: int | None = None

    def __post_init__(self) -> None:
        if self.last < 1 or (self.every is not None and self.every < 1):
            raise CheckpointError(
                f"Got keep_last={self.last}, keep_every={self.every}; expected at least 1 of each."
            )

    def chosen(self, steps: Iterable[int]) -> set[int]:
        """Those of some steps that stay.

        Example:
            >>> sorted(Keep(last=2, every=100).chosen([100, 150, 200, 250, 260]))
            [100, 200, 250, 260]
        """
        ordered = sorted(steps)
        regular = {step for step in ordered if self.every and step % self.every == 0}
        return regular | set(ordered[-self.last :])


class CheckpointFolder:
    """A folder with checkpoints, which one process at a time writes.

    Args:
        path: the folder. Nothing is made or opened before something is written.
        find_damage: returns what of a checkpoint's folder makes it useless, a line each;
            `reading.find_damage` also reads its state.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        find_damage: Callable[[Path], list[str]] = manifest.find_damage,
    ) -> None:
        self.path, self._find_damage = Path(path), find_damage

    def steps(self) -> list[int]:
        """The steps of all committed checkpoints, in their order.

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
        """Where the checkpoint of a step is, or would be."""
        return self.path / f"step-{step:08d}"

    @contextmanager
    def new(self, step: int) -> Iterator[Path]:
        """A folder for a checkpoint's files, which takes its place when they are all written.

        Who writes into it also writes the manifest, last. After an error nothing of it is left,
        and the checkpoints before are untouched.

        Args:
            step: steps that the optimizer has taken.

        Raises:
            CheckpointError: when it cannot be written, with the path and the bytes that are free.
        """
        partial = self.path / f"{_UNFINISHED}{step:08d}"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            yield partial
            self._commit(partial, step)
        except OSError as cause:
            shutil.rmtree(partial, ignore_errors=True)
            raise CheckpointError(self._sentence(partial, cause)) from cause
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def _commit(self, partial: Path, step: int) -> None:
        if not (partial / manifest.NAME).is_file():
            raise CheckpointError(f"{partial} has no {manifest.NAME}, expected one.")
        for folder, _, names in os.walk(partial):
            for name in names:
                files.sync(Path(folder) / name)
            files.sync(Path(folder))
        place, before = self.path_of(step), self.path / f"{_REPLACED}{step:08d}"
        if place.exists():
            shutil.rmtree(before, ignore_errors=True)
            os.rename(place, before)
        os.rename(partial, place)
        files.point(self.path / LAST, place.name)  # also waits for the names
        shutil.rmtree(before, ignore_errors=True)

    def _sentence(self, partial: Path, cause: OSError) -> str:
        free = shutil.disk_usage(existing(self.path)).free
        hint = ": make room there" if cause.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return (
            f"The checkpoint {partial} cannot be written ({cause}); {free} bytes are free{hint}. "
            "The checkpoints before it are untouched."
        )

    def point_to_best(self, step: int) -> None:
        """Let the link `best` point to the checkpoint of a step."""
        files.point(self.path / BEST, self.path_of(step).name)

    def best(self) -> int | None:
        """The step that the link `best` points to, None without one."""
        try:
            found = _COMMITTED.fullmatch(os.readlink(self.path / BEST))
        except OSError:
            return None
        return int(found[1]) if found else None

    def newest_whole(self, tell: Callable[[str], Any]) -> int | None:
        """The newest checkpoint that is as it was written.

        Args:
            tell: gets a sentence for each newer one that is not.
        """
        for step in reversed(self.steps()):
            damage = self.find_damage(step)
            if not damage:
                return step
            tell(f"{self.path_of(step)} is left out: {'; '.join(damage)}.")
        return None

    def recover(self) -> None:
        """Put right what a process left that was killed while it wrote."""
        for place in self.path.glob(f"{_REPLACED}*"):
            number = place.name.removeprefix(_REPLACED)
            if not number.isdecimal() or self.path_of(int(number)).exists():
                _remove(place)
            else:
                os.rename(place, self.path_of(int(number)))
        for place in self.path.glob(f"{_UNFINISHED}*"):
            _remove(place)
        for place in self.path.glob(".*.*"):  # a link that was about to be moved
            if place.is_symlink():
                place.unlink()

    def prune(self, keep: Keep, always: Iterable[int] = ()) -> list[int]:
        """Remove the checkpoints that need not stay.

        Args:
            keep: which stay.
            always: further steps that stay.

        Returns:
            The steps of those that were removed.
        """
        steps = self.steps()
        gone = sorted(set(steps) - keep.chosen(steps) - set(always))
        for step in gone:
            # By another name first: one that is only half removed would be called damaged.
            partial = self.path / f"{_UNFINISHED}{step:08d}"
            os.rename(self.path_of(step), partial)
            shutil.rmtree(partial)
        return gone

    def roll_back(self, step: int) -> list[int]:
        """Go back to the checkpoint of a step: newer ones are set aside, none is removed.

        Returns:
            The steps of those that were set aside.

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
        """Take checkpoints out of the way without removing them.

        Args:
            steps: theirs.
        """
        aside = _free(self.path / _SET_ASIDE)
        gone = set(steps)
        for step in sorted(gone):
            aside.mkdir(exist_ok=True)
            os.rename(self.path_of(step), aside / self.path_of(step).name)
        left = self.steps()
        if left:
            files.point(self.path / LAST, self.path_of(left[-1]).name)
        else:
            (self.path / LAST).unlink(missing_ok=True)
        if self.best() in gone:
            (self.path / BEST).unlink()

    def find_damage(self, step: int) -> list[str]:
        """What makes the checkpoint of a step useless, a line each; empty for a whole one."""
        return self._find_damage(self.path_of(step))


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return path if path.exists() else existing(path.absolute().parent)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _free(path: Path) -> Path:
    """The path, with a number behind it where there is something already."""
    number = 1
    free = path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
