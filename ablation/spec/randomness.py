"""Randomness has addresses.

A generator made for one address, such as (seed, "view", epoch, step, branch, position, operator), draws
every random number. Nothing else shares that generator. So changing one operator's settings shifts no other
draws, a resumed run draws the same numbers, and the global random state is neither read nor changed.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def address_seed(*address: int | str) -> int:
    """A 63-bit seed for an address; different addresses give independent seeds."""
    digest = hashlib.blake2b(repr(address).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator_at(*address: int | str) -> torch.Generator:
    """A new CPU generator for an address: the same numbers on every training device."""
    return torch.Generator().manual_seed(address_seed(*address))


@contextmanager
def global_draws_at(device: torch.device, *address: int | str) -> Iterator[None]:
    """Seeds the global generators of torch (CPU and device), NumPy and Python for an address, and restores them at the
    end of the context. For code that draws from them, such as dropout."""
    seed, numpy_state, python_state = address_seed(*address), np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)
