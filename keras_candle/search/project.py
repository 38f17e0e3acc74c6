"""A search's folder: Keras Tuner's own files, and beside them journals, claims and search.json.

search.json      which search this is: written once, compared by everyone who goes on
oracle.json      what a stock Keras Tuner oracle reads
trial_0000/      as Keras Tuner makes them: trial.json, the best epoch's weights
journals/        one file for each start of each group of ranks: the source of truth
points/          claimed points, so that no two groups try the same one
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_candle.errors import SearchError
from keras_candle.run_directory import replace_file
from keras_candle.search.journal import Journal, Readers
from keras_candle.search.leases import Leases, is_gone, owner
from keras_candle.search.space_difference import first_difference
from keras_candle.search.trial_log import TrialRecord

_FORMAT = 1
_WRITE_ORACLE_EVERY_S = 10.0


class Project:
    """The folder of one search, as one process uses it.

    Args:
        folder: of the project.
        lease_s: see `Leases`.
    """

    def __init__(self, folder: Path, lease_s: float) -> None:
        self.folder = folder
        self.claims = Leases(folder, lease_s)
        self._journals = folder / "journals"
        self._readers = Readers(self._journals)
        self._journal: Journal | None = None
        self._lowest = 0
        self._wrote_oracle_s = 0.0

    def begin(
        self, group: int, identity: dict[str, Any], hyperparameters: Any, seed: int | None
    ) -> int:
        """Make the folder, or see that it is this search's.

        Args:
            group: the number of the group that writes.
            identity: what must be the same for a search to go on.
            hyperparameters: a `keras_tuner.HyperParameters`: the space, as far as it is known.
                Where the search goes on and it is empty, it is filled with the recorded one.
            seed: of all draws; None: the recorded one, and where the search begins, a new one.

        Returns:
            The seed. It is the same for all processes: the first one records it.

        Raises:
            SearchError: when it cannot be written, or is another search's.
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
                f"The search's folder {self.folder} cannot be written ({cause}). Name one that can."
            ) from cause
        if not space:
            hyperparameters.merge(type(hyperparameters).from_config(
                {"space": found["space"], "values": {}}))  # fmt: skip
        else:
            self._compare(found, ours)
        return int(found.get("seed", 0) if seed is None else seed)

    def _refuse_keras_tuner(self) -> None:
        """Keras Tuner's own search has no search.json; its trials would be taken for lost ones."""
        found = [self.folder / "oracle.json", *self.folder.glob("trial_*/trial.json")]
        # In this order: ours may be begun by another group meanwhile, with search.json first.
        if any(each.exists() for each in found) and not (self.folder / "search.json").exists():
            raise SearchError(
                f"{self.folder} belongs to a search of Keras Tuner's own tuners, which has no "
                "journals to go on with. Name another project, or say overwrite=True."
            )

    def _compare(self, found: dict[str, Any], ours: dict[str, Any]) -> None:
        remedy = "Go on with what it was begun with, name another project, or say overwrite=True."
        for what, value in ours["search"].items():
            before = found.get("search", {}).get(what)
            if before != value:
                raise SearchError(
                    f"{self.folder} belongs to another search: its {what} is {before}, here it is "
                    f"{value}. {remedy}"
                )
        if difference := first_difference(found.get("space", []), ours["space"]):
            raise SearchError(
                f"The search space in {self.folder} is another: {difference}. {remedy}"
            )

    def log_event(self, event: str, **facts: Any) -> None:
        """Append a line to this process's journal.

        Raises:
            SearchError: when it cannot be written.
        """
        if self._journal is None:
            raise SearchError("The project has not begun: call begin() first.")
        try:
            self._journal.append(event, **facts)
        except OSError as cause:
            raise SearchError(
                f"{self._journal.path} cannot be written ({cause}); what was there before is whole."
            ) from cause

    def new_lines(self) -> list[dict[str, Any]]:
        """What all groups have written since the last call."""
        return self._readers.new_lines()

    # Trials.

    def free_number(self, max_trials: int | None, known: set[str]) -> str | None:
        """The lowest number of a trial that nobody is known to have; None past the limit."""
        while number_of(self._lowest) in known:
            self._lowest += 1
        return self._within(self._lowest, max_trials)

    def claim_number(self, trial_id: str, max_trials: int | None) -> str | None:
        """Claim a trial's number, or the next one that is free; None past the limit."""
        number = int(trial_id)
        while (name := self._within(number, max_trials)) is not None:
            if self.claims.trial(name):
                return name
            number += 1
        return None

    @staticmethod
    def _within(number: int, max_trials: int | None) -> str | None:
        return number_of(number) if max_trials is None or number < max_trials else None

    def is_free(self, record: TrialRecord, tuner_id: str) -> bool:
        """Whether a trial has to be started again: it failed, or who ran it is gone or silent.

        Args:
            record: the trial.
            tuner_id: who asks. A tuner has one trial at a time, so it no longer runs what it began.
        """
        start = record.last_start
        # Who has claimed the next start has not told of it yet.
        told = start.number == self.claims.last_start(record.trial_id)
        if told and (start.end is not None or start.left or is_gone(start.owner)):
            return True
        if told and start.tuner == tuner_id and start.owner == owner():
            return True
        return self.claims.is_silent(record.trial_id)

    def claimed_values(self, trial_id: str) -> dict[str, Any] | None:
        """The values that a trial was to have, where its point was claimed."""
        claimed = (each for each in self.claims.points() if each["trial"] == trial_id)
        return next((dict(each["values"]) for each in claimed), None)

    # Keras Tuner's files.

    def write_trial(self, trial: Any) -> None:
        """Write trial.json, whole or not at all.

        Raises:
            SearchError: when it cannot be written.
        """
        self._replace(self.folder / f"trial_{trial.trial_id}" / "trial.json", trial.get_state())

    def write_oracle(self, state: Callable[[], dict[str, Any]], *, now: bool) -> None:
        """Write oracle.json, not more often than every few seconds.

        Args:
            state: gives what to write.
            now: whether it is written in any case.

        Raises:
            SearchError: when it cannot be written.
        """
        if now or time.monotonic() - self._wrote_oracle_s > _WRITE_ORACLE_EVERY_S:
            self._replace(self.folder / "oracle.json", state())
            self._wrote_oracle_s = time.monotonic()

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file into the folder, whole or not at all.

        Raises:
            SearchError: when it cannot be written.
        """
        self._replace(self.folder / name, content)

    @staticmethod
    def _replace(path: Path, content: dict[str, Any]) -> None:
        # Not synced: the journals are the truth, and a stock oracle's files can be written again.
        try:
            replace_file(path, json.dumps(content).encode())
        except OSError as cause:
            raise SearchError(
                f"{path} cannot be written ({cause}); what was there before is whole."
            ) from cause


def number_of(number: int) -> str:
    """A trial's name."""
    return f"{number:04d}"


def _write_once(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Write a file that is not there yet; returns what it holds, whoever wrote it."""
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
