"""Warn of what makes a resume inexact, or refuse it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras

from keras_candle.data.sharded_input import InexactOrder
from keras_candle.engine.base import Engine
from keras_candle.errors import CheckpointError
from keras_candle.random_state import draws_in

INEXACT_RESUME = ("skip", "refuse")
PART_OF_A_PASS = InexactOrder(
    "steps_per_epoch divides passes of finite data, and Keras cannot resume within a pass",
    "this pass begins anew, so some rows are seen twice",
    "repeat the data infinitely, dataset.repeat()",
)
_LISTED = 6
_BASE, _HOOKS = keras.utils.PyDataset, ("on_epoch_begin", "on_epoch_end")
_BY_NUMBER = "draw in __getitem__ by the batch's number, np.random.default_rng((seed, number))"


def doubts_of_pydatasets(training: Any, validation: Any) -> list[InexactOrder]:
    """List the reasons why PyDatasets may not give the same batches after a resume.

    Args:
        training: the adapter of the training data.
        validation: `validation_data` of `fit`.
    """
    doubts = []
    data = getattr(training, "source", None)
    if isinstance(data, keras.utils.PyDataset):
        parallel = data.workers > 1 or (data.workers == 1 and data.use_multiprocessing)
        if parallel and draws_in(data, "__getitem__"):
            doubts.append(
                InexactOrder(
                    f"{type(data).__name__}.__getitem__ draws random numbers in "
                    f"{data.workers} worker{'s' if data.workers > 1 else ''}, whose order or "
                    "states are not saved",
                    "the remaining batches draw different numbers",
                    _BY_NUMBER + ", or set workers=1 and use_multiprocessing=False",
                )
            )
    held_out = validation[0] if isinstance(validation, tuple | list) else validation
    held_out = getattr(held_out, "source", held_out)
    if isinstance(held_out, keras.utils.PyDataset):
        kind = type(held_out)
        draws = any(draws_in(held_out, name) for name in ("__getitem__", *_HOOKS))
        if draws or any(getattr(kind, name) is not getattr(_BASE, name) for name in _HOOKS):
            doubts.append(
                InexactOrder(
                    f"the validation data, {kind.__name__}, draw random numbers or have a hook, "
                    "and checkpoints do not keep their state",
                    "evaluations begin with the state that the program makes",
                    f"{_BY_NUMBER}, and change nothing in {' and '.join(_HOOKS)}",
                )
            )
    return doubts


def check_data_order(
    doubts: Sequence[InexactOrder], choice: str, folder: str, engine: Engine
) -> None:
    """Warn that data may not be read in the same order again, or refuse to resume.

    Args:
        doubts: reasons of this rank; ranks may have different data.
        choice: "skip" or "refuse".
        folder: the checkpoint.
        engine: connects the ranks.

    Raises:
        CheckpointError: on every rank, where a rank has a doubt and the choice is "refuse".
    """
    of_all = {each: None for rank in engine.gather_objects(list(doubts)) for each in rank}
    for each in of_all:
        if choice == "refuse":
            raise CheckpointError(
                f"Cannot resume {folder} exactly, as inexact_resume='refuse' requires: "
                f"{each.what}. Set inexact_resume='skip' ({each.then}), or start a new run with "
                f"data that can be resumed ({each.remedy}). The checkpoint is unchanged."
            )
        engine.print_on_root(
            f"{each.what}: {each.then} (for an exact resume: {each.remedy}; "
            "inexact_resume='refuse' makes this an error)"
        )


def check_unsavable_state(
    of_ranks: Sequence[Mapping[str, str]], choice: str, engine: Engine, reported: set[str]
) -> None:
    """Warn of state that checkpoints cannot save, or refuse to train with it.

    Args:
        of_ranks: for each rank, the types of such state by path.
        choice: "skip" or "refuse".
        engine: of this rank.
        reported: paths that this process has reported already; new ones are added.

    Raises:
        CheckpointError: on every rank, where a rank has such state and the choice is "refuse".
    """
    of_all = {path: kind for each in of_ranks for path, kind in each.items()}
    refused = choice == "refuse"
    new = {path: kind for path, kind in of_all.items() if refused or path not in reported}
    if not new:
        return
    reported.update(new)
    names = _listed(f"{path} ({kind})" for path, kind in new.items())
    remedy = "Give the callback or PyDataset get_state() and set_state(state)"
    if refused:
        raise CheckpointError(
            f"Checkpoints cannot keep the state of {names}, as inexact_resume='refuse' requires. "
            f"{remedy}, or set inexact_resume='skip': a resumed training then has them as the "
            "program makes them."
        )
    engine.print_on_root(
        f"checkpoints cannot keep the state of {names}; a resumed training has them as the program "
        f"makes them. {remedy} for an exact resume; inexact_resume='refuse' makes this an error."
    )


def check_unrestored_state(
    of_ranks: Sequence[Mapping[str, str]], choice: str, folder: str, engine: Engine
) -> None:
    """Warn of checkpoint state that could not be restored, or refuse to continue without it.

    Args:
        of_ranks: for each rank, the reasons by path.
        choice: "skip" or "refuse".
        folder: the checkpoint.
        engine: of this rank.

    Raises:
        CheckpointError: on every rank, where a rank has such state and the choice is "refuse".
    """
    of_all = {path: why for each in of_ranks for path, why in each.items()}
    if not of_all:
        return
    names = _listed(f"{path} ({why})" for path, why in of_all.items())
    if choice == "refuse":
        raise CheckpointError(
            f"Cannot resume {folder} exactly, as inexact_resume='refuse' requires: its state of "
            f"{names} cannot be restored. Create these as they were before fit, or set "
            "inexact_resume='skip'. The checkpoint is unchanged."
        )
    engine.print_on_root(
        f"{folder}: the state of {names} cannot be restored; the training continues with what the "
        "program makes there. Create these as they were before fit for an exact resume; "
        "inexact_resume='refuse' makes this an error."
    )


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return ", ".join(found[:_LISTED]) + more
