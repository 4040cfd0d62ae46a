"""What a search will cost, from probes of runs that are drawn at random from its space."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

import optuna

from ablation.cost import REPRESENTATIVES, Estimate, estimate
from ablation.engines import Job, Work
from ablation.search.spec import Search
from ablation.search.study import draws
from ablation.specs import InvalidSpec


def expected(search: Search, runs: int, devices: Sequence[str], workers: int) -> Estimate:
    """Of so many runs. Raises what `suggest` raises, and InvalidSpec where it gives none."""
    drawn = []
    for trial in draws():
        with contextlib.suppress(optuna.TrialPruned):
            drawn.append(search.check_run(search.suggest(trial)))
        if len(drawn) == REPRESENTATIVES:
            break
    if not drawn:
        raise InvalidSpec("Search.suggest must return a run, but pruned every one of its first trials. Vary a setting.")
    probed = estimate([Job("", (), "", Work(run.training, run.evaluations)) for run in drawn], devices, workers)
    each = runs / len(drawn)
    return replace(probed, runs=runs, seconds=each * probed.seconds, bytes=round(each * probed.bytes), at_once=workers)
