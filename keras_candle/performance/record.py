"""performance.json: the measurements of all ranks, how each was made, and their verdict."""

from __future__ import annotations

import contextlib
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_candle.performance.flops import TRAINING_FACTOR, FlopsCount
from keras_candle.performance.meter import (
    CALLBACKS,
    CHECKPOINT,
    EVALUATION,
    INPUT,
    TRAINING,
    Spent,
    percentiles_ms,
)
from keras_candle.run_directory import PERFORMANCE

HOW = {
    "step_ms": "from the start of a step to that of the next one on root, by the program's clock, "
    "callbacks and checkpoints included; without the first one, which compiles",
    "samples": "rows of the batches, counted in the step's graph",
    "samples_by_size": "steps times the batch size: several steps are one call",
    "input_wait": "inside the step's graph, from the request for a batch until it arrives, and by "
    "the program's clock the start of each pass; mean over the ranks",
    "communication": "inside the step's graph, from when a rank's gradients are ready until the "
    "sum is: exchanging and waiting for the slowest rank; mean over the ranks",
    "callbacks": "by the program's clock, the user's callbacks and Keras's own; mean over the "
    "ranks",
    "checkpoint": "by the program's clock, copying the state and waiting for the previous "
    "checkpoint; writing is asynchronous; mean over the ranks",
    "compute": "the rest of the step: forward and backward pass, update, and Keras's loop",
    "flops": f"by formula, {TRAINING_FACTOR} times a forward pass's matrix products and "
    "convolutions; approximate",
    "memory": "peak, root's process",
    "gpu": "NVML, once a second, root's device",
    "cost": "time of all attempts of the run times ranks, times the cores or devices of a rank",
}
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


def summary(ranks: Sequence[Spent]) -> dict[str, Any]:
    """Combine the measurements of all ranks.

    Args:
        ranks: the measurements of each rank in the same time.

    Returns:
        "steps", "samples", "samples_per_s", "samples_per_s_by_rank", "step_ms", "split" and
        "own", by rank the fraction of the time outside of collectives. A key that was not measured
        is missing; empty without steps.
    """
    times_s = [each.in_steps_s for each in ranks]
    total = Spent.from_array(np.sum([each.to_array() for each in ranks], axis=0))
    found = rates(ranks[0], total, max(times_s), len(ranks))
    if not found:
        return {}
    if total.samples is not None:
        found["samples_per_s_by_rank"] = [
            _rounded((each.samples or 0.0) / time_s)
            for each, time_s in zip(ranks, times_s, strict=True)
        ]
    found["own"] = [
        1.0 - (each.exchange_s or 0.0) / time_s for each, time_s in zip(ranks, times_s, strict=True)
    ]
    return found


def rates(root: Spent, total: Spent, longest_s: float, ranks: int) -> dict[str, Any]:
    """Return the figures of all ranks together.

    Args:
        root: the measurements of root.
        total: their sum over the ranks.
        longest_s: the longest time of a rank in its steps.
        ranks: the number of ranks.

    Returns:
        "steps", "samples", "samples_per_s", "step_ms" and "split", as `summary` does.
    """
    whole_s = total.in_steps_s
    if not root.steps or whole_s <= 0:
        return {}
    found: dict[str, Any] = {"steps": root.steps}
    if total.samples is not None:
        found["samples"] = round(total.samples)
        found["samples_per_s"] = _rounded(total.samples / longest_s)
    found["step_ms"] = percentiles_ms(root.step_s)
    inner = {"input_wait": total.input_s, "communication": total.exchange_s if ranks > 1 else 0.0}
    known = {name: each for name, each in inner.items() if each is not None}
    seconds = total.seconds
    compute = max(0.0, seconds[TRAINING] - sum(known.values()))
    if "input_wait" in known:
        known["input_wait"] += seconds[INPUT]
    else:
        compute += seconds[INPUT]
    parts = {"compute": compute, CALLBACKS: seconds[CALLBACKS], CHECKPOINT: seconds[CHECKPOINT]}
    found["split"] = {name: round(each / whole_s, 4) for name, each in {**known, **parts}.items()}
    return found


def amounts(
    found: Mapping[str, Any], parameters: int | None, flops: FlopsCount, peak: float | None
) -> dict[str, Any]:
    """Compute the size of a step, its FLOPS, and the utilisation of the hardware.

    Args:
        found: the record so far.
        parameters: the model's number of parameters; None where unknown.
        flops: the count for a row's forward pass.
        peak: floating-point operations a second of one rank's device; None where unknown.

    Returns:
        "global_batch_rows", "parameters", "flops_per_step" of all ranks, "flops_per_s",
        "utilisation" from 0 to 1 and "flops_unknown_layers", as far as known.
    """
    sizes: dict[str, Any] = {} if parameters is None else {"parameters": parameters}
    if "samples" not in found:
        return sizes
    sizes["global_batch_rows"] = round(found["samples"] / found["steps"])
    if flops.forward:
        of_row = TRAINING_FACTOR * flops.forward
        sizes["flops_per_step"] = of_row * sizes["global_batch_rows"]
        sizes["flops_per_s"] = _rounded(of_row * found["samples_per_s"])
        if peak is not None:
            sizes["utilisation"] = _rounded(sizes["flops_per_s"] / (peak * found["ranks"]))
    if flops.unknown:
        sizes["flops_unknown_layers"] = list(flops.unknown)
    return sizes


def how(
    found: Mapping[str, Any], *, counted: bool, on_gpu: bool, has_clock: bool = True
) -> dict[str, str]:
    """Describe how each value of a record was measured, and why a value is missing.

    Args:
        found: the record.
        counted: whether the rows were counted.
        on_gpu: whether the model computes on a GPU.
        has_clock: whether TensorFlow lets the step's graph read the time.
    """
    names = [*found.get("split", {}), *(name for name in HOW if name in found)]
    if "flops_per_step" in found:
        names.append("flops")
    methods = {name: HOW[name] for name in dict.fromkeys(names)}
    if "samples" in found and not counted:
        methods["samples"] = HOW["samples_by_size"]
    missing = {"input_wait", "communication"} - set(found.get("split", methods))
    for name in sorted(missing):
        methods[name] = f"not measured, and part of compute: {_why_not(name, on_gpu, has_clock)}"
    return methods


def _why_not(name: str, on_gpu: bool, has_clock: bool) -> str:
    if not has_clock:
        return "with tf.config.experimental.enable_op_determinism() a step cannot read the time"
    if name == "input_wait":
        return "several steps are one call, or run without a graph"
    if on_gpu:
        return "the host's clock does not see when a GPU is done"
    return "the step has no collectives of keras_candle"


def times(ranks: Sequence[Spent], whole_s: float) -> dict[str, float]:
    """Return root's seconds in training steps, evaluations, checkpoints, and in the whole fit."""
    seconds = ranks[0].seconds
    found = {
        "training": seconds[INPUT] + seconds[TRAINING] + seconds[CALLBACKS],
        "evaluation": seconds[EVALUATION],
        "checkpoint": seconds[CHECKPOINT],
        "whole": whole_s,
    }
    return {name: round(each, 3) for name, each in found.items()}


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def earlier_rank_s(events: Iterable[Mapping[str, Any]]) -> float:
    """Return the time of a run's earlier attempts, times their ranks.

    Args:
        events: those of its journal, or of `RunDirectory.events_of_attempts`. The last one of an
            attempt counts as its end.

    Returns:
        Seconds.

    Example:
        >>> earlier_rank_s(
        ...     [
        ...         {"event": "begin", "time_s": 5.0, "ranks": 2},
        ...         {"event": "epoch", "time_s": 9.0},
        ...         {"event": "begin", "time_s": 20.0, "ranks": 3},
        ...         {"event": "epoch", "time_s": 21.0},
        ...     ]
        ... )
        11.0
    """
    whole_s, began_s, ranks = 0.0, 0.0, 0
    latest_s = 0.0
    for each in events:
        if each.get("event") == "begin":
            whole_s += ranks * (latest_s - began_s)
            began_s, ranks = float(each["time_s"]), int(each["ranks"])
        latest_s = float(each["time_s"])
    return whole_s + ranks * (latest_s - began_s)


def scaling_efficiency(record: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """Return the scaling efficiency: samples/s, relative to ranks times those of one rank.

    Args:
        record: the run's record.
        run: its directory. Its parent directory is searched for a run on one rank.

    Returns:
        "scaling_efficiency", 1 for a perfect one, and "scaling_from", the name of the run on one
        rank: the newest of the same model and the same batch size of a rank. Empty without one.
    """
    if record["ranks"] == 1 or "samples_per_s" not in record:
        return {}
    beside = [path for path in run.parent.glob(f"*/{PERFORMANCE}") if path.parent != run]
    for path in sorted(beside, key=_written_s, reverse=True):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            single = json.loads(path.read_text())
            if single["ranks"] == 1 and _is_comparable(single, record):
                ideal = record["ranks"] * single["samples_per_s"]
                efficiency = round(record["samples_per_s"] / ideal, 4)
                return {"scaling_efficiency": efficiency, "scaling_from": path.parent.name}
    return {}


def _written_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # removed meanwhile
        return 0.0


def _is_comparable(single: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Whether a run on one rank trains the same model with the same batch size of a rank."""
    rows = record["ranks"] * single["global_batch_rows"]
    same_batch = abs(rows - record["global_batch_rows"]) <= record["ranks"]
    return same_batch and bool(single["parameters"] == record["parameters"])


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
