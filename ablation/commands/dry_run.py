"""`ablation run --dry-run`: the state of each cell, and the cost of the missing ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from ablation.commands.options import RunOptions
from ablation.execution.devices import choose_devices, choose_workers
from ablation.execution.estimate import check_classes, estimate
from ablation.execution.executor import Job
from ablation.execution.plan import Plan
from ablation.execution.store import Identified
from ablation.spec import describe
from ablation.study.experiment_file import Source, explained
from ablation.system import distributed
from ablation.system.terminal import many, printable
from ablation.training.checkpoint import folder_of, how_far


def dry_run(source: Source, plan: Plan, options: RunOptions, check: Callable[[list[Job]], object]) -> int:
    """Prints a line per cell with the state of its seeds; with --in-full every field as JSON, the rest to stderr.
    check: of the jobs against their images."""
    checkpoints = folder_of(options.checkpoints, options.results)
    states = [_state(item, state, checkpoints) for item, state in zip(plan.cells, plan.states, strict=True)]
    counts = f"{plan.standing}; {many(len(plan.jobs), 'run')} to do"
    if options.in_full:
        cells = [
            {"cell": item.cell.coords, "state": state, "training": item.training_id, "run": describe(item.cell.run)}
            for item, state in zip(plan.cells, states, strict=True)
        ]
        print(json.dumps(cells, indent=1, ensure_ascii=False))
    else:
        print("\n".join(map(printable, _by_seed(plan.cells, states))))
    out = sys.stderr if options.in_full else sys.stdout
    print(counts, file=out, flush=True)
    check(plan.jobs)
    if plan.jobs and distributed.count() > 1:
        print("no cost estimate under torchrun", file=out)
    elif plan.jobs:
        devices = choose_devices(options.device)
        workers = choose_workers(options.workers, devices)
        explained(source, lambda: check_classes(plan.jobs, devices[0]))
        if options.ray:
            print("on this machine, not on the cluster:", file=out)
        print(explained(source, lambda: estimate(plan.jobs, devices, workers)), file=out)
    return 0


def _state(item: Identified, state: str, checkpoints: Path) -> str:
    far = how_far(checkpoints, item.training_id) if state == "missing" else None
    return f"{state} but begun, {far}" if far else state


def _by_seed(cells: list[Identified], states: list[str]) -> list[str]:
    """ "first=crop second=color: seed 0, 1 finished; seed 2 missing" """
    seeds_by_state: dict[str, dict[str, list[str]]] = {}
    for item, state in zip(cells, states, strict=True):
        place = " ".join(f"{axis}={value}" for axis, value in item.cell.coords.items() if axis != "seed") or "all"
        seed = item.cell.coords.get("seed")
        seeds_by_state.setdefault(place, {}).setdefault(state, []).extend([] if seed is None else [str(seed)])
    lines = {
        place: [f"seed {', '.join(seeds)} {state}" if seeds else state for state, seeds in by_state.items()]
        for place, by_state in seeds_by_state.items()
    }
    return [f"{place}: {'; '.join(parts)}" for place, parts in lines.items()]
