"""Whether a search's objective can come out of its trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from keras_candle.errors import SearchError
from keras_candle.search.options import COST, MEASURES, parts_of

_HELD_OUT = ("validation_data", "validation_split")


def check_held_out(objective: Any, fit_kwargs: Mapping[str, Any]) -> None:
    """Refuse an objective that comes from validation, where there is none.

    Args:
        objective: the search's.
        fit_kwargs: what `fit` gets.

    Raises:
        SearchError: with what to give.
    """
    if any(fit_kwargs.get(name) for name in _HELD_OUT):
        return
    for each in parts_of(objective):
        if each.name.startswith("val_"):
            raise SearchError(
                f"The objective {each.name!r} comes from validation, and search() got neither "
                "validation_data nor validation_split. Give it one, or another objective."
            )


def check_names(objective: Any, logs: Iterable[str]) -> None:
    """Refuse an objective that a trial has not returned.

    Raises:
        SearchError: with the names that it has.
    """
    for each in parts_of(objective):
        if each.name not in (*logs, *MEASURES, COST):
            raise SearchError(
                f"The objective {each.name!r} is not among what a trial returned: "
                f"{', '.join(sorted(logs))}. Name one of these, or let the model report it."
            )
