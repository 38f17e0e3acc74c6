"""Keras's walk over all that it saves of a model, and its stores."""

from __future__ import annotations

from typing import Any

from keras_candle.keras_private.contract import SAVING, load_private

DiskIOStore: Any = load_private(SAVING, "DiskIOStore")
H5IOStore: Any = load_private(SAVING, "H5IOStore")
_save_state: Any = load_private(SAVING, "_save_state")
_load_state: Any = load_private(SAVING, "_load_state")


def save_state(model: Any, weights: Any, assets: Any, visited: set[int]) -> None:
    """Let each object of a model save itself, in Keras's order.

    Args:
        model: the model.
        weights: a store of variables, or None.
        assets: a store of files, or None.
        visited: ids of objects that are left out; Keras adds each one that it has saved.
    """
    _save_state(
        model,
        weights_store=weights,
        assets_store=assets,
        inner_path="",
        visited_saveables=visited,
    )


def load_state(
    model: Any, weights: Any, assets: Any, visited: set[int]
) -> list[tuple[Any, Exception]]:
    """Let each object of a model load itself, in Keras's order.

    Args:
        model: the model.
        weights: a store of variables, or None.
        assets: a store of files, or None.
        visited: ids of objects that are left out.

    Returns:
        The objects that could not, with the reason.
    """
    problems: dict[int, tuple[Any, Exception]] = {}
    _load_state(
        model,
        weights_store=weights,
        assets_store=assets,
        inner_path="",
        visited_saveables=visited,
        failed_saveables=set(),
        error_msgs=problems,
    )
    return list(problems.values())
