"""A run small enough for a test: seconds, not minutes."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from ablation.cli import main
from ablation.data import Shapes
from ablation.evaluate import KNN, Linear
from ablation.execution.documents import SEAL
from ablation.execution.store import Results
from ablation.methods import SimCLR
from ablation.models.resnet import SmallResNet
from ablation.operators import Crop
from ablation.spec import Optimization, Run, Training
from ablation.training.optimizers import AdamW

ROOT = Path(__file__).resolve().parent.parent

SMALL = Shapes(train=140, validation=40, test=60, size=16)


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    """Standard normal ones."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit(rows) -> np.ndarray:
    """Rows of length 1, in float64."""
    rows = np.asarray(rows, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


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

    from ablation.data import Shapes
    from ablation import SmallResNet
    from ablation import pairwise, sweep
    from ablation.methods import SimCLR
    from ablation.operators import Blur, Crop, Noise, Operator, Sobel
    from ablation.plots import Heatmap
    from ablation import Experiment


    def small(scale):
        return scale.replace(
            dataset=Shapes(train=140, validation=40, test=60, size=16), encoder=SmallResNet(channels=4),
            epochs=1, batch=32, methods=(SimCLR(hidden=16, dimension=8),), precision="float32",
        )
    '''
)

GRID = SMALL_EXPERIMENT + textwrap.dedent(
    """
    def experiment(scale):
        scale = small(scale)
        cells = pairwise(
            (Crop(), Sobel()), lambda view: scale.run(scale.method(SimCLR), views=(view, ())), seeds=range(2)
        )
        return Experiment(cells=cells, figures={"heatmap": Heatmap(rows="first", columns="second")})
    """
)

# An evaluation that fails or kills its process until the file `mended` exists, beside two that work.
ODD = (
    SMALL_EXPERIMENT
    + '''
import os
from pathlib import Path

from ablation.evaluate import KNN, Linear
from ablation.evaluate.base import Evaluation


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
    make = lambda how: scale.run(scale.method(SimCLR), views=((Crop(),), ())).replace(evaluations=evaluations(how))
    return Experiment(cells=sweep(make, how=HOW, seeds=[0, 1]), figures={})
'''
)

# Every view sleeps, so there is time to interrupt; the operator's label identifies the cell.
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
        cells=sweep(lambda cell: scale.run(scale.method(SimCLR), views=((Crop(area=(cell / 20, 1.0)), Sleep()), ())),
                    cell=range(1, 9), seeds=[0]),
        figures={},
    )
'''
)


# What a command imports, so that its children need not.
IMPORTED = (
    "datasets", "kornia", "matplotlib.pyplot", "optuna", "pandas", "rich.progress", "scipy.stats", "seaborn", "torch",
    "torch._dynamo", "ablation.commands.figures", "ablation.commands.plot_csv", "ablation.commands.report",
    "ablation.commands.run",
)  # fmt: skip


@functools.cache
def _forks() -> subprocess.Popen:
    """The process that starts commands (forked.py); it ends with this one, whose pipe it reads."""
    return subprocess.Popen(
        [sys.executable, ROOT / "tests" / "forked.py", *IMPORTED],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), text=True,
    )  # fmt: skip


def ablation(*arguments: str, cwd: Path, check: int | None = 0) -> subprocess.CompletedProcess:
    """Runs the command line like a user, in a temporary folder."""
    forks = _forks()
    with tempfile.NamedTemporaryFile("r") as stdout, tempfile.NamedTemporaryFile("r") as stderr:
        request = {"arguments": arguments, "cwd": str(cwd), "environment": environment()}
        print(json.dumps(request | {"stdout": stdout.name, "stderr": stderr.name}), file=forks.stdin, flush=True)
        code = int(forks.stdout.readline())
        done = subprocess.CompletedProcess(arguments, code, stdout.read(), stderr.read())
    return _checked(done, check)


def ablation_here(*arguments: str, cwd: Path, check: int | None = 0) -> subprocess.CompletedProcess:
    """The same in this process, for tests that are not about processes: nothing is imported again."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd), patch.dict(os.environ, environment()), contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):  # fmt: skip
        code = main(list(arguments))
    return _checked(subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue()), check)


def _checked(done: subprocess.CompletedProcess, code: int | None) -> subprocess.CompletedProcess:
    if code is not None:
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ablation.cli", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


def finished(folder: Path) -> dict[str, int]:
    """Ids of trainings whose evaluations are all finished, with the modification time of their training.json."""
    results = Results(folder / "results")
    cells = [cell for manifest in results.manifests()[0] for cell in manifest["cells"]]
    done = {c["training"] for c in cells if results.state(c["training"], c["evaluations"]) == "finished"}
    return {name: (results.folder(name) / "training.json").stat().st_mtime_ns for name in done}


def resealed(content: bytes) -> bytes:
    """A document with other content and a matching digest."""
    body = content.rpartition(SEAL)[0] or content
    return body + SEAL + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def workers_of(process: subprocess.Popen) -> list[int]:
    """Child processes that compute (excludes the resource tracker)."""
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
