"""GPU utilisation, memory and energy from NVIDIA's driver (NVML)."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Any

_EVERY_S = 1.0


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
