"""Contenders measured in turn, and the rows of the table.

Each round runs every contender once, so that a slow moment of the machine affects all of them. A ratio is the median of
the rounds' ratios, never the ratio of two medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

ROUNDS = 5
AT_LEAST = 0.1  # seconds of a contender in a round; it repeats its call for so long


@dataclass(frozen=True)
class Row:
    """value: the median over n rounds, with low and high; ratio: the factor by which `ours` is better, within a round;
    note: a remark."""

    benchmark: str
    case: str
    contender: str
    unit: str
    value: float
    low: float
    high: float
    n: int
    ratio: float | None = None
    memory_mb: float | None = None
    note: str = ""


def seconds(
    contenders: dict[str, Callable[[], object]],
    device: str = "cpu",
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list]:
    """Seconds of one call of each contender, one number per round; the first calls do not count."""
    repeats = {}
    for name, call in contenders.items():
        call()
        _wait(device)
        start = clock()
        call()
        _wait(device)
        repeats[name] = max(1, round(AT_LEAST / (clock() - start)))
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            start = clock()
            for _ in range(repeats[name]):
                call()
            _wait(device)
            found[name].append((clock() - start) / repeats[name])
    return found


def rows(
    benchmark: str,
    case: str,
    contenders: dict[str, Callable[[], object]],
    *,
    work: float | None = None,
    unit: str = "images/s",
    device: str = "cpu",
    memory: bool = False,
    ours: str = "ours",
    rounds: int = ROUNDS,
) -> list[Row]:
    """A row for each contender. work: units of work per call; without it, the value is a call's seconds."""
    found = seconds(contenders, device, rounds)
    made = []
    for name, each in found.items():
        values = [work / s for s in each] if work else each
        ratio = statistics.median(theirs / mine for mine, theirs in zip(found[ours], each, strict=True))
        extra = peak_extra_memory(contenders[name], device) / 2**20 if memory else None
        made.append(row(benchmark, case, name, unit, values, ratio, extra))
    return made


def row(benchmark: str, case: str, contender: str, unit: str, values: list[float], ratio=None, memory_mb=None) -> Row:
    middle = statistics.median(values)
    return Row(benchmark, case, contender, unit, middle, min(values), max(values), len(values), ratio, memory_mb)


def peak_extra_memory(call: Callable[[], object], device: str) -> float:
    """The most bytes that torch allocated during a call, above those before."""
    if device != "cpu":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        kept = call()
    held = peak = 0
    for event in recorded.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    del kept
    return peak


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
