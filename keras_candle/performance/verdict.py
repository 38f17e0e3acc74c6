"""One sentence on what limits a training."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

# From such a share of the step on, something beside the computation is worth a word.
_MUCH = 0.25
# Such a part of what most ranks spend in collectives is worth a word, when one rank is late.
_UNEVEN = 0.4

_ADVICE = {
    "input_wait": (
        "input-bound: {share} of the step waits for data; prefetch, cache, or load with more "
        "workers"
    ),
    "communication": (
        "communication-bound: {share} of the step exchanges gradients; give each rank larger "
        "batches, accumulate gradients, or say compression='fp16'"
    ),
    "callbacks": (
        "callback-bound: {share} of the step runs callbacks; call them less often, or let them "
        "do less in each batch"
    ),
    "checkpoint": (
        "checkpoint-bound: {share} of the step saves checkpoints; save less often, or to a faster "
        "disk"
    ),
}


def verdict(split: Mapping[str, float], own: Sequence[float] = ()) -> str:
    """What limits a training.

    Args:
        split: shares of a step's time, of "input_wait", "compute", "communication", "callbacks"
            and "checkpoint"; one that was not measured is not there.
        own: by rank, the share of a step that it spends outside of collectives.

    Returns:
        A sentence; "" where nothing was measured.

    Example:
        >>> verdict({"input_wait": 0.62, "compute": 0.38})
        'input-bound: 62% of the step waits for data; prefetch, cache, or load with more workers'
        >>> verdict({"input_wait": 0.03, "compute": 0.97})
        'compute-bound: 97% of the step computes'
    """
    if not split:
        return ""
    beside = {name: split[name] for name in _ADVICE if name in split}
    largest = max(beside, key=lambda name: beside[name], default="")
    if not largest or beside[largest] < _MUCH:
        return _compute_bound(split)
    if largest == "communication" and own:
        most = statistics.median_low(own)
        late = max(own) - most
        if late >= _UNEVEN * (1 - most):
            return (
                f"uneven: most ranks wait {late:.0%} of the step for rank {own.index(max(own))}, "
                "which takes longest for its own part; look at what runs there"
            )
    return _ADVICE[largest].format(share=f"{beside[largest]:.0%}")


def _compute_bound(split: Mapping[str, float]) -> str:
    if "compute" not in split:
        return ""
    unless = "" if "input_wait" in split else " or waits for data, which was not measured"
    return f"compute-bound: {split['compute']:.0%} of the step computes{unless}"
