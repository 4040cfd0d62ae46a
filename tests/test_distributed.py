"""Several processes compute the same training as one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers import SMALL_EXPERIMENT, ablation, alive, environment, wait_for
from safetensors.torch import load_file

# Operators with pixel noise and a gate, both kinds of batch norm, losses that see the whole batch, and labels. By SGD:
# Adam would amplify gradients that are zero up to rounding, such as that of Barlow Twins' last bias.
TOGETHER = (
    SMALL_EXPERIMENT
    + """
from ablation.methods import BarlowTwins, Supervised
from ablation.operators import ColorDrop
from ablation.training.optimizers import SGD

METHODS = {
    "SimCLR": SimCLR(hidden=16, dimension=8),
    "Barlow Twins": BarlowTwins(hidden=16, dimension=8),
    "supervised": Supervised(batch_norm="separate"),
}

def experiment(scale):
    scale = small(scale).replace(epochs=3, curve_every=1, optimizer=SGD(learning_rate=0.05))
    views = ((Crop(), Noise(), ColorDrop(p=0.5)), (Crop(), Blur(p=0.5)))
    return Experiment(
        cells=sweep(lambda method: scale.run(METHODS[method], views=views), method=list(METHODS), seeds=[0]), figures={}
    )
"""
)


def together(*arguments: str, cwd, processes: int = 2, check: int = 0):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [*torchrun, "-m", "ablation.cli", *arguments], cwd=cwd, env=environment(), capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert (done.returncode != 0) == (check != 0), done.stdout + done.stderr
    return done


def runs(folder) -> dict[str, tuple[pd.DataFrame, dict, dict]]:
    """Learning curve, weights and training.json by method."""
    found = {}
    for path in folder.glob("*/training.json"):
        document = json.loads(path.read_text())
        weights = load_file(path.parent / "encoder.safetensors")
        found[document["training"]["method"]["type"]] = (pd.read_csv(path.parent / "history.csv"), weights, document)
    return found


def descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *descendants(child)]
    return found


@pytest.mark.slow
def test_two_processes_give_the_curve_of_one(tmp_path):
    """Loss, other metrics, running statistics and weights up to float32 rounding; validation and the number
    of results as usual."""
    (tmp_path / "question.py").write_text(TOGETHER)
    ablation("run", "question.py", "--workers", "1", "--results", "one", "--figures", "f1", cwd=tmp_path)
    said = together("run", "question.py", "--results", "two", "--figures", "f2", cwd=tmp_path).stderr
    assert "3 runs to do on 2 processes together" in said
    one, two = runs(tmp_path / "one"), runs(tmp_path / "two")
    assert set(one) == set(two) == {"SimCLR", "BarlowTwins", "Supervised"}
    for method in one:
        (curve, weights, _), (other, others, document) = one[method], two[method]
        pd.testing.assert_frame_equal(
            curve.drop(columns="validation_knn"), other.drop(columns="validation_knn"), rtol=5e-5, atol=1e-6, obj=method
        )
        assert other["validation_knn"].notna().all()
        for name, tensor in weights.items():
            torch.testing.assert_close(others[name], tensor, rtol=1e-3, atol=2e-4, msg=lambda m, n=name: f"{n}: {m}")
        assert document["sittings"][0]["processes"] == 2
    tables = [pd.read_csv(tmp_path / folder / "question-tiny.csv") for folder in ("f1", "f2")]
    assert (tables[1]["state"] == "finished").all()
    assert tables[0]["training"].tolist() == tables[1]["training"].tolist()


def kill_and_continue(folder: Path) -> None:
    """Kills two processes at their first checkpoint, and runs the same command again, into `killed`."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    typed = ["-m", "ablation.cli", "run", "question.py", "--results", "killed", "--checkpoint-every", "0.0001"]
    process = subprocess.Popen([*torchrun, *typed], cwd=folder, env=environment(), stderr=subprocess.DEVNULL)
    wait_for(lambda: any((folder / "killed" / "checkpoints").glob("*.checkpoint")))
    everyone = descendants(process.pid)
    assert len(everyone) >= 2
    for pid in [process.pid, *everyone]:
        os.kill(pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(map(alive, everyone)))
    together("run", "question.py", "--results", "killed", cwd=folder)


@pytest.mark.slow
def test_processes_that_were_killed_continue_together(tmp_path):
    """From one process's checkpoint; the curve equals that of two processes that were not killed."""
    code = TOGETHER.replace("epochs=3", "epochs=40").replace("method=list(METHODS)", 'method=["SimCLR"]')
    (tmp_path / "question.py").write_text(code)
    together("run", "question.py", "--results", "whole", cwd=tmp_path)
    kill_and_continue(tmp_path)
    [(whole, weights, _)] = runs(tmp_path / "whole").values()
    [(curve, others, document)] = runs(tmp_path / "killed").values()
    assert len(document["sittings"]) == 2
    assert document["sittings"][1]["from_step"] > 0
    pd.testing.assert_frame_equal(curve, whole)
    for name, tensor in weights.items():
        assert torch.equal(others[name], tensor), name


@pytest.mark.slow
def test_a_dry_run_together_ends(tmp_path):
    (tmp_path / "question.py").write_text(TOGETHER)
    assert "3 cells, 3 missing; 3 runs to do" in together("run", "question.py", "--dry-run", cwd=tmp_path).stdout


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    (tmp_path / "question.py").write_text(TOGETHER.replace("epochs=3", "epochs=3, batch=31"))
    done = together("run", "question.py", cwd=tmp_path, check=1)
    assert "Optimization.batch must be a multiple of the number of processes, 2, but got 31" in done.stderr
    assert not list(tmp_path.glob("results/*/failure.json"))


def ends_soon(experiment: str, folder: Path) -> str:
    """What the command says, which fails without waiting for the other process."""
    (folder / "question.py").write_text(SMALL_EXPERIMENT + experiment)
    start = time.monotonic()
    done = together("run", "question.py", cwd=folder, check=1)
    assert time.monotonic() - start < 120
    return done.stderr


@pytest.mark.slow
def test_images_that_one_process_cannot_read_end_the_command(tmp_path):
    """As on a second machine that lacks the files: the others do not wait for it."""
    broken = """
import os
from ablation import DataError

@dataclass(frozen=True, kw_only=True)
class OnOneMachine(Shapes):
    label = "shapes"
    def load(self):
        if os.environ.get("LOCAL_RANK") == "1":
            raise DataError("there are no images on this machine")
        return Shapes(train=140, validation=40, test=60, size=16).load()

def experiment(scale):
    scale = small(scale).replace(dataset=OnOneMachine(train=140, validation=40, test=60, size=16))
    make = lambda x: scale.run(SimCLR(hidden=16, dimension=8), views=((Crop(),), ()))
    return Experiment(cells=sweep(make, x=["a"], seeds=[0]), figures={})
"""
    said = ends_soon(broken, tmp_path)
    assert "process 1: DataError: there are no images on this machine" in said


@pytest.mark.slow
def test_a_class_that_computes_other_numbers_in_one_process_ends_the_command(tmp_path):
    """Each trains on its rows of a batch: half of it would have another operator. The others do not wait."""
    unlike = """
import os
from ablation import Operator

@dataclass(frozen=True, kw_only=True)
class Dim(Operator):
    label = "dim"
    def sample(self, batch, size, generator):
        return {}
    def apply(self, images, params):
        return images * (0.5 if os.environ.get("LOCAL_RANK") == "1" else 0.9)

def experiment(scale):
    scale = small(scale)
    make = lambda x: scale.run(SimCLR(hidden=16, dimension=8), views=((Crop(), Dim()), ()))
    return Experiment(cells=sweep(make, x=["a"], seeds=[0]), figures={})
"""
    assert "Dim computes other numbers than in process 0" in ends_soon(unlike, tmp_path)
    assert not list(tmp_path.glob("results/*/training.json"))


# A loss that is a mean over images, which needs no z of the others, and prototypes that are drawn anew after some
# steps; `broken`: the loss is no number for an image of the second half of a batch.
MEANS = """
import os
from ablation import Learner, Method, mlp
from torch.nn.functional import cross_entropy, normalize

@dataclass(frozen=True, kw_only=True)
class Groups(Method):
    label = "groups"
    broken: bool = False
    def build(self, encoder, classes):
        return GroupsLearner(encoder, mlp(encoder.features, 16, 8), self.broken)

class GroupsLearner(Learner):
    def __init__(self, encoder, head, broken):
        super().__init__(encoder, head, "joint")
        self.broken = broken
        self.register_buffer("groups", normalize(torch.randn(6, 8), dim=1))
        self.register_buffer("count", torch.zeros(()))
    def loss(self, views, labels):
        a, b = [normalize(self.head(self.encoder(view)).float(), dim=1) for view in views]
        loss = cross_entropy(a @ self.groups.T / 0.1, (b @ self.groups.T).argmax(1).detach())
        self.count += 1
        if self.broken and self.count == 3 and os.environ.get("LOCAL_RANK") == "1":
            loss = loss * float("nan")
        return loss, {"drawn": self.groups[0, 0].clone()}
    def after_step(self, progress):
        if progress.step % 2 == 0:
            self.groups.copy_(normalize(torch.randn(6, 8), dim=1))

def experiment(scale):
    scale = small(scale).replace(epochs=3, curve_every=1, optimizer=SGD(learning_rate=0.05))
    make = lambda broken: scale.run(Groups(broken=broken), views=((Crop(),), (Crop(),)))
    return Experiment(cells=sweep(make, broken=[BROKEN], seeds=[0]), figures={})
"""


@pytest.mark.slow
def test_a_mean_over_images_and_draws_between_steps_are_those_of_one_process(tmp_path):
    code = SMALL_EXPERIMENT + "from ablation import SGD\n" + MEANS.replace("BROKEN", "False")
    (tmp_path / "question.py").write_text(code)
    ablation("run", "question.py", "--workers", "1", "--results", "one", "--figures", "f1", cwd=tmp_path)
    together("run", "question.py", "--results", "two", "--figures", "f2", cwd=tmp_path)
    [(one, _, _)], [(two, _, _)] = (runs(tmp_path / folder).values() for folder in ("one", "two"))
    assert one["drawn"].nunique() == 3
    pd.testing.assert_frame_equal(
        one.drop(columns="validation_knn"), two.drop(columns="validation_knn"), rtol=1e-4, atol=1e-6
    )


@pytest.mark.slow
def test_a_group_that_was_killed_within_an_epoch_logs_the_means_of_all(tmp_path):
    """Its checkpoint has the sums of all processes, of a loss that each computes for its own images."""
    code = SMALL_EXPERIMENT + "from ablation import SGD\n" + MEANS.replace("BROKEN", "False")
    code = code.replace("train=140", "train=1700").replace("batch=32", "batch=4").replace("epochs=3", "epochs=1")
    (tmp_path / "question.py").write_text(code)
    together("run", "question.py", "--results", "whole", cwd=tmp_path)
    kill_and_continue(tmp_path)
    [(whole, _, _)], [(curve, _, document)] = (runs(tmp_path / folder).values() for folder in ("whole", "killed"))
    assert document["sittings"][1]["from_step"] % 128 == 0  # within the epoch of 415 steps
    pd.testing.assert_frame_equal(curve, whole, rtol=1e-6)


@pytest.mark.slow
def test_a_loss_that_is_no_number_in_one_process_ends_all(tmp_path):
    said = ends_soon("from ablation import SGD\n" + MEANS.replace("BROKEN", "True"), tmp_path)
    assert "the loss of groups became nan" in said


def test_one_process_is_no_group():
    from ablation.system import distributed

    z = torch.ones(3, 2)
    assert (distributed.rank(), distributed.count()) == (0, 1)
    assert distributed.gather(z) is z
    assert torch.equal(distributed.local_rows(z), z)
    assert distributed.broadcast("x") == "x"
    assert distributed.mean(z) is z
