"""Learning-rate schedules, as fractions of the optimizer's rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ablation.spec.base import Spec


@dataclass(frozen=True, kw_only=True)
class Cosine(Spec):
    """A half cosine from the full rate to the fraction `floor` of it (Loshchilov and Hutter 2017, no restarts)."""

    floor: float = 0.0

    def __post_init__(self):
        self.require_number("floor", 0, 1)

    @property
    def label(self) -> str:
        return "cosine" + (f" to {self.floor:g}" if self.floor else "")

    def factor(self, step: int, steps: int) -> float:
        """The learning rate at `step` of the `steps` after the warm-up, as a fraction of the full rate."""
        falling = 0.5 * (1 + math.cos(math.pi * step / max(1, steps)))
        return self.floor + (1 - self.floor) * falling if self.floor else falling


@dataclass(frozen=True, kw_only=True)
class Constant(Spec):
    """The full rate to the end."""

    label: ClassVar[str] = "constant"

    def factor(self, step: int, steps: int) -> float:
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Steps(Spec):
    """Multiplies the rate by `decay` at each of the fractions `at` of the steps after the warm-up."""

    at: tuple[float, ...] = (0.6, 0.8)
    decay: float = 0.1

    def __post_init__(self):
        self.require_numbers("at", 0, "Write at=(0.6, 0.8).")
        self.require("at", list(self.at) == sorted(self.at) and self.at[-1] < 1, "rise and lie below 1")
        self.require_number("decay", 0, 1, above=True)

    @property
    def label(self) -> str:
        return f"times {self.decay:g} at {', '.join(f'{fraction:g}' for fraction in self.at)}"

    def factor(self, step: int, steps: int) -> float:
        return self.decay ** sum(step >= fraction * steps for fraction in self.at)
