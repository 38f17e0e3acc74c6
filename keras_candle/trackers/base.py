"""The interface of trackers, which receive the metrics of a run."""

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
    """A run whose metrics are tracked.

    Attributes:
        id: the same for all attempts of the run.
        name: name of the run directory.
        directory: the run directory.
        home: the run directory; for a trial the directory of its search.
        group: the id of the search that a trial belongs to; empty outside of a search.
        config: content of `config.json` and a trial's hyperparameters; secrets are masked.
        from_bytes: offset of the run's first line in the journal.
        tell: prints a message for the user.
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
        """Return all attributes except `tell`, for another process."""
        facts = {name: value for name, value in vars(self).items() if name != "tell"}
        return {**facts, "directory": str(self.directory), "home": str(self.home)}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any], tell: Callable[[str], None]) -> TrackedRun:
        """Return the run of a value of `to_json`."""
        paths = {name: Path(facts[name]) for name in ("directory", "home")}
        return cls(**{**facts, **paths}, tell=tell)


class Tracker(ABC):
    """Receives the metrics of a run, on root.

    All methods are called from one thread, which is not the training's. An error in them is
    reported once, and stops nothing: `start` is called again some time later. Open nothing in
    `__init__`, since Keras Tuner copies callbacks.

    Example:
        >>> class Printing(Tracker):
        ...     def log(self, values, step):
        ...         print(step, values)
        >>> Printing().log({"epoch": 1, "loss": 0.5}, 12)
        12 {'epoch': 1, 'loss': 0.5}
    """

    def start(self, run: TrackedRun) -> int | None:  # noqa: ARG002 - for subclasses
        """Begin, or begin again after a failure or a new attempt.

        Args:
            run: the run to track.

        Returns:
            The last step of the run that the tracker's storage holds, -1 for none: the journal's
            rows after it follow. None where that is unknown: the rows that this object has not
            received follow.
        """
        return None

    @abstractmethod
    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the metrics of an epoch.

        Args:
            values: by name; `epoch` counts from 1.
            step: step of the run, larger than in the last call.
        """

    def log_config(self, config: Mapping[str, Any]) -> None:  # noqa: B027 - not all keep it
        """Log the run's configuration; called after each `start`."""

    def log_file(self, path: Path) -> None:  # noqa: B027 - not all keep files
        """Log a file of the run; called at its end."""

    def close(self, status: str) -> None:  # noqa: B027 - not all hold something open
        """Close the run.

        Args:
            status: "finished", "interrupted" (the same command resumes it) or "failed".
        """
