"""What a tracker is: a place where the numbers of a run go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FINISHED, INTERRUPTED, FAILED = "finished", "interrupted", "failed"


def _print_nothing(_: str) -> None: ...


@dataclass(frozen=True)
class TrackedRun:
    """The run whose numbers go somewhere.

    Attributes:
        id: the same for all starts of the run.
        name: of its directory.
        directory: the run's.
        home: the run's directory; that of the search for a trial.
        group: the id of the search that a trial belongs to; empty where there is none.
        config: what `config.json` says, and a trial's hyperparameters; secrets are masked.
        from_bytes: where the run begins in the journal.
        tell: tells the user a sentence.
    """

    id: str
    name: str
    directory: Path
    home: Path
    group: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    from_bytes: int = 0
    tell: Callable[[str], None] = _print_nothing

    def to_json(self) -> dict[str, Any]:
        """All but `tell`, for another process."""
        facts = {name: value for name, value in vars(self).items() if name != "tell"}
        return {**facts, "directory": str(self.directory), "home": str(self.home)}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any], tell: Callable[[str], None]) -> TrackedRun:
        """What `to_json` returned, as a run again."""
        paths = {name: Path(facts[name]) for name in ("directory", "home")}
        return cls(**{**facts, **paths}, tell=tell)


class Tracker(ABC):
    """A place where the numbers of a run go, on root.

    All methods are called from one thread, which is not the training's. What they raise is told
    once, and stops nothing: `start` is called again some time later. Nothing is to be opened in
    `__init__`, since Keras Tuner copies callbacks.

    Example:
        >>> class Printing(Tracker):
        ...     def log(self, values, step):
        ...         print(step, values)
        >>> Printing().log({"epoch": 1, "loss": 0.5}, 12)
        12 {'epoch': 1, 'loss': 0.5}
    """

    def start(self, run: TrackedRun) -> int | None:  # noqa: ARG002 - for those that need it
        """Begin, or begin again.

        Args:
            run: whose numbers will come.

        Returns:
            The last step of the run that is held already, -1 for none: what the journal has behind
            it comes next. None where that is not known: then comes what this object was not given.
        """
        return None

    @abstractmethod
    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take the numbers of an epoch.

        Args:
            values: by name; `epoch` counts from 1.
            step: steps of the run, more than the last time.
        """

    def log_config(self, config: Mapping[str, Any]) -> None:  # noqa: B027 - not all keep it
        """Take what the run was asked to do, after each `start`."""

    def log_file(self, path: Path) -> None:  # noqa: B027 - not all keep files
        """Take a file of the run, at its end."""

    def close(self, status: str) -> None:  # noqa: B027 - not all hold something open
        """End.

        Args:
            status: "finished", "interrupted" (the same command goes on) or "failed".
        """
