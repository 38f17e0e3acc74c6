"""The Keras Tuner trial of a fit, which gives it a run directory of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from keras_candle.callback.callback_list import listed


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
