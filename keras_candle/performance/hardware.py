"""A rank's hardware: memory, device, peak FLOPS, cores, and NVIDIA's utilisation and energy."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from pathlib import Path
from typing import Any

# Dense matrix products of one device in 10^12 operations a second, by arithmetic: float32 on the
# plain cores, TF32, and 16 bits on the tensor or matrix cores. Source: the vendors' data sheets;
# half of an MI250 card's, since each is two devices. The first name that matches counts.
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
_EVERY_S = 1.0


def peak_flops(device: str, compute_dtype: str, *, tf32: bool = True) -> float | None:
    """Return the peak throughput of a device.

    Args:
        device: its name in TensorFlow.
        compute_dtype: the compute dtype of a model's layers.
        tf32: whether float32 is multiplied as TF32, TensorFlow's default.

    Returns:
        Floating-point operations a second; None where unknown.

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
    """Return the names of the GPUs that TensorFlow lets this process use."""
    import tensorflow as tf

    gpus = tf.config.get_visible_devices("GPU")
    details = tf.config.experimental.get_device_details
    return [str(details(each).get("device_name", each.name)) for each in gpus]


def memory() -> dict[str, int]:
    """Return the peak memory of this process in bytes, on the host and on the GPUs."""
    import tensorflow as tf

    # ru_maxrss is in KiB on Linux.
    found = {"host_peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
    gpus = tf.config.list_logical_devices("GPU")
    if gpus:
        info: Any = tf.config.experimental.get_memory_info
        names = [f"GPU:{number}" for number, _ in enumerate(gpus)]
        found["device_peak_bytes"] = sum(int(info(name)["peak"]) for name in names)
    return found


def cores(ranks: int) -> float:
    """Return the cores of one rank under its job's limits.

    Args:
        ranks: the number of ranks on this node. Cores that the ranks share count in part.
    """
    allowed = float(len(os.sched_getaffinity(0)))
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            allowed = min(allowed, float(quota) / float(period))
    shared = allowed * ranks > (os.cpu_count() or 1)
    return allowed / ranks if shared else allowed


class GpuWatch:
    """Samples one GPU once a second, in a thread beside the training.

    Does nothing without an NVIDIA driver or without the package nvidia-ml-py.

    Args:
        number: the GPU's index among those that this process sees.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._over = threading.Event()
        self._busy_percent: list[float] = []
        self._memory_bytes = 0
        self._energy_j: float | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the sampling thread."""
        try:
            import pynvml
        except ImportError:
            return
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            gpu = _handle(pynvml, self._number)
            self._thread = threading.Thread(target=self._watch, args=(pynvml, gpu), daemon=True)
            self._thread.start()

    def _watch(self, nvml: Any, gpu: Any) -> None:
        # Millijoules since the driver was loaded; not every GPU counts them.
        with contextlib.suppress(nvml.NVMLError):
            began_mj = nvml.nvmlDeviceGetTotalEnergyConsumption(gpu)
            self._energy_j = 0.0
        while not self._over.wait(_EVERY_S):
            with contextlib.suppress(nvml.NVMLError):
                self._busy_percent.append(float(nvml.nvmlDeviceGetUtilizationRates(gpu).gpu))
                used = int(nvml.nvmlDeviceGetMemoryInfo(gpu).used)
                self._memory_bytes = max(self._memory_bytes, used)
                if self._energy_j is not None:
                    now_mj = nvml.nvmlDeviceGetTotalEnergyConsumption(gpu)
                    self._energy_j = (now_mj - began_mj) / 1000

    def read(self) -> dict[str, float]:
        """Return the measurements so far; empty without any.

        Returns:
            "utilisation" from 0 to 1, the mean; "memory_peak_bytes" of all processes on the GPU;
            "energy_j", where the GPU counts it.
        """
        if not self._busy_percent:
            return {}
        mean = sum(self._busy_percent) / len(self._busy_percent)
        found = {"utilisation": mean / 100, "memory_peak_bytes": float(self._memory_bytes)}
        if self._energy_j is not None:
            found["energy_j"] = self._energy_j
        return found

    def stop(self) -> None:
        """Stop the sampling thread."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None


def _handle(nvml: Any, number: int) -> Any:
    """The handle of this process's GPU `number`; the driver numbers all GPUs of the machine."""
    listed = [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
    name = listed[number] if number < len(listed) else str(number)
    if name.isdigit():
        return nvml.nvmlDeviceGetHandleByIndex(int(name))
    return nvml.nvmlDeviceGetHandleByUUID(name)
