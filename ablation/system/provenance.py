"""The hardware and software that compute a number."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import time
from pathlib import Path

import torch

import ablation


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
    """Whether the processor has instructions for bfloat16 products; without them bfloat16 is slower than float32."""
    has = getattr(torch.cpu, "get_capabilities", dict)()  # from torch 2.11 on
    return any(has.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last is ARM's


def provenance(device: str) -> dict[str, str | int]:
    """Device, threads, versions, commit and time of a computation."""
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
    """The suite's commit, with + if its files differ from it; "" outside a repository. Cached when a process starts,
    since another commit may be checked out while it computes."""
    folder = Path(__file__).parent.parent  # the package

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "--short=12", "HEAD").strip() + ("+" if git("status", "--porcelain", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
