"""What the learning curve's points cost: kNN and a linear classifier every few epochs of a tiny cell's training."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from ablation import pretrain
from ablation.datasets import loaded
from ablation.operators import Crop
from ablation.scales import scale_named
from benchmarks.measure import Row, row

CELLS = 3


def run(device: str, quick: bool) -> Iterator[Row]:
    scale = scale_named("tiny")
    if quick:
        scale = scale.replace(epochs=2, curve_every=1)
    data = loaded(scale.dataset, device)
    whole, shares = [], {"linear_point": [], "validation_points": []}
    for seed in range(CELLS):
        training = scale.run(scale.simclr(), views=((Crop(), scale.color()), ())).with_seed(seed).training
        taken = {name: Timed(getattr(pretrain, name)) for name in shares}
        for name, timed in taken.items():
            setattr(pretrain, name, timed)
        start = time.perf_counter()
        try:
            pretrain.pretrain(training, data)
        finally:
            for name, timed in taken.items():
                setattr(pretrain, name, timed.call)
        whole.append(time.perf_counter() - start)
        for name, timed in taken.items():
            shares[name].append(100 * timed.seconds / whole[-1])
    case = f"{CELLS} tiny cells, a point every {scale.curve_every} of {scale.epochs} epochs"
    yield row("curve", f"training with its learning curve, {case}", "ours", "s", whole)
    yield row("curve", f"linear points' share of training, {case}", "ours", "%", shares["linear_point"])
    yield row("curve", f"all points' share of training, {case}", "ours", "%", shares["validation_points"])


class Timed:
    """A function that counts the seconds it takes."""

    def __init__(self, call: Callable[..., Any]):
        self.call, self.seconds = call, 0.0

    def __call__(self, *given: Any) -> Any:
        start = time.perf_counter()
        result = self.call(*given)
        self.seconds += time.perf_counter() - start
        return result
