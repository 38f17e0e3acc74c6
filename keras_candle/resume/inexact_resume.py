"""What keeps a resume from being exact: said once, or refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from keras_candle.data.inexact_order import InexactOrder
from keras_candle.engine.base import Engine
from keras_candle.errors import CheckpointError

INEXACT_RESUME = ("skip", "refuse")
PART_OF_A_PASS = InexactOrder(
    "steps_per_epoch divides passes of finite data, and Keras cannot go on in the middle of a pass",
    "this one begins anew, so some rows are seen twice",
    "repeat the data without an end, dataset.repeat()",
)
_LISTED = 6


def weigh(doubts: Sequence[InexactOrder], choice: str, folder: str, engine: Engine) -> None:
    """Say why a training may not go on exactly, or refuse that it goes on.

    Args:
        doubts: this rank's; the others may have other data.
        choice: "skip" or "refuse".
        folder: the checkpoint.
        engine: connects the ranks.

    Raises:
        CheckpointError: on every rank, where one has a doubt and the choice is to refuse.
    """
    of_all = {each: None for rank in engine.gather_objects(list(doubts)) for each in rank}
    for each in of_all:
        if choice == "refuse":
            raise CheckpointError(
                f"{folder} cannot be gone on with exactly, as inexact_resume='refuse' asks: "
                f"{each.what}. Say inexact_resume='skip' ({each.then}), or begin again with data "
                f"that can be gone on with ({each.remedy}). The checkpoint is untouched."
            )
        engine.print_on_root(
            f"{each.what}: {each.then} (for an exact resume: {each.remedy}; "
            "inexact_resume='refuse' makes this an error)"
        )


def weigh_unkept(
    of_ranks: Sequence[Mapping[str, str]], choice: str, engine: Engine, said: set[str]
) -> None:
    """Name the state that checkpoints cannot keep, or refuse to train with it.

    Args:
        of_ranks: each rank's: by path, its type.
        choice: "skip" or "refuse".
        engine: of this rank.
        said: paths that this process has named already; those named now are added.

    Raises:
        CheckpointError: on every rank, where one has such state and the choice is to refuse.
    """
    of_all = {path: kind for each in of_ranks for path, kind in each.items()}
    refused = choice == "refuse"
    new = {path: kind for path, kind in of_all.items() if refused or path not in said}
    if not new:
        return
    said.update(new)
    names = _listed(f"{path} ({kind})" for path, kind in new.items())
    remedy = "Give the callback or PyDataset get_state() and set_state(state)"
    if refused:
        raise CheckpointError(
            f"Checkpoints cannot keep the state of {names}, as inexact_resume='refuse' asks. "
            f"{remedy}, or say inexact_resume='skip': a resumed training then has them as the "
            "program makes them."
        )
    engine.print_on_root(
        f"checkpoints cannot keep the state of {names}; a resumed training has them as the program "
        f"makes them. {remedy} for an exact resume; inexact_resume='refuse' makes this an error."
    )


def weigh_lost(
    of_ranks: Sequence[Mapping[str, str]], choice: str, folder: str, engine: Engine
) -> None:
    """Name the state of a checkpoint that could not be put back, or refuse to continue without it.

    Args:
        of_ranks: each rank's: by path, why.
        choice: "skip" or "refuse".
        folder: the checkpoint.
        engine: of this rank.

    Raises:
        CheckpointError: on every rank, where one has such state and the choice is to refuse.
    """
    of_all = {path: why for each in of_ranks for path, why in each.items()}
    if not of_all:
        return
    names = _listed(f"{path} ({why})" for path, why in of_all.items())
    if choice == "refuse":
        raise CheckpointError(
            f"{folder} cannot be resumed exactly, as inexact_resume='refuse' asks: its state of "
            f"{names} cannot be put back. Make these as they were before fit, or say "
            "inexact_resume='skip'. The checkpoint is untouched."
        )
    engine.print_on_root(
        f"{folder}: the state of {names} cannot be put back; the training continues with what the "
        "program makes there. Make these as they were before fit for an exact resume; "
        "inexact_resume='refuse' makes this an error."
    )


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return ", ".join(found[:_LISTED]) + more
