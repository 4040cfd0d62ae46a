"""`ablation run --dry-run`: how each cell stands, and what those that are missing will cost."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ablation import distributed, runner
from ablation.checkpoints import folder_of, how_far
from ablation.cost import check_classes, estimate
from ablation.documents import printable
from ablation.loading import Source, explained
from ablation.progress import many
from ablation.results import Identified
from ablation.runner import Plan
from ablation.specs import describe


def dry_run(source: Source, plan: Plan, options: argparse.Namespace) -> int:
    """A line for the seeds of each cell; or, for programs, every field of every cell as JSON, the rest to stderr."""
    states = [_state(item, state, folder_of(options)) for item, state in zip(plan.cells, plan.states, strict=True)]
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
    explained(source, lambda: runner.check_data(plan.jobs))
    if plan.jobs and distributed.count() > 1:
        print("what they will cost is not probed under torchrun", file=out)
    elif plan.jobs:
        devices = runner.choose_devices(options.device)
        workers = runner.choose_workers(options.workers, devices)
        explained(source, lambda: check_classes(plan.jobs, devices[0]))
        if options.ray:
            print("on this machine, as the cluster is not asked:", file=out)
        print(explained(source, lambda: estimate(plan.jobs, devices, workers)), file=out)
    return 0


def _state(item: Identified, state: str, checkpoints: Path) -> str:
    far = how_far(checkpoints, item.training_id) if state == "missing" else None
    return f"{state} but begun, {far}" if far else state


def _by_seed(cells: list[Identified], states: list[str]) -> list[str]:
    """ "first=crop second=color: seed 0, 1 finished; seed 2 missing" """
    found: dict[str, dict[str, list[str]]] = {}
    for item, state in zip(cells, states, strict=True):
        place = " ".join(f"{axis}={value}" for axis, value in item.cell.coords.items() if axis != "seed") or "all"
        seed = item.cell.coords.get("seed")
        found.setdefault(place, {}).setdefault(state, []).extend([] if seed is None else [str(seed)])
    said = {
        place: [f"seed {', '.join(seeds)} {state}" if seeds else state for state, seeds in of.items()]
        for place, of in found.items()
    }
    return [f"{place}: {'; '.join(parts)}" for place, parts in said.items()]
