"""The devices of this machine, their number of workers, and their precision."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ablation.spec import InvalidSpec
from ablation.system.provenance import multiplies_bfloat16


def choose_devices(names: str | None) -> list[str]:
    """The named devices ("cuda": every GPU), by default the GPUs or the CPU. Raises InvalidSpec for a missing one."""
    import torch

    if names is None:
        names = "cuda" if torch.cuda.is_available() else "cpu"
    devices = []
    for name in names.split(","):
        try:
            device = torch.device(name.strip())
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            reason = "torch knows no such kind" if "device type at start" in reason else reason
            meant = re.sub(r"^(gpus?|nvidia):?(?=\d|$)", "cuda:", name.strip().lower()).rstrip(":")
            cure = f"Did you mean {meant}, or cpu?" if meant.startswith("cuda") and meant != name else "Try cpu."
            raise InvalidSpec(
                f"--device must name devices of this machine, but got {name!r}: {reason}. {cure}"
            ) from error
        every = device.type == "cuda" and device.index is None
        devices += [f"cuda:{i}" for i in range(torch.cuda.device_count())] if every else [str(device)]
    return devices


def chosen_precision(precision: str | None, device: str | None, several: Mapping[str, Any]) -> str | None:
    """The value of --precision, None for the scale's. "auto" makes ids depend on the machine, so it is refused together
    with the options of `several`, by name, which involve other machines. device: --device."""
    if precision != "auto":
        return precision
    beside = [name for name, given in several.items() if given]
    if beside:
        raise InvalidSpec(
            f"--precision auto depends on the machine, but {beside[0]} may use several machines, which would disagree "
            "on the runs. Write --precision float32 or bfloat16."
        )
    import torch

    first = choose_devices(device)[0]
    fast = torch.cuda.is_bf16_supported() if first.startswith("cuda") else multiplies_bfloat16()
    return "bfloat16" if fast else "float32"


def device_of_process(name: str | None) -> str:
    """The device of a process of torchrun: the GPU of its number, or the CPU."""
    import torch

    number = int(os.environ["LOCAL_RANK"])
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    named = name.split(",")
    chosen = f"cuda:{number}" if name == "cuda" else named[number] if number < len(named) else named[-1]
    if chosen.startswith("cuda"):
        torch.cuda.set_device(chosen)  # before anything is allocated on another
    return choose_devices(chosen)[0]


def choose_workers(count: int | None, devices: Sequence[str]) -> int:
    """The number of processes: one per core on a CPU, each with one thread; one on each GPU."""
    if count is not None:
        if count < 1:
            raise InvalidSpec(f"--workers must be at least 1, but got {count}. Omit it for the default.")
        return count
    if devices[0] != "cpu":
        return len(devices)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
