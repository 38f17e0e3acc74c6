"""A trial of Keras Tuner's: what keeps its checkpoints apart from the other trials'."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from keras_candle.callback.callback_list import listed


@dataclass(frozen=True)
class TunerTrial:
    """What a fit is a part of.

    Attributes:
        name: the trial's id.
        hyperparameters: its values, as JSON text. Another search in the same run directory may
            have a trial of this name.
    """

    name: str
    hyperparameters: str

    @property
    def identity(self) -> dict[str, str]:
        """What must be the same for one of its checkpoints to be gone on from."""
        return {"hyperparameters": self.hyperparameters}

    def directory(self, run_directory: Path) -> Path:
        """Where its fits have their checkpoints: the n-th start of a search has other n-th fits."""
        return run_directory / f"trial_{quote(self.name, safe='')}"


def trial_of(callbacks: Any) -> TunerTrial | None:
    """The trial whose TunerCallback is among the callbacks of a `fit`; None where there is none.

    Example:
        >>> trial_of([]) is None
        True
    """
    for each in listed(callbacks or []):
        # Not by isinstance: a training without Keras Tuner need not import it.
        if any(kind.__name__ == "TunerCallback" for kind in type(each).__mro__):
            values = each.trial.hyperparameters.values
            return TunerTrial(
                str(each.trial.trial_id), json.dumps(values, sort_keys=True, default=str)
            )
    return None


def directory_of(run_directory: Path, callbacks: Any) -> Path:
    """The directory in which a fit with these callbacks has its checkpoints."""
    trial = trial_of(callbacks)
    return trial.directory(run_directory) if trial else run_directory
