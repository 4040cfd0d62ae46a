"""A run small enough for a test: seconds, not minutes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from ablation.datasets import Shapes
from ablation.documents import SEAL
from ablation.encoders import SmallResNet
from ablation.evaluate import KNN, Linear
from ablation.methods import SimCLR
from ablation.operators import Crop
from ablation.optimizers import AdamW
from ablation.results import Results
from ablation.specs import Optimization, Run, Training

ROOT = Path(__file__).resolve().parent.parent

SMALL = Shapes(train=140, validation=40, test=60, size=16)


def small_training(**changes) -> Training:
    settings = {
        "dataset": SMALL,
        "views": ((Crop(),), ()),
        "method": SimCLR(hidden=16, dimension=8),
        "encoder": SmallResNet(channels=4),
        "optimization": Optimization(epochs=1, batch=32, optimizer=AdamW(learning_rate=1e-3), curve_every=1),
    }
    return Training(**{**settings, **changes})


def small_run(**changes) -> Run:
    return Run(training=small_training(**changes), evaluations=(KNN(k=(10,)), Linear()))


# The head of an experiment file whose runs take a second each.
SMALL_EXPERIMENT = textwrap.dedent(
    '''
    """A small question."""
    from dataclasses import dataclass

    import torch

    from ablation.datasets import Shapes
    from ablation.encoders import SmallResNet
    from ablation.grids import pairwise, sweep
    from ablation.methods import SimCLR
    from ablation.operators import Blur, Crop, Noise, Operator, Sobel
    from ablation.plots import Heatmap
    from ablation.specs import Experiment


    def small(scale):
        return scale.replace(
            dataset=Shapes(train=140, validation=40, test=60, size=16), encoder=SmallResNet(channels=4),
            epochs=1, batch=32, simclr_settings=SimCLR(hidden=16, dimension=8), precision="float32",
        )
    '''
)

GRID = SMALL_EXPERIMENT + textwrap.dedent(
    """
    def experiment(scale):
        scale = small(scale)
        cells = pairwise(
            (Crop(), Sobel()), lambda view: scale.run(scale.simclr(), views=(view, ())), seeds=range(2)
        )
        return Experiment(cells=cells, figures={"heatmap": Heatmap(rows="first", columns="second")})
    """
)

# An evaluation that fails, or ends its process, until the file `mended` is there; beside two that do not.
ODD = (
    SMALL_EXPERIMENT
    + '''
import os
from pathlib import Path

from ablation.evaluate import KNN, Linear
from ablation.evaluate.features import Evaluation


@dataclass(frozen=True, kw_only=True)
class Odd(Evaluation):
    """Is not always there."""
    name = "odd"
    how: str

    def evaluate(self, features):
        if not Path("mended").exists():
            if self.how == "exit":
                os._exit(3)
            raise RuntimeError("no \\x1b[31msuch label")
        return {"test_top1": 50.0}, {}, []


def experiment(scale):
    scale = small(scale)
    evaluations = lambda how: (KNN(k=(10,)), Odd(how=how), Linear())
    make = lambda how: scale.run(scale.simclr(), views=((Crop(),), ())).replace(evaluations=evaluations(how))
    return Experiment(cells=sweep(make, how=HOW, seeds=[0, 1]), figures={})
'''
)

# Every view sleeps, so that there is time to interrupt; the label of the operator says which cell it is.
SLOW = (
    SMALL_EXPERIMENT
    + '''
import time

@dataclass(frozen=True, kw_only=True)
class Sleep(Operator):
    """Takes its time."""
    label = "sleep"
    seconds: float = 0.05

    def sample(self, batch, size, generator):
        return {}

    def apply(self, images, params):
        time.sleep(self.seconds)
        return images

def experiment(scale):
    scale = small(scale).replace(epochs=6)
    return Experiment(
        cells=sweep(lambda cell: scale.run(scale.simclr(), views=((Crop(area=(cell / 20, 1.0)), Sleep()), ())),
                    cell=range(1, 9), seeds=[0]),
        figures={},
    )
'''
)


def ablation(*arguments: str, cwd: Path, check: int | None = 0) -> subprocess.CompletedProcess:
    """The command line, as a user calls it, in a folder of the test's own."""
    done = subprocess.run(command(*arguments), cwd=cwd, capture_output=True, text=True, env=environment(), timeout=300)
    if check is not None:
        assert done.returncode == check, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ablation.cli", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


def finished(folder: Path) -> dict[str, int]:
    """Training ids that are finished with all their evaluations, with the time their training.json was written."""
    results = Results(folder / "results")
    cells = [cell for manifest in results.manifests()[0] for cell in manifest["cells"]]
    done = {c["training"] for c in cells if results.state(c["training"], c["evaluations"]) == "finished"}
    return {name: (results.folder(name) / "training.json").stat().st_mtime_ns for name in done}


def resealed(content: bytes) -> bytes:
    """A document with other content, and the digest of that."""
    body = content.rpartition(SEAL)[0] or content
    return body + SEAL + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def workers_of(process: subprocess.Popen) -> list[int]:
    """Children that compute (the resource tracker is a child too)."""
    found = []
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] not in "ZX"
    except OSError:
        return False
