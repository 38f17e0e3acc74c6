"""A search's folder: Keras Tuner's own files, and journals, claims and search.json.

search.json      the search's identity: written once, compared by each process that resumes it
oracle.json      read by Keras Tuner's own oracles
trial_0000/      as Keras Tuner creates them: trial.json, the best epoch's weights
journals/        one file for each start of each group of ranks: the source of truth
points/          claimed points, so that no two groups try the same one
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from keras_candle.cluster.job_folder import JobFolder
from keras_candle.errors import SearchError
from keras_candle.launcher_messages import JOB, STARTED_S, restarts
from keras_candle.run_directory import replace_file
from keras_candle.search.groups import Group
from keras_candle.search.leases import Leases, has_exited, owner
from keras_candle.search.trial_log import Journal, JournalReader, TrialRecord

_FORMAT = 1
_WRITE_ORACLE_EVERY_S = 10.0
_LONGEST_WAIT_S = 600.0
_EMPTIED: set[Path] = set()


class Project:
    """The folder of one search, opened by one process.

    Args:
        folder: of the project.
        lease_s: see `Leases`.
    """

    def __init__(self, folder: Path, lease_s: float) -> None:
        self.folder = folder
        self.leases = Leases(folder, lease_s)
        self._journals = folder / "journals"
        self._readers = JournalReader(self._journals)
        self._journal: Journal | None = None
        self._lowest = 0
        self._wrote_oracle_s = 0.0

    def begin(
        self, group: int, identity: dict[str, Any], hyperparameters: Any, seed: int | None
    ) -> int:
        """Create the folder, or check that it belongs to this search.

        Args:
            group: the number of the group that writes.
            identity: the options that a resumed search must repeat.
            hyperparameters: a `keras_tuner.HyperParameters`: the space, as far as it is known. If
                it is empty and the search is resumed, it is filled with the recorded one.
            seed: of all draws; None: the recorded one; in a new search, a new one.

        Returns:
            The seed. It is the same for all processes: the first one records it.

        Raises:
            SearchError: when the folder cannot be written, or belongs to another search.
        """
        space = hyperparameters.get_config()["space"]
        offered = secrets.randbits(31) if seed is None else seed
        ours = {"format": _FORMAT, "search": identity, "space": space, "seed": offered}
        self._refuse_keras_tuner()
        try:
            self._journals.mkdir(parents=True, exist_ok=True)
            found = _write_once(self.folder / "search.json", ours)
            self._journal = Journal(self._journals, f"group-{group:05d}")
        except OSError as cause:
            raise SearchError(
                f"Cannot write the search's folder {self.folder} ({cause}). Choose a writable "
                "directory."
            ) from cause
        if not space:
            hyperparameters.merge(type(hyperparameters).from_config(
                {"space": found["space"], "values": {}}))  # fmt: skip
        else:
            self._compare(found, ours)
        return int(found.get("seed", 0) if seed is None else seed)

    def _refuse_keras_tuner(self) -> None:
        """Refuse a folder of Keras Tuner's own tuners: its trials would be taken for lost ones."""
        found = [self.folder / "oracle.json", *self.folder.glob("trial_*/trial.json")]
        # In this order: another group may create ours meanwhile, starting with search.json.
        if any(each.exists() for each in found) and not (self.folder / "search.json").exists():
            raise SearchError(
                f"{self.folder} belongs to a search of Keras Tuner's own tuners, which has no "
                "journals to resume from. Name another project, or pass overwrite=True."
            )

    def _compare(self, found: dict[str, Any], ours: dict[str, Any]) -> None:
        remedy = "Restore the old value, name another project, or pass overwrite=True."
        for name, value in ours["search"].items():
            before = found.get("search", {}).get(name)
            if before != value:
                raise SearchError(
                    f"{self.folder} belongs to another search: its {name} is {before}, here it is "
                    f"{value}. {remedy}"
                )
        if difference := first_difference(found.get("space", []), ours["space"]):
            raise SearchError(
                f"The search space in {self.folder} is different: {difference}. {remedy}"
            )

    def log_event(self, event: str, **facts: Any) -> None:
        """Append a line to this process's journal.

        Raises:
            SearchError: when it cannot be written.
        """
        if self._journal is None:
            raise SearchError("The project has no journal yet: call begin() first.")
        try:
            self._journal.append(event, **facts)
        except OSError as cause:
            raise SearchError(
                f"Cannot write {self._journal.path} ({cause}); its earlier lines are intact."
            ) from cause

    def new_lines(self) -> list[dict[str, Any]]:
        """Return the journal lines that all groups have written since the last call."""
        return self._readers.new_lines()

    # Trials.

    def free_number(self, max_trials: int | None, known: set[str]) -> str | None:
        """Return the lowest trial number that is not in `known`; None past the limit."""
        while trial_id_of(self._lowest) in known:
            self._lowest += 1
        return self._within(self._lowest, max_trials)

    def claim_number(self, trial_id: str, max_trials: int | None) -> str | None:
        """Claim a trial's number, or the next free one; return None past the limit."""
        number = int(trial_id)
        while (name := self._within(number, max_trials)) is not None:
            if self.leases.claim_trial(name):
                return name
            number += 1
        return None

    @staticmethod
    def _within(number: int, max_trials: int | None) -> str | None:
        return trial_id_of(number) if max_trials is None or number < max_trials else None

    def is_free(self, record: TrialRecord, tuner_id: str) -> bool:
        """Return whether a trial may run again: it failed, its process died or its lease expired.

        Args:
            record: the trial.
            tuner_id: the tuner that asks. It runs one trial at a time, so it no longer runs one
                that it started earlier.
        """
        attempt = record.last_attempt
        # Else another process has claimed the next attempt and not written it to its journal yet.
        logged = attempt.number == self.leases.last_attempt(record.trial_id)
        if logged and (attempt.end is not None or attempt.left or has_exited(attempt.owner)):
            return True
        if logged and attempt.tuner == tuner_id and attempt.owner == owner():
            return True
        return self.leases.has_expired(record.trial_id)

    def claimed_values(self, trial_id: str) -> dict[str, Any] | None:
        """Return the values of the point that a trial has claimed; None without one."""
        claimed = (each for each in self.leases.claimed_points() if each["trial"] == trial_id)
        return next((dict(each["values"]) for each in claimed), None)

    # Keras Tuner's files.

    def write_trial(self, trial: Any) -> None:
        """Write trial.json atomically.

        Raises:
            SearchError: when it cannot be written.
        """
        self._replace(self.folder / f"trial_{trial.trial_id}" / "trial.json", trial.get_state())

    def write_oracle(self, state: Callable[[], dict[str, Any]], *, now: bool) -> None:
        """Write oracle.json, not more often than every few seconds.

        Args:
            state: returns the content.
            now: whether to write in any case.

        Raises:
            SearchError: when it cannot be written.
        """
        if now or time.monotonic() - self._wrote_oracle_s > _WRITE_ORACLE_EVERY_S:
            self._replace(self.folder / "oracle.json", state())
            self._wrote_oracle_s = time.monotonic()

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file into the folder atomically.

        Raises:
            SearchError: when it cannot be written.
        """
        self._replace(self.folder / name, content)

    @staticmethod
    def _replace(path: Path, content: dict[str, Any]) -> None:
        # Not synced: the journals are the source of truth, and these files can be written again.
        try:
            replace_file(path, json.dumps(content).encode())
        except OSError as cause:
            raise SearchError(
                f"Cannot write {path} ({cause}); its earlier content is intact."
            ) from cause


def trial_id_of(number: int) -> str:
    """Return a trial's name."""
    return f"{number:04d}"


def _write_once(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Write a file if it does not exist; return its content, whichever process wrote it."""
    if not path.exists():
        made = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        made.write_text(json.dumps(content, indent=1))
        try:
            os.link(made, path)
        except FileExistsError:
            pass
        finally:
            made.unlink()
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def first_difference(found: list[dict[str, Any]], ours: list[dict[str, Any]]) -> str:
    """Describe the first difference between two spaces; empty if none. The order doesn't matter.

    Args:
        found: the recorded space, as Keras Tuner's configurations.
        ours: the current space.
    """
    before = {_name_and_conditions(each): each for each in found}
    now = {_name_and_conditions(each): each for each in ours}
    for key in {**before, **now}:
        if before.get(key) != now.get(key):
            return (
                f"hyperparameter {key[0]!r} was {_described(before.get(key))}, here it is "
                f"{_described(now.get(key))}"
            )
    return ""


def _name_and_conditions(described: dict[str, Any]) -> tuple[str, str]:
    config = described["config"]
    return str(config["name"]), json.dumps(config["conditions"], default=str)


def _described(described: dict[str, Any] | None) -> str:
    if described is None:
        return "not there"
    hidden = ("name", "conditions")
    inner = ", ".join(f"{k}={v!r}" for k, v in described["config"].items() if k not in hidden)
    return f"{described['class_name']}({inner})"


# overwrite=True: one process empties the folder, and all processes wait for it.


def empty_project(folder: Path, group: Group, *, first: bool) -> None:
    """Empty a search's folder, once in a job.

    Args:
        folder: the folder.
        group: this process's group.
        first: whether this process empties it.

    Raises:
        SearchError: in an array of jobs, when several processes have no common job, the folder was
            emptied before in this job, or the first process did not empty it in time.
    """
    if group.elements > 1:
        raise SearchError(
            f"overwrite=True in an array of {group.elements} jobs: each starts by itself and would "
            f"remove the trials of those before it. Remove {folder} before you submit the array, "
            "or name another project."
        )
    alone = group.count == 1
    # A job that `candle run` restarts resumes its search.
    if restarts():
        return
    job = _job()
    if not alone and not job:
        raise SearchError(
            "overwrite=True on several ranks needs `candle run`, which gives all ranks a common "
            "job. Start the script with it, remove the folder before, or name another project."
        )
    if not alone and folder.resolve() in _EMPTIED:
        raise SearchError(
            f"overwrite=True was used before for {folder} in this job, and other ranks may still "
            "run that search. Name another project."
        )
    again = folder.resolve() in _EMPTIED
    _EMPTIED.add(folder.resolve())
    mark = folder / ".job"
    if first:
        # A job that its scheduler starts again resumes its search, too.
        if not again and JOB in os.environ and mark.exists() and mark.read_text() == job:
            return
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        mark.write_text(job)
        return
    for _ in _until(_LONGEST_WAIT_S):
        with contextlib.suppress(FileNotFoundError):
            if mark.read_text() == job:
                return
    raise SearchError(
        f"The first rank did not empty {folder} within {_LONGEST_WAIT_S:.0f} s. Check that all "
        "ranks see the same folder, and that the first rank is running."
    )


def _job() -> str:
    """What all processes of this job have in common; requeued, a submitted job keeps it."""
    if JOB in os.environ:
        # Its id may change with a requeue, see keras_candle.cluster.submission.
        return f"{os.environ[JOB]} {JobFolder(Path(os.environ[JOB])).facts().get('submitted_s')}"
    return os.environ.get(STARTED_S, "")


def _until(seconds: float) -> Iterator[None]:
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        yield
        time.sleep(0.02)
