"""Time and memory of a computation."""

from __future__ import annotations

import contextlib
import resource
import time
from pathlib import Path
from typing import Any

import torch

from ablation.system.provenance import device_name

Sitting = dict[str, Any]  # a training, or its part between two interruptions: first step, device, time, memory


class Meter:
    """Measures the time and memory of this process from now on."""

    def __init__(self, device: str):
        self.device, self.start = device, time.perf_counter()
        reset_peak_memory(device)

    def sitting(self, from_step: int) -> Sitting:
        """device, seconds, peak_memory_bytes (allocated on the GPU, or resident in this process)."""
        return {
            "from_step": from_step,
            "device": device_name(self.device),
            "seconds": time.perf_counter() - self.start,
            "peak_memory_bytes": peak_memory(self.device),
        }


def reset_peak_memory(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):  # Linux: resets the process's high-water mark
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: str) -> int:
    """The most bytes allocated on the GPU, or resident in this process, since `reset_peak_memory`."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
