"""The first twenty losses of committed cells, recorded when the cells were computed.

python tests/produced.py [--data PLACE]    writes tests/produced.json, with the images of cifar10-small at PLACE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from unittest.mock import patch

from ablation.data import loaded
from ablation.execution.worker import configure_worker
from ablation.spec import Run, identity
from ablation.study.experiment_file import load, read
from ablation.training import loop as pretrain

FILE = Path(__file__).with_suffix(".json")
CELL = {"first": "crop", "second": "color", "seed": 0}
STEPS = 20


class Enough(Exception):
    """Raised after twenty steps."""


def run_of(scale: str, data: str | None = None, precision: str | None = None) -> Run:
    """Crop, then color: the main pair of the pairwise grid."""
    cells = load(read("pairwise", scale, data, precision=precision)).cells
    return next(cell.run for cell in cells if dict(cell.coords) == CELL)


def first_losses(run: Run) -> list[float]:
    """In one process with one thread, like a worker."""
    losses, compute_gradients = [], pretrain.compute_gradients

    def counted(*arguments):
        measured = compute_gradients(*arguments)
        losses.append(measured["loss"].item())
        if len(losses) == STEPS:
            raise Enough
        return measured

    configure_worker("cpu")
    with patch.object(pretrain, "compute_gradients", counted):
        try:
            pretrain.pretrain(run.training, loaded(run.training.dataset, "cpu"))
        except Enough:
            return losses
    raise AssertionError(f"a run has only {len(losses)} steps")


def main() -> None:
    data = sys.argv[2] if sys.argv[1:2] == ["--data"] else None
    found = json.loads(FILE.read_bytes()) if FILE.exists() else {}
    for scale, place in (("tiny", None), *((("cifar10-small", data),) if data else ())):
        run = run_of(scale, place)
        found[scale] = {"training": identity(run.training), "losses": [float(f"{x:.6g}") for x in first_losses(run)]}
    rows = ",\n".join(f" {json.dumps(scale)}: {json.dumps(entry)}" for scale, entry in found.items())
    FILE.write_text("{\n" + rows + "\n}\n")


if __name__ == "__main__":
    main()
