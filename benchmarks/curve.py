"""The cost of the learning curve's points: kNN and a linear classifier every few epochs of a tiny cell's training."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ablation import SimCLR
from ablation.data import loaded
from ablation.evaluate import curve
from ablation.operators import Crop
from ablation.study.scales import scale_named
from ablation.training.loop import pretrain
from benchmarks.measure import Row, row

CELLS = 3


def run(device: str, quick: bool) -> Iterator[Row]:
    scale = scale_named("tiny")
    if quick:
        scale = scale.replace(epochs=2, curve_every=1)
    data = loaded(scale.dataset, device)
    whole, shares = [], {"linear_point": [], "curve_points": []}
    for seed in range(CELLS):
        training = scale.run(scale.method(SimCLR), views=((Crop(), scale.color()), ())).with_seed(seed).training
        taken = {name: Timed(getattr(curve, name)) for name in shares}
        for name, timed in taken.items():
            setattr(curve, name, timed)
        start = time.perf_counter()
        try:
            points = partial(curve.curve_points, data=data, precision=scale.precision)
            pretrain(training, data, curve=points)
        finally:
            for name, timed in taken.items():
                setattr(curve, name, timed.call)
        whole.append(time.perf_counter() - start)
        for name, timed in taken.items():
            shares[name].append(100 * timed.seconds / whole[-1])
    case = f"{CELLS} tiny cells, a point every {scale.curve_every} of {scale.epochs} epochs"
    yield row("curve", f"training with its learning curve, {case}", "ours", "s", whole)
    yield row("curve", f"linear points' share of training, {case}", "ours", "%", shares["linear_point"])
    yield row("curve", f"all points' share of training, {case}", "ours", "%", shares["curve_points"])


class Timed:
    """A function that adds up its own seconds."""

    def __init__(self, call: Callable[..., Any]):
        self.call, self.seconds = call, 0.0

    def __call__(self, *given: Any, **named: Any) -> Any:
        start = time.perf_counter()
        result = self.call(*given, **named)
        self.seconds += time.perf_counter() - start
        return result
