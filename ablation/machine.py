"""The machine on which a number is computed: its name, and what computing takes of it."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import resource
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

import ablation

POWERCAP = Path("/sys/class/powercap")


def device_name(device: torch.device | str) -> str:
    """ "NVIDIA H100", or the processor's model."""
    return torch.cuda.get_device_name(device) if str(device).startswith("cuda") else _processor()


@functools.cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores"


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for products of bfloat16: without them bfloat16 is slower than float32."""
    has = getattr(torch.cpu, "get_capabilities", dict)()  # from torch 2.11 on
    return any(has.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last is ARM's


Sitting = dict[str, Any]  # a training, or its part between two interruptions: from which step, where, what it took


class Meter:
    """What is used of a device from now on, by this process.

    A device tells only the energy of all that runs on it. share: this run's part of that, 1/4 where four workers are
    there, and 4 where it is on four such devices.
    """

    def __init__(self, device: str, share: float = 1.0):
        self.device, self.share, self.start = device, share, time.perf_counter()
        reset_peak_memory(device)
        self.energy, self.used = energy_counters(device), 0.0

    def sitting(self, from_step: int) -> Sitting:
        """device, seconds, peak_memory_bytes (allocated on the GPU, or resident in this process), energy_joules."""
        return {
            "from_step": from_step,
            "device": device_name(self.device),
            "seconds": time.perf_counter() - self.start,
            "peak_memory_bytes": peak_memory(self.device),
            "energy_joules": self.joules(),
        }

    def joules(self) -> float | None:
        """This run's share; None where the device does not report. To be asked more than once in each turn of the
        counter, which is half an hour or more."""
        before, self.energy = self.energy, energy_counters(self.device)
        self.used += sum((now - before[n][0]) % limit for n, (now, limit) in self.energy.items() if n in before)
        return self.share * self.used if self.energy else None


def reset_peak_memory(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):  # Linux: start the process's high-water mark anew
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: str) -> int:
    """Bytes allocated on the GPU, or resident in this process, at the most since `reset_peak_memory`."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def energy_counters(device: str) -> dict[str, tuple[float, float]]:
    """By the counter's name: joules since some time in the past, and where it starts again from zero.

    A GPU's is NVML's, where `pynvml` (nvidia-ml-py) is installed; a CPU's are the packages' RAPL counters, where the
    system lets them be read.
    """
    if device.startswith("cuda"):
        try:
            import pynvml

            pynvml.nvmlInit()
            uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
            joules = pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByUUID(uuid)) / 1e3
        except Exception:  # no library, or a GPU that does not count: none of it may stop a run
            return {}
        return {uuid: (joules, float("inf"))}
    found = {}
    for folder in sorted(POWERCAP.glob("intel-rapl:[0-9]*")):
        if folder.name.count(":") == 1:  # a package; those within it are its parts
            with contextlib.suppress(OSError, ValueError):
                now, limit = ((int((folder / name).read_text()) / 1e6) for name in ("energy_uj", "max_energy_range_uj"))
                found[folder.name] = (now, limit)
    return found


def provenance(device: str) -> dict[str, str | int]:
    """Where and with what a number was computed."""
    import kornia

    return {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "kornia": kornia.__version__,
        "ablation": ablation.__version__,
        "commit": commit(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


@functools.cache
def commit() -> str:
    """The suite's commit, with + where its files differ from it; "" outside a repository. Asked when a process starts,
    since another may be checked out while it computes."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "--short=12", "HEAD").strip() + ("+" if git("status", "--porcelain", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
