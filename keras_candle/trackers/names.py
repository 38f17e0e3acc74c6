"""The named trackers and the packages that they need."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from keras_candle.errors import CandleError
from keras_candle.optional import require
from keras_candle.trackers.base import Tracker

# name -> its class, and the packages that it needs
_KNOWN: dict[str, tuple[str, tuple[str, ...]]] = {
    "csv": ("csv_file.CsvFile", ()),
    "tensorboard": ("tensorboard.TensorBoard", ("tensorboard",)),
    "wandb": ("wandb.Wandb", ("wandb",)),
    "mlflow": ("mlflow.Mlflow", ("mlflow", "sqlalchemy", "alembic")),
}
# These run in a separate process: their packages block, and some crash.
IN_TRACKER_PROCESS = frozenset({"tensorboard", "wandb", "mlflow"})


def check(trackers: object) -> tuple[str | Tracker, ...]:
    """Validate the argument `trackers` of CandleCallback.

    Args:
        trackers: a name, a Tracker, or several of them.

    Returns:
        The names and Trackers; each name once.

    Raises:
        CandleError: for any other value.

    Example:
        >>> check("csv")
        ('csv',)
    """
    given = [trackers] if isinstance(trackers, str | Tracker) else trackers
    if not isinstance(given, Sequence):
        raise CandleError(
            f"trackers={trackers!r}, expected a name, a candle.Tracker, or a list of them."
        )
    for each in given:
        if not isinstance(each, Tracker) and each not in _KNOWN:
            raise CandleError(
                f"trackers={trackers!r}: got {each!r}, expected one of "
                f"{', '.join(map(repr, _KNOWN))} or an instance of a subclass of candle.Tracker."
            )
    return tuple(dict.fromkeys(given)) if all(isinstance(e, str) for e in given) else tuple(given)


def check_packages(trackers: Sequence[str | Tracker]) -> None:
    """Check that the packages of named trackers are installed, without importing them.

    Raises:
        CandleError: with the command that installs a missing one.
    """
    for each in trackers:
        if isinstance(each, str):
            for package in _KNOWN[each][1]:
                require(package, f"trackers={each!r}")


def make(name: str) -> Tracker:
    """Create the tracker of a name."""
    module, _, kind = _KNOWN[name][0].partition(".")
    tracker: Tracker = getattr(importlib.import_module(f"keras_candle.trackers.{module}"), kind)()
    return tracker
