"""One run directory as a fit uses it: lock, checkpoints, journal, config.json, trials."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import keras
import numpy as np

from keras_candle.checkpoints.folder import CheckpointFolder
from keras_candle.checkpoints.reading import find_damage, read_state
from keras_candle.cluster.job_folder import JobFolder, element_of
from keras_candle.cluster.run_owner import waiting_owner
from keras_candle.cluster.schedulers import job_id
from keras_candle.engine.base import Engine
from keras_candle.errors import CheckpointError
from keras_candle.launcher_messages import JOB, restarts
from keras_candle.run_directory import RunDirectory, replace_file
from keras_candle.training.fit_call import listed
from keras_candle.training.options import ScalingOptions

# The root of a killed job may still be ending while the job starts again.
_EXIT_GRACE_S = 30.0
# Called after each call of the train function, before a checkpoint is taken, with the run and its
# steps before and after the call.
observers: list[Callable[[RunSession, int, int], None]] = []
# The run directories of the active fits: a fit may run within a callback of another one.
_under_way: set[Path] = set()
# By run directory, the steps at which this process's fits ended: the n-th fit of a restarted
# script resumes the n-th fit of the earlier attempt.
ends: dict[Path, list[int]] = {}


class RunSession:
    """A run directory as one fit uses it. Only root reads and writes there.

    Args:
        path: the directory.
        engine: connects the ranks.
        identity: facts that must be equal to resume one of its checkpoints, besides those of model
            and data.
        home: the directory of the search that the run is a trial of; None outside of a search.

    Attributes:
        home: the same; outside of a search the directory itself.
        fit: number of this fit among the script's fits in this directory, from 0.
        ends: the steps of the run at which the earlier fits ended.
        config: the text of config.json.
        trackers: the identity of the run for its trackers, see
            `keras_candle.trackers.identity`; saved in checkpoints.
        tracker_names: the names of its trackers, on root; empty where nothing is tracked.
        on_event: called after each line of the journal.
    """

    def __init__(
        self,
        path: Path,
        engine: Engine,
        identity: Mapping[str, Any] | None = None,
        home: Path | None = None,
    ) -> None:
        self.directory, self.engine = RunDirectory(path), engine
        self.home = RunDirectory(home or path).path
        self.identity = dict(identity or {})
        self.folder = CheckpointFolder(self.directory.checkpoints, find_damage)
        self.ends = list(ends.get(self.directory.path, []))
        self.fit = len(self.ends)
        self.config = ""
        self.trackers: dict[str, Any] = {}
        self.tracker_names: tuple[str, ...] = ()
        self.on_event: Callable[[], object] = lambda: None
        self._unwritten: list[dict[str, Any]] = []
        self._log_lock = threading.Lock()
        self._warned_of_journal = False

    @property
    def first_step(self) -> int:
        """Steps that the earlier fits have taken."""
        return max(self.ends, default=0)

    def open(self) -> None:
        """Lock the directory, before the first step.

        Raises:
            CheckpointError: on every rank, when root cannot lock or write it.
        """
        self.on_root(self._open)

    def _open(self) -> None:
        if self.directory.path.resolve() in _under_way:
            raise CheckpointError(
                f"{self.directory.path} is the run directory of the fit in whose callback this fit "
                "is called. Give the CandleCallback of this fit a directory of its own."
            )
        self.directory.acquire(
            self.engine.print_on_root, patience_s=_EXIT_GRACE_S if restarts() else 0.0
        )
        owner = waiting_owner(self.directory.job)
        if owner:
            self.directory.release()
            raise CheckpointError(
                f"The run directory {self.directory.path} belongs to {owner}, which has saved and "
                "waits for its next start. Wait for it, end it with `candle cancel`, or use "
                "another directory."
            )
        try:
            self.folder.recover()
        except OSError as cause:
            self.directory.release()
            raise CheckpointError(f"Cannot recover {self.folder.path} ({cause}).") from cause
        self._log_job()
        _under_way.add(self.directory.path.resolve())

    def _log_job(self) -> None:
        """Record which submitted job runs here; `candle status` and the like read it."""
        try:
            if JOB not in os.environ:
                self.directory.job.unlink(missing_ok=True)  # an earlier job's
                return
            job, element = JobFolder(Path(os.environ[JOB])), element_of(os.environ)
            # The job may begin before `candle submit` has learnt its id.
            facts = {
                "folder": str(job.path),
                "id": job.facts().get("id") or job_id(os.environ),
                "element": element,
            }
            replace_file(self.directory.job, json.dumps(facts).encode())
            job.log_run(self.directory.path, element)
        except OSError as cause:
            self.engine.print_on_root(
                f"The submitted job is not recorded in {self.directory.path} ({cause}): `candle "
                "status` will not find it there. The training continues."
            )

    def configure(self, text: str) -> None:
        """Write config.json.

        Raises:
            CheckpointError: on every rank, when root cannot write it.
        """
        self.config = text
        self.on_root(lambda: self._configure(text))

    def _configure(self, text: str) -> None:
        try:
            replace_file(self.directory.config, text.encode(), durable=True)
        except OSError as cause:
            raise CheckpointError(
                f"{self.directory.config} cannot be written ({cause})."
            ) from cause

    def notify_observers(self, before: int, now: int) -> None:
        """Notify the observers of the steps before and after a call of the train function."""
        for each in observers:
            each(self, before, now)

    def close(self) -> None:
        """Release the directory's lock."""
        if self.engine.is_root:
            _under_way.discard(self.directory.path.resolve())
        self.directory.release()

    def end_fit(self, step: int) -> None:
        """Record that this fit ended at a step of the run."""
        ends[self.directory.path] = [*self.ends, step]

    def find(self, resume: str) -> dict[str, Any] | None:
        """Return the state from which this fit resumes; None for a fit from the beginning.

        Args:
            resume: "auto", "required" or "never".

        Returns:
            The value of `read_state`, the same on all ranks.

        Raises:
            CheckpointError: on every rank, when a checkpoint is required and there is none.
        """
        state: dict[str, Any] | None = self.on_root(lambda: self._find(resume))
        return state

    def _find(self, resume: str) -> dict[str, Any] | None:
        steps = self.folder.steps()
        # A job that `candle run` restarts resumes even with "never".
        if resume == "never" and not restarts():
            if self.fit == 0 and steps:
                self.folder.set_aside(steps)
                self.engine.print_on_root(f"resume='never': set {len(steps)} checkpoints aside.")
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
                f"{self.fit + 1} of this script. Check the path of the run directory, or set "
                "resume='auto'."
            )
        return state

    def _end_of_this_fit(self, newest: dict[str, Any]) -> dict[str, Any]:
        """Return the state at the end of this fit, for a script that was in a later fit."""
        step = newest["ends"][self.fit]
        damage = self.folder.find_damage(step)
        if damage:
            raise CheckpointError(
                f"Fit number {self.fit + 1} of this script ended with {self.folder.path_of(step)}, "
                f"which is needed to resume number {newest['fit'] + 1} and is damaged: "
                f"{'; '.join(damage)}. Restore it from a copy, or set resume='never'."
            )
        return read_state(self.folder.path_of(step))

    def log_event(self, event: str, **facts: Any) -> None:
        """Append a line to the journal, on root.

        A failure prints one warning; the line is written before the next one.
        """
        if not self.engine.is_root:
            return
        time_s = round(time.time(), 3)
        # The thread that writes checkpoints logs them, too.
        with self._log_lock:
            self._unwritten.append({"event": event, "time_s": time_s, "fit": self.fit, **facts})
            try:
                while self._unwritten:
                    self.directory.log_event(**self._unwritten[0])
                    del self._unwritten[0]
            except OSError as cause:
                self._warn_of_journal(cause)
                return
        self.on_event()

    def _warn_of_journal(self, cause: OSError) -> None:
        if not self._warned_of_journal:
            self._warned_of_journal = True
            self.engine.print_on_root(
                f"{self.directory.journal} cannot be written ({cause}). The training continues; "
                "its epochs are written there when that is possible again."
            )

    def on_root(self, action: Callable[[], Any]) -> Any:
        """Run an action on root and return its result, or raise its error, on every rank.

        Raises:
            CandleError: root's error, as a `CheckpointError` where it is not a `CandleError`.
        """
        return self.engine.on_root(action, CheckpointError)


_PACKAGES = ("keras-candle", "keras", "tensorflow", "tensorflow-cpu", "numpy", "horovod", "mpi4py")
_OF_FIT = (
    "batch_size",
    "epochs",
    "initial_epoch",
    "shuffle",
    "steps_per_epoch",
    "validation_batch_size",
    "validation_freq",
    "validation_split",
    "validation_steps",
)


def config_of(
    callback: dict[str, Any],
    options: ScalingOptions | None,
    engine: Engine,
    call: Mapping[str, Any],
) -> str:
    """Return the text of config.json.

    Args:
        callback: the arguments of CandleCallback.
        options: those of `@candle.scalable`; None for a model that is not scaled.
        engine: connects the ranks.
        call: the arguments of `fit`.

    Returns:
        JSON, without values from the environment, the command line or the data.
    """
    fit = {name: call[name] for name in _OF_FIT if name in call}
    config = {
        "callback": callback,
        "scalable": None if options is None else asdict(options),
        "fit": fit,
        "ranks": engine.size,
        "engine": engine.name,
        "git": script_revision(),
        "backend": keras.backend.backend(),
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
    }
    return json.dumps(config, indent=1, default=_json_value)


def _json_value(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    # A scaling rule can be a function.
    return getattr(value, "__name__", str(value))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


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


@dataclass(frozen=True)
class TunerTrial:
    """The trial of Keras Tuner that a fit belongs to.

    Attributes:
        name: the trial's id.
        hyperparameters: their values, as JSON text. Another search in the same run directory may
            have a trial of this name.
    """

    name: str
    hyperparameters: str

    @property
    def identity(self) -> dict[str, str]:
        """The facts that must be equal to resume one of the trial's checkpoints."""
        return {"hyperparameters": self.hyperparameters}

    def directory(self, run_directory: Path) -> Path:
        """Return the run directory of the trial's fits.

        Trials do not share one: the n-th fit of a restarted search belongs to another trial.
        """
        return run_directory / f"trial_{quote(self.name, safe='')}"


def trial_of(callbacks: Any) -> TunerTrial | None:
    """Return the trial whose TunerCallback is among the callbacks of a `fit`; None for none.

    Example:
        >>> trial_of([]) is None
        True
    """
    for each in listed(callbacks or []):
        # By name, so that a training without Keras Tuner does not import it.
        if any(kind.__name__ == "TunerCallback" for kind in type(each).__mro__):
            values = each.trial.hyperparameters.values
            return TunerTrial(
                str(each.trial.trial_id), json.dumps(values, sort_keys=True, default=str)
            )
    return None


def directory_of(run_directory: Path, callbacks: Any) -> Path:
    """Return the run directory of a fit with these callbacks."""
    trial = trial_of(callbacks)
    return trial.directory(run_directory) if trial else run_directory
