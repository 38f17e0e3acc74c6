"""The trackers that have names, and what they need."""

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
# These run in a process of their own: their packages block, and some crash.
OF_OTHERS = frozenset({"tensorboard", "wandb", "mlflow"})


def check(trackers: object) -> tuple[str | Tracker, ...]:
    """What a user asked for.

    Args:
        trackers: a name, a Tracker, or several of them.

    Returns:
        The names and Trackers; each name once.

    Raises:
        CandleError: for something else.

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
                f"trackers={trackers!r}: {each!r} is none of {', '.join(map(repr, _KNOWN))}, and "
                "no object of a class that is made from candle.Tracker."
            )
    return tuple(dict.fromkeys(given)) if all(isinstance(e, str) for e in given) else tuple(given)


def check_packages(trackers: Sequence[str | Tracker]) -> None:
    """Look for the packages of the named ones, without importing them.

    Raises:
        CandleError: with the way to get one that is missing.
    """
    for each in trackers:
        if isinstance(each, str):
            for package in _KNOWN[each][1]:
                require(package, f"trackers={each!r}")


def make(name: str) -> Tracker:
    """The tracker that has a name."""
    module, _, kind = _KNOWN[name][0].partition(".")
    tracker: Tracker = getattr(importlib.import_module(f"keras_candle.trackers.{module}"), kind)()
    return tracker
