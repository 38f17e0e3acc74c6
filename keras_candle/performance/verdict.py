"""Name the bottleneck of a training in one sentence."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

# The fraction of a step from which a part beside the computation is reported.
_MUCH = 0.25
# The fraction of the ranks' time in collectives, spent waiting for one rank, that is reported.
_UNEVEN = 0.4

_ADVICE = {
    "input_wait": (
        "input-bound: {share} of the step waits for data; prefetch, cache, or load with more "
        "workers"
    ),
    "communication": (
        "communication-bound: {share} of the step exchanges gradients; give each rank larger "
        "batches, accumulate gradients, or set compression='fp16'"
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
    """Return a sentence that names the bottleneck of a training.

    Args:
        split: fractions of a step's time, by "input_wait", "compute", "communication",
            "callbacks" and "checkpoint"; a key that was not measured is missing.
        own: by rank, the fraction of a step outside of collectives.

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
