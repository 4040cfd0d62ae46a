"""The precision of forward and backward passes, and whether they repeat."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def precision_of(name: str, device: torch.device) -> Iterator[None]:
    """Autocast to bfloat16, or nothing."""
    with torch.autocast(device.type, torch.bfloat16, enabled=name == "bfloat16"):
        yield


@contextmanager
def repeatable() -> Iterator[None]:
    """Restricts cuDNN to kernels that give the same numbers each time; its other ones add up in any order.

    Without it, two trainings in float32 on a GPU drift apart (benchmarks/cuda.csv, "trained twice").
    """
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before
