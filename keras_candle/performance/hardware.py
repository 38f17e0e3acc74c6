"""What a rank runs on: its memory, its device, and how fast that can be."""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path
from typing import Any

# Dense matrix products of one device in 10^12 operations a second, by what multiplies: float32 on
# the plain cores, TF32, and 16 bits on the tensor or matrix cores. Source: the vendors' data
# sheets; of MI250 cards a half, since each is two devices. The first name that fits counts.
_PEAKS: tuple[tuple[str, tuple[float, float, float]], ...] = (
    ("H100 PCIe", (51.2, 378.0, 756.0)),
    ("H100 NVL", (60.0, 417.5, 835.5)),
    ("H100", (66.9, 494.7, 989.4)),
    ("H200", (66.9, 494.7, 989.4)),
    ("GH200", (66.9, 494.7, 989.4)),
    ("A100", (19.5, 156.0, 312.0)),
    ("A40", (37.4, 74.8, 149.7)),
    ("A30", (10.3, 82.0, 165.0)),
    ("L40S", (91.6, 183.0, 362.1)),
    ("V100-PCIE", (14.0, 14.0, 112.0)),
    ("V100", (15.7, 15.7, 125.0)),
    ("T4", (8.1, 8.1, 65.0)),
    ("MI300X", (163.4, 163.4, 1307.4)),
    ("MI300A", (122.6, 122.6, 980.6)),
    ("MI250X", (23.9, 23.9, 191.5)),
    ("MI250", (22.6, 22.6, 181.1)),
)


def peak_flops(device: str, compute_dtype: str, *, tf32: bool = True) -> float | None:
    """What a device can do at most.

    Args:
        device: its name, as TensorFlow tells it.
        compute_dtype: in which a model's layers compute.
        tf32: whether float32 is multiplied as TF32, as TensorFlow does unless told otherwise.

    Returns:
        Floating-point operations a second; None where it is not known.

    Example:
        >>> peak_flops("NVIDIA A100-SXM4-80GB", "bfloat16")
        312000000000000.0
        >>> peak_flops("", "float32") is None
        True
    """
    places = {"float32": int(tf32), "float16": 2, "bfloat16": 2}
    for name, peaks in _PEAKS:
        if name in device and compute_dtype in places:
            if name.startswith(("V100", "T4")) and compute_dtype == "bfloat16":
                return None
            return 1e12 * peaks[places[compute_dtype]]
    return None


def gpu_names() -> list[str]:
    """The GPUs that TensorFlow lets this process use."""
    import tensorflow as tf

    gpus = tf.config.get_visible_devices("GPU")
    details = tf.config.experimental.get_device_details
    return [str(details(each).get("device_name", each.name)) for each in gpus]


def memory() -> dict[str, int]:
    """The most that this process has held at once, in bytes: of the host's, of the GPUs'."""
    import tensorflow as tf

    # In KiB on Linux.
    found = {"host_peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
    gpus = tf.config.list_logical_devices("GPU")
    if gpus:
        told: Any = tf.config.experimental.get_memory_info
        names = [f"GPU:{number}" for number, _ in enumerate(gpus)]
        found["device_peak_bytes"] = sum(int(told(name)["peak"]) for name in names)
    return found


def cores(ranks: int) -> float:
    """Cores of one rank, as its job's limits have it.

    Args:
        ranks: on this node. They share cores that none of them has for itself.
    """
    allowed = float(len(os.sched_getaffinity(0)))
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            allowed = min(allowed, float(quota) / float(period))
    shared = allowed * ranks > (os.cpu_count() or 1)
    return allowed / ranks if shared else allowed
