"""`ablation status`: what is done, what runs and where, what failed, how long it will take, what it has cost."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablation.checkpoints import folder_of, how_far
from ablation.live import running
from ablation.progress import hours, last_words, many, time_left
from ablation.results import Results


def status(options: argparse.Namespace) -> int:
    results = Results(options.results)
    manifests, wrong = results.manifests()
    for complaint in wrong:
        print(f"ablation: {complaint}.", file=sys.stderr)
    searches = _searches(results)
    live = running(results)
    if not (manifests or searches or live):
        print(f"nothing has been run into {options.results}/ yet; try `ablation run grid --scale tiny`.")
    whole, checkpoints = Cost(), folder_of(options)
    for manifest in manifests:
        whole += _experiment(manifest, results, live, checkpoints, cost=options.cost)
    if options.cost and len(manifests) > 1:
        print(f"all, runs that are shared once: {whole}")
    for line in searches:
        print(line)
    for name, document in live.items():
        if not any(_is_of(name, manifest) for manifest in manifests):  # such as the comparison after a search
            print(f"{name}:")
            _under_way("", document)
    return 0


def _experiment(manifest: dict, results: Results, live: dict[str, dict], checkpoints: Path, *, cost: bool) -> Cost:
    """Prints how one stands; what it has cost."""
    states: dict[str, int] = {}
    failures, begun, spent = [], {}, Cost()
    held = {run.get("training") for document in live.values() if document["alive"] for run in document["running"]}
    for cell in manifest["cells"]:
        state, training, evaluations = results.found(cell["training"], cell["evaluations"])
        states[state] = states.get(state, 0) + 1
        if state == "failed":
            failures.append(cell)
        if state == "missing" and cell["training"] not in held:
            far = how_far(checkpoints, cell["training"])
            begun |= {_name(cell): far} if far else {}
        if cost and training:
            spent.add(cell["training"], training, dict(zip(cell["evaluations"], evaluations, strict=True)))
    shown = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    print(f"{manifest['name']} ({manifest['scale']}): {many(len(manifest['cells']), 'cell')}, {shown}")
    stem = f"{manifest['name']}-{manifest['scale']}"
    for name, document in live.items():
        if _is_of(name, manifest):
            _under_way(name.removeprefix(stem).removeprefix("-"), document)
    for name, far in begun.items():
        print(f"  begun: {name}: {far}; the same command continues it")
    for cell in failures:
        last = last_words(results.failure(cell["training"])["traceback"])
        print(f"  failed: {_name(cell)}: {last} (see {results.folder(cell['training']) / 'failure.json'})")
    if cost:
        print(f"  cost: {spent}")
    return spent


def _is_of(name: str, manifest: Mapping[str, Any]) -> bool:
    """Whether what runs under this name is the experiment, or a shard of it."""
    return bool(re.fullmatch(rf"{re.escape(manifest['name'])}-{re.escape(manifest['scale'])}(-\d+-of-\d+)?", name))


def _name(cell: Mapping[str, Any]) -> str:
    return " ".join(f"{axis}={value}" for axis, value in cell["coords"].items())


def _under_way(shard: str, document: Mapping[str, Any]) -> None:
    """shard: "", or "0-of-8"."""
    who = f"{f'shard {shard}, ' if shard else ''}process {document['process']} on {document['host']}"
    if not document["alive"]:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(document["updated"]))
        print(f"  stopped: {who}, after {when}; the same command continues")
        return
    left = document.get("left")  # when the file was written
    left = time_left(None if left is None else max(0, left - (time.time() - document["updated"])))
    print(f"  under way: {who}: {document['done']} of {document['jobs']} runs ended, {left}")
    for run in document["running"]:
        epochs, since = run["epochs"], time.strftime("%Y-%m-%d %H:%M", time.localtime(run["since"]))
        epoch = min(epochs, int(run["fraction"] * epochs) + 1)
        at = "evaluating" if not epochs or run["fraction"] >= 1 else f"epoch {epoch} of {epochs}"
        print(f"  running: {run['name']}: {at}, {run['worker']}, since {since}")


class Cost:
    """What runs have taken, each once."""

    def __init__(self):
        self.runs: dict[str, float] = {}  # seconds of training
        self.evaluations: dict[tuple[str, str], float] = {}
        self.joules: dict[tuple[str, str], float | None] = {}
        self.bytes: dict[tuple[str, str], int] = {}
        self.memory = 0

    def add(self, training_id: str, training: dict, evaluations: Mapping[str, dict | None]) -> None:
        sittings = training.get("sittings") or [{"seconds": training["seconds"]}]
        self.runs[training_id] = sum(each["seconds"] * each.get("processes", 1) for each in sittings)
        self.memory = max(self.memory, training["peak_memory_bytes"])
        self._add_files((training_id, ""), training)
        for evaluation_id, document in evaluations.items():
            if document:
                self.evaluations[training_id, evaluation_id] = document["seconds"]
                self._add_files((training_id, evaluation_id), document)

    def _add_files(self, key: tuple[str, str], document: dict) -> None:
        self.joules[key] = document.get("energy_joules")
        self.bytes[key] = sum(file["bytes"] for file in document["files"].values())

    def __iadd__(self, other: Cost) -> Cost:
        for name in ("runs", "evaluations", "joules", "bytes"):
            getattr(self, name).update(getattr(other, name))
        self.memory = max(self.memory, other.memory)
        return self

    def __str__(self) -> str:
        training, evaluation = sum(self.runs.values()), sum(self.evaluations.values())
        parts = [
            f"{many(len(self.runs), 'run')}, {hours(training + evaluation)} device-hours "
            f"(training {hours(training)}, evaluation {hours(evaluation)})",
            f"{sum(self.bytes.values()) / 2**20:.0f} MiB on disk",
            f"at most {self.memory / 2**20:.0f} MiB of memory",
        ]
        known = [joules for joules in self.joules.values() if joules is not None]
        if known:
            parts.append(f"{sum(known) / 3.6e6:.3f} kWh where the device reports it")
        return ", ".join(parts)


def _searches(results: Results) -> list[str]:
    """How the searches stand that were kept beside the results or in ABLATION_STORAGE."""
    address = os.environ.get("ABLATION_STORAGE")
    if not address and not (results.root / "search.sqlite3").exists():
        return []  # Optuna takes longer to load than all the rest
    from ablation.search.command import states

    return states(results, address)
