"""The precision of forward and backward passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def precision_of(name: str, device: torch.device) -> Iterator[None]:
    """Autocast to bfloat16, or nothing."""
    with torch.autocast(device.type, torch.bfloat16, enabled=name == "bfloat16"):
        yield
