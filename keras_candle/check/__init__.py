"""What will go wrong when a script runs on several ranks, found by reading it.

Nothing here runs the script or imports Keras; what a dry run sees is judged in `observed`.
"""

from __future__ import annotations

from keras_candle.check import (
    collectives,
    control_flow,
    files,
    front_door,
    horovod,
    observed,
    randomness,
    scaling,
    training_steps,
)
from keras_candle.check.finding import Finding, in_order
from keras_candle.check.script import Script

TOPICS = (
    *(front_door, collectives, randomness, scaling, training_steps, control_flow, files),
    horovod,
)
KINDS = tuple(kind for topic in (*TOPICS, observed) for kind in topic.KINDS)
"""Every kind of finding that there is."""


def read(script: Script) -> list[Finding]:
    r"""All findings in a script.

    Args:
        script: as `keras_candle.check.script.load` gives it.

    Returns:
        By line, the script's own file first.

    Example:
        >>> from keras_candle.check.names import Module
        >>> source = "import horovod.keras as hvd\nhvd.init()"
        >>> [(each.line, each.code) for each in read(Script([Module("train.py", source)]))]
        [(1, 'horovod-import'), (2, 'horovod-init')]
    """
    found = [finding for topic in TOPICS for finding in topic.find(script)]
    return in_order(found, script.main.path)
