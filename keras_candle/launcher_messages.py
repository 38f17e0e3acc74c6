"""What a training tells the `candle run` that started it, in the root's stderr.

That is the one channel that every launcher carries home from every node; `candle run` takes the
messages out of it again.
"""

from __future__ import annotations

import os
import re

# `candle run` sets the first where it wants to hear of checkpoints, the second to how often it
# has started the job again, the third to when it began: seconds since the epoch.
TELL_SAVED = "KERAS_CANDLE_TELL_SAVED"
RESTARTS = "KERAS_CANDLE_RESTARTS"
STARTED_S = "KERAS_CANDLE_JOB_STARTED_S"
START = b"\x1ecandle "
END = b"\x1e\n"
SAVED = re.compile(rb"(?:\[\d+\] )?\x1ecandle saved (\d+)\x1e\n")


def tell_saved(step: int) -> None:
    """Tell that a checkpoint is on the disk, where somebody wants to hear it.

    Args:
        step: of the run.
    """
    if os.environ.get(TELL_SAVED):
        os.write(2, START + f"saved {step}".encode() + END)


def restarts() -> int:
    """How often `candle run --max-restarts` has started this job again."""
    return int(os.environ.get(RESTARTS, "0"))
