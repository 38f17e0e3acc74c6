"""Going on with data whose place cannot be found again for sure: said, or refused."""

from __future__ import annotations

from collections.abc import Sequence

from keras_candle.engine.base import Engine
from keras_candle.errors import CheckpointError
from keras_candle.training.rereading import Doubt

INEXACT_DATA = ("skip", "refuse")
PART_OF_A_PASS = Doubt(
    "steps_per_epoch divides passes of finite data, and Keras cannot go on in the middle of a pass",
    "this one begins anew, so some rows are seen twice",
    "repeat the data without an end, dataset.repeat()",
)


def weigh(doubts: Sequence[Doubt], choice: str, folder: str, engine: Engine) -> None:
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
                f"{folder} cannot be gone on with exactly, as inexact_data='refuse' asks: "
                f"{each.what}. Say inexact_data='skip' ({each.then}), or begin again with data "
                f"that can be gone on with ({each.remedy}). The checkpoint is untouched."
            )
        engine.say(
            f"{each.what}: {each.then} (for an exact resume: {each.remedy}; "
            "inexact_data='refuse' makes this an error)"
        )
