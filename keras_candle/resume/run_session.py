"""One run directory in this process: its checkpoints, which the fits of a script share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from keras_candle.checkpoints import files
from keras_candle.checkpoints.folder import CheckpointFolder
from keras_candle.checkpoints.reading import find_damage, read_state
from keras_candle.engine.base import Engine
from keras_candle.errors import CheckpointError
from keras_candle.launcher_messages import restarts
from keras_candle.run_directory import RunDirectory

# The root of a job that was killed may still be ending while the job starts again.
_LAST_BREATH_S = 30.0
# Told of each call of the train function before a checkpoint is made: the run, and how many steps
# it had taken before and has taken now.
observers: list[Callable[[RunSession, int, int], None]] = []
# The run directories of the fits that are under way: one may be called in another's callback.
_under_way: set[Path] = set()
# The steps at which the fits of this process ended in a run directory: the n-th fit of a script
# that is started again is the n-th of the one before.
ends: dict[Path, list[int]] = {}


class RunSession:
    """A run directory as one fit uses it. Root alone reads and writes there.

    Args:
        path: the directory.
        engine: connects the ranks.
        identity: what must be the same for one of its checkpoints to be gone on from, beside
            model and data.

    Attributes:
        fit: which of the script's fits in this directory this one is, from 0.
        ends: the steps of the run at which the fits before it ended.
        config: the text of config.json.
        trackers: what `keras_candle.trackers.identity` says of the run, kept in checkpoints.
        noted: called after each line of the journal.
    """

    def __init__(
        self, path: Path, engine: Engine, identity: Mapping[str, Any] | None = None
    ) -> None:
        self.directory, self.engine = RunDirectory(path), engine
        self.identity = dict(identity or {})
        self.folder = CheckpointFolder(self.directory.checkpoints, find_damage)
        self.ends = list(ends.get(self.directory.path, []))
        self.fit = len(self.ends)
        self.config = ""
        self.trackers: dict[str, Any] = {}
        self.noted: Callable[[], object] = lambda: None
        self._told = False

    @property
    def first_step(self) -> int:
        """Steps that the fits before this one have taken."""
        return max(self.ends, default=0)

    def open(self) -> None:
        """Own the directory, before the first step.

        Raises:
            CheckpointError: on every rank, when root cannot.
        """
        self.on_root(self._open)

    def _open(self) -> None:
        if self.directory.path.resolve() in _under_way:
            raise CheckpointError(
                f"{self.directory.path} is the run directory of the fit in whose callback this fit "
                "is called. Give the CandleCallback of this one a directory of its own."
            )
        self.directory.own(
            self.engine.print_on_root, patience_s=_LAST_BREATH_S if restarts() else 0.0
        )
        try:
            self.folder.recover()
        except OSError as cause:
            self.directory.give_up()
            raise CheckpointError(f"{self.folder.path} cannot be put right ({cause}).") from cause
        _under_way.add(self.directory.path.resolve())

    def configure(self, text: str) -> None:
        """Write config.json.

        Raises:
            CheckpointError: on every rank, when root cannot.
        """
        self.config = text
        self.on_root(lambda: self._configure(text))

    def _configure(self, text: str) -> None:
        try:
            files.replace(self.directory.config, text.encode())
        except OSError as cause:
            raise CheckpointError(
                f"{self.directory.config} cannot be written ({cause})."
            ) from cause

    def notify_observers(self, before: int, now: int) -> None:
        """Tell the observers that the steps have gone from one number to another."""
        for each in observers:
            each(self, before, now)

    def close(self) -> None:
        """Let another process own it."""
        if self.engine.is_root:
            _under_way.discard(self.directory.path.resolve())
        self.directory.give_up()

    def end_fit(self, step: int) -> None:
        """Take note that this fit came to its end at a step of the run."""
        ends[self.directory.path] = [*self.ends, step]

    def find(self, resume: str) -> dict[str, Any] | None:
        """The state from which this fit goes on, None where it begins.

        Args:
            resume: "auto", "required" or "never".

        Returns:
            What `read_state` returns, the same on all ranks.

        Raises:
            CheckpointError: on every rank, when one is required and there is none.
        """
        state: dict[str, Any] | None = self.on_root(lambda: self._find(resume))
        return state

    def _find(self, resume: str) -> dict[str, Any] | None:
        steps = self.folder.steps()
        # A job that `candle run` starts again goes on, whatever it was to begin with.
        if resume == "never" and not restarts():
            if self.fit == 0 and steps:
                self.folder.set_aside(steps)
                self.engine.print_on_root(
                    f"resume='never': {len(steps)} checkpoints were set aside."
                )
            return None
        newest = self.folder.newest_whole(self.engine.print_on_root)
        state = None if newest is None else read_state(self.folder.path_of(newest))
        damaged = [step for step in steps if newest is None or step > newest]
        if state is not None and state["fit"] > self.fit:
            state = self._end_of_this_fit(state)
        elif damaged:
            self.folder.set_aside(damaged)
        if state is not None and state["fit"] < self.fit:
            state = None
        if state is None and resume == "required":
            raise CheckpointError(
                f"resume='required', but {self.folder.path} has no whole checkpoint of fit number "
                f"{self.fit + 1} of this script. Look for the right run directory, or say "
                "resume='auto'."
            )
        return state

    def _end_of_this_fit(self, newest: dict[str, Any]) -> dict[str, Any]:
        """The state with which this fit ended: a later one of the script was under way."""
        step = newest["ends"][self.fit]
        damage = self.folder.find_damage(step)
        if damage:
            raise CheckpointError(
                f"Fit number {self.fit + 1} of this script ended with {self.folder.path_of(step)}, "
                f"which is needed to go on with number {newest['fit'] + 1} and is damaged: "
                f"{'; '.join(damage)}. Put it back from a copy, or say resume='never'."
            )
        return read_state(self.folder.path_of(step))

    def log_event(self, event: str, **facts: Any) -> None:
        """Append a line to the journal, on root. Where it cannot be written, that is said once."""
        if not self.engine.is_root:
            return
        try:
            self.directory.log_event(event, fit=self.fit, **facts)
            self.noted()
        except OSError as cause:
            if not self._told:
                self.engine.print_on_root(f"{self.directory.journal} cannot be written ({cause}).")
            self._told = True

    def on_root(self, action: Callable[[], Any]) -> Any:
        """What an action returns on root, on every rank; what it raises, every rank raises.

        Raises:
            CandleError: what root raised, as a `CheckpointError` where it is no `CandleError`.
        """
        return self.engine.on_root(action, CheckpointError)
