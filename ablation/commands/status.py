"""`ablation status`: finished, running and failed runs, the time left, the cost so far."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablation.commands.options import StatusOptions
from ablation.execution.console import shortened
from ablation.execution.documents import an_id
from ablation.execution.status_file import running
from ablation.execution.store import Results, Standing
from ablation.spec import AblationError
from ablation.system.terminal import hours, many, printable, time_left
from ablation.training.checkpoint import folder_of, how_far

MOST = 20  # complaints to print; the rest is only counted


def status(options: StatusOptions) -> int:
    results = Results(options.results)
    manifests, wrong = results.manifests()
    live, also_wrong = running(results)
    try:
        searches, unknown = _searches(results), []
    except (AblationError, OSError) as error:  # must not hide the experiments
        searches, unknown = [], [f"the searches cannot be read: {str(error).rstrip('.')}"]
    print_warnings([*wrong, *also_wrong, *unknown])
    if not (manifests or searches or live or wrong or unknown):
        runs = [path.name for path in results.root.glob("*") if an_id(path.name)]
        if runs:
            finished = sum(results.training(each)[0] is not None for each in runs)
            print(
                f"{printable(options.results)}/ holds {many(len(runs), 'run')}, {finished} trained, but no list of an "
                f"experiment ({printable(options.results)}/experiments). Repeat the command that ran them: it writes "
                "the list, and computes only what is missing."
            )
        else:
            print(f"nothing has been run into {options.results}/ yet; try `ablation run grid --scale tiny`.")
    whole, checkpoints = Cost(), folder_of(options.checkpoints, options.results)
    for manifest in manifests:
        whole += _experiment(manifest, results, live, checkpoints, cost=options.cost)
    if options.cost and len(manifests) > 1:
        print(f"all, shared runs counted once: {whole}")
    for line in searches:
        print(printable(line))
    for name, document in live.items():
        if not any(_is_of(name, manifest) for manifest in manifests):  # such as the comparison after a search
            print(f"{printable(name)}:")
            _under_way("", document)
    return 0


def print_warnings(complaints: Sequence[str]) -> None:
    """Prints the complaints to stderr."""
    for complaint in complaints[:MOST]:
        print(f"ablation: {printable(complaint)}.", file=sys.stderr)
    if len(complaints) > MOST:
        print(f"ablation: {len(complaints) - MOST} more like these.", file=sys.stderr)


def _experiment(manifest: dict, results: Results, live: dict[str, dict], checkpoints: Path, *, cost: bool) -> Cost:
    """Prints the state of an experiment; returns its cost."""
    standing, wrong, failures, begun, spent = Standing(), {}, {}, {}, Cost()
    held = {run["training"] for document in live.values() if document["alive"] for run in document["running"]}
    for cell in manifest["cells"]:
        each = results.look(cell["training"], cell["evaluations"])
        standing.add(cell["training"], each)
        wrong |= dict.fromkeys(f"{complaint}; its cell runs again" for complaint in each.wrong)
        failures |= {(cell["training"], part): failure for part, failure in each.failures.items()}
        if each.state == "missing" and cell["training"] not in held:
            far = how_far(checkpoints, cell["training"])
            begun |= {_name(cell): far} if far else {}
        if cost and each.training:
            spent.add(cell["training"], each.training, each.evaluations)
    print_warnings(list(wrong))
    stem = f"{manifest['name']}-{manifest['scale']}"
    print(printable(f"{manifest['name']} ({manifest['scale']}): {standing}"))
    for name, document in live.items():
        if _is_of(name, manifest):
            _under_way(name.removeprefix(stem).removeprefix("-"), document)
    for name, far in begun.items():
        print(printable(f"  begun: {name}: {far}; the same command continues it"))
    for (training_id, part), failure in failures.items():
        name = f"{failure['cell']}: {failure['label']}" if part else failure["cell"]
        place = f" ({os.path.basename(failure['place'])})" if failure["place"] else ""
        reason = f"{failure['kind']}: {shortened(failure['message'])}{place}"
        print(printable(f"  failed: {name}: {reason} (see {results.failure_path(training_id, part)})"))
    if cost:
        print(f"  cost: {spent}")
    return spent


def _is_of(name: str, manifest: Mapping[str, Any]) -> bool:
    """Whether the status file of this name belongs to the experiment, or to a shard of it."""
    return bool(re.fullmatch(rf"{re.escape(manifest['name'])}-{re.escape(manifest['scale'])}(-\d+-of-\d+)?", name))


def _name(cell: Mapping[str, Any]) -> str:
    return " ".join(f"{axis}={value}" for axis, value in cell["coords"].items())


def _under_way(shard: str, document: Mapping[str, Any]) -> None:
    """shard: "", or "0-of-8"."""
    who = f"{f'shard {shard}, ' if shard else ''}process {document['process']} on {document['host']}"
    if not document["alive"]:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(document["updated"]))
        print(f"  stopped: {printable(who)}, after {when}; the same command continues")
        return
    left = document["left"]  # when the file was written
    left = time_left(None if left is None else max(0, left - (time.time() - document["updated"])))
    print(f"  under way: {printable(who)}: {document['done']} of {document['jobs']} runs ended, {left}")
    for run in document["running"]:
        epochs, since = run["epochs"], time.strftime("%Y-%m-%d %H:%M", time.localtime(run["since"]))
        epoch = min(epochs, int(run["fraction"] * epochs) + 1)
        at = "evaluating" if not epochs or run["fraction"] >= 1 else f"epoch {epoch} of {epochs}"
        print(printable(f"  running: {run['name']}: {at}, {run['worker']}, since {since}"))


class Cost:
    """The cost of runs; a shared run counts once."""

    def __init__(self):
        self.runs: dict[str, float] = {}  # seconds of training
        self.evaluations: dict[tuple[str, str], float] = {}
        self.bytes: dict[tuple[str, str], int] = {}
        self.memory = 0

    def add(self, training_id: str, training: dict, evaluations: Mapping[str, dict | None]) -> None:
        self.runs[training_id] = sum(each["seconds"] * each.get("processes", 1) for each in training["sittings"])
        self.memory = max(self.memory, training["peak_memory_bytes"])
        self._add_files((training_id, ""), training)
        for evaluation_id, document in evaluations.items():
            if document:
                self.evaluations[training_id, evaluation_id] = document["seconds"]
                self._add_files((training_id, evaluation_id), document)

    def _add_files(self, key: tuple[str, str], document: dict) -> None:
        self.bytes[key] = sum(file["bytes"] for file in document["files"].values())

    def __iadd__(self, other: Cost) -> Cost:
        for name in ("runs", "evaluations", "bytes"):
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
        return ", ".join(parts)


def _searches(results: Results) -> list[str]:
    """A line per search in the storage beside the results or in ABLATION_STORAGE."""
    address = os.environ.get("ABLATION_STORAGE")
    if not address and not (results.root / "search.sqlite3").exists():
        return []  # saves loading Optuna, the slowest import
    from ablation.search.status import states
    from ablation.search.storage import Storage, address_beside

    return states(Storage(address or address_beside(results)))
