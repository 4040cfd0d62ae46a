"""One id, one number: what an id cannot count shows in the trace of finished runs."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from helpers import SMALL, SMALL_EXPERIMENT, small_training
from torch import nn

from ablation.cli import main
from ablation.contracts import operators
from ablation.contracts.trace import (
    Difference,
    _summary,
    check_trace,
    comparable,
    differences,
    trace_of_training,
    with_format,
)
from ablation.data import loaded
from ablation.methods import Learner, SimCLR
from ablation.models.resnet import SmallResNet
from ablation.operators import Crop, Operator
from ablation.spec import InvalidSpec
from ablation.training import loop
from ablation.training.checkpoint import Checkpoint
from ablation.training.loop import build_learner, pretrain

FACTOR = {"now": 1.0}


@dataclass(frozen=True, kw_only=True)
class MyEncoder(SmallResNet):
    """The same by another name."""


@dataclass(frozen=True, kw_only=True)
class MyMethod(SimCLR):
    """The same by another name."""


@dataclass(frozen=True, kw_only=True)
class Dimmed(Operator):
    """Multiplies by a number that no field states."""

    label = "dimmed"

    def sample(self, batch, size, generator):
        return {}

    def apply(self, images, params):
        return images * FACTOR["now"]


OPERATOR = (
    SMALL_EXPERIMENT
    + '''
import multiprocessing
import os
from pathlib import Path

import torch

import mylab.settings
from mylab.settings import SETTINGS
from ablation import KNN, Cell, Cosine, NTXent, Spec
from ablation.evaluate.base import Evaluation


@dataclass(frozen=True, kw_only=True)
class Dim(Operator):
    """Multiplies by a number."""
    label = "dim"

    def sample(self, batch, size, generator):
        return {}

    def apply(self, images, params):
        factor = float(os.environ.get("FACTOR", 1)) * SETTINGS.factor * mylab.settings.FACTOR
        if Path("factor.txt").exists():
            factor *= float(Path("factor.txt").read_text())
        return images * factor


@dataclass(frozen=True, kw_only=True)
class Tiles(Operator):
    """Swaps thirds; 16 px have none."""
    label = "tiles"

    def sample(self, batch, size, generator):
        return {}

    def apply(self, images, params):
        return images.reshape(*images.shape[:2], 3, -1, images.shape[-1]).flip(2).reshape(images.shape)


@dataclass(frozen=True, kw_only=True)
class InWorkers(Operator):
    """Computes something else in workers."""
    label = "in workers"

    def sample(self, batch, size, generator):
        return {}

    def apply(self, images, params):
        return images * (0.5 if multiprocessing.parent_process() else 1.0)


@dataclass(frozen=True, kw_only=True)
class ByFactor(NTXent):
    """A part of the loss."""

    def loss(self, first, second):
        loss, metrics = super().loss(first, second)
        return mylab.settings.FACTOR * loss, metrics


@dataclass(frozen=True, kw_only=True)
class Read(NTXent):
    """A loss with a number from a file."""

    def loss(self, first, second):
        loss, metrics = super().loss(first, second)
        return float(Path("needed.txt").read_text()) * loss, metrics


@dataclass(frozen=True, kw_only=True)
class Constant(Evaluation):
    """A number."""
    name = "constant"
    metrics = {"test_number": ("", "")}

    def evaluate(self, features):
        return {"test_number": SETTINGS.factor}, {}, []


@dataclass(frozen=True, kw_only=True)
class Scaled(NTXent):
    """A part of the loss."""

    def loss(self, first, second):
        loss, metrics = super().loss(first, second)
        return SETTINGS.factor * loss, metrics


@dataclass(frozen=True, kw_only=True)
class Plateau(Spec):
    """A part of the rate."""
    label = "plateau"

    def factor(self, step, steps):
        return SETTINGS.factor


@dataclass(frozen=True, kw_only=True)
class Other(Spec):
    """Another part of the rate."""
    label = "other"

    def factor(self, step, steps):
        return mylab.settings.FACTOR


@dataclass(frozen=True, kw_only=True)
class Decayed(Spec):
    """Plain steps with decay."""
    label = "decayed"
    learning_rate: float = 0.1

    def build(self, module):
        return torch.optim.SGD(module.parameters(), lr=self.learning_rate, weight_decay=1e-6 * SETTINGS.factor)


@dataclass(frozen=True, kw_only=True)
class Trained(Evaluation):
    """Trains through the encoder."""
    name = "trained"
    metrics = {"test_loss": ("", "lowest")}

    def evaluate(self, features):
        model = features.model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1 * SETTINGS.factor)
        model(torch.ones(2, 3, features.data.size, features.data.size)).square().mean().backward()
        optimizer.step()
        with torch.no_grad():
            return {"test_loss": model(torch.ones(2, 3, features.data.size, features.data.size)).mean().item()}, {}, []


def experiment(scale):
    scale = small(scale)
    method = scale.method(SimCLR).replace(objective=OBJECTIVE)
    cells = []
    for number, schedule in enumerate([SCHEDULE]):
        optimization = scale.optimization(method).replace(schedule=schedule, OPTIMIZER)
        run = scale.run(method, views=((VIEW,), (OTHER)), optimization=optimization)
        run = run.replace(evaluations=(EVALUATION,))
        cells.append(Cell(coords={"a": number}, run=run))
    return Experiment(cells=tuple(cells), figures={})
'''
)
PARTS = {
    "VIEW": "Crop()", "OTHER": "", "EVALUATION": "KNN()", "OBJECTIVE": "NTXent()", "SCHEDULE": "Cosine()",
    "OPTIMIZER": "warmup=0.1",
}  # fmt: skip
SETTINGS = """
class Settings:
    __slots__ = ("factor",)

SETTINGS = Settings()
SETTINGS.factor = 1.0
FACTOR = 1.0

def configure(**values):
    for name, value in values.items():
        setattr(SETTINGS, name, value)

def set_factor(value):
    globals()["FACTOR"] = value
"""


@pytest.fixture
def ran(tmp_path, monkeypatch, capsys):
    """Runs the experiment, as in a new process, and returns its code and what it says."""
    import sys

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab" / "__init__.py").write_text("")
    (tmp_path / "mylab" / "settings.py").write_text(SETTINGS)

    def run(line: str = "", options: tuple[str, ...] = ("--workers", "1"), **names: str) -> tuple[int, str]:
        for name in [name for name in sys.modules if name.startswith(("mylab", "experiment_file_question"))]:
            del sys.modules[name]
        code = OPERATOR
        for name, value in (PARTS | names).items():
            code = code.replace(name, value)
        code = code.replace("    scale = small(scale)\n", f"    scale = small(scale)\n    {line}\n", 1)
        (tmp_path / "question.py").write_text(code)
        return main(["run", "question.py", *options]), capsys.readouterr().err

    yield run
    for name in [name for name in sys.modules if name.startswith("mylab")]:
        del sys.modules[name]


def test_a_value_from_elsewhere_that_changed_is_named(ran, tmp_path, monkeypatch):
    """An attribute of another package's object, its global, a file, the environment: none is part of an id."""
    assert ran(VIEW="Dim()")[0] == 0
    [document] = (tmp_path / "results").glob("**/training.json")
    trace = json.loads(document.read_text())["trace"]
    [(name, rows)] = comparable(trace).items()
    assert comparable(trace | {"format": [[1.0]]}) == comparable({}) == {}
    assert name.startswith("operator ")
    assert [len(row) for row in rows] == [12, 3, 6] * 8  # quarters, contrast, edges
    for line in ("mylab.settings.configure(factor=0.5)", "mylab.settings.set_factor(0.9)"):
        code, said = ran(line, VIEW="Dim()")
        assert code == 2
        assert re.search(r"question.py.*Dim computes other numbers than in finished runs of results.*field", said)
        was, now = map(float, re.search(r"was ([\d.]+) and is ([\d.]+)\.", said).groups())
        assert now == pytest.approx(was * (0.5 if "0.5" in line else 0.9), abs=1e-4)
    (tmp_path / "factor.txt").write_text("0.5")
    assert ran(VIEW="Dim()")[0] == 2
    (tmp_path / "factor.txt").unlink()
    monkeypatch.setenv("FACTOR", "0.5")
    assert ran(VIEW="Dim()")[0] == 2
    monkeypatch.delenv("FACTOR")
    code, said = ran(VIEW="Dim()")
    assert (code, "finished" in said) == (0, True)
    assert ran("mylab.settings.configure(factor=0.5)", VIEW="Dim(p=0.5)")[0] == 0  # another id


@pytest.mark.parametrize(
    ("part", "value", "name"),
    [
        ("EVALUATION", "Constant()", "Constant"),
        ("EVALUATION", "Trained()", "Trained"),
        ("OPTIMIZER", "optimizer=Decayed()", "Decayed"),
        ("OBJECTIVE", "Scaled()", "SimCLR"),
        ("SCHEDULE", "Plateau()", "Plateau"),
    ],
)
def test_every_part_of_a_user_has_a_trace(part, value, name, ran):
    assert ran(**{part: value})[0] == 0
    assert ran(**{part: value})[0] == 0
    code, said = ran("mylab.settings.configure(factor=0.5)", **{part: value})
    assert code == 2
    assert f"{name} computes other numbers" in said


def test_a_search_refuses_to_go_on_with_other_numbers(ran, tmp_path, capsys):
    search = """
def search(scale):
    make = lambda p: experiment(scale).cells[0].run.replace(evaluations=(KNN(k=(10,)),))
    return Search(
        suggest=lambda trial: make(trial.suggest_float("p", 0, 1)), default=make(1), trials=2, seeds=(0,),
        metric="knn_validation_top1_recalibrated",
    )
"""
    ran(VIEW="Dim(p=p)")
    code = (tmp_path / "question.py").read_text()
    code = code.replace("import KNN", "import KNN, Search").replace("def experiment(scale)", "def made(scale, p)")
    code = code.replace("return Experiment(cells=tuple(cells), figures={})", "return run")
    search = search.replace("experiment(scale).cells[0].run", "made(scale, p)")
    for line, wanted in (("", 0), ("mylab.settings.configure(factor=0.5)", 2)):
        changed = code.replace("    scale = small(scale)\n", f"    scale = small(scale)\n    {line}\n", 1)
        (tmp_path / "look.py").write_text(changed + search)
        trials = "2" if not line else "3"
        assert main(["search", "look.py", "--trials", trials, "--trials-only", "--workers", "1"]) == wanted
    assert "Dim computes other numbers" in capsys.readouterr().err


def first_difference(before: dict, now: dict) -> Difference | None:
    return next(differences(before, now), None)


def test_rounding_and_single_pixels_are_no_difference():
    rows = [[0.5] * 12 for _ in range(8)]
    near = [[0.5 + 4e-3, *row[1:]] for row in rows]
    assert first_difference({"operator a": rows}, {"operator a": near}) is None
    found = first_difference({"operator a": rows}, {"operator a": [[0.51] * 11 + [0.52], *rows[1:]]})
    assert found == Difference("operator a", "was 0.5 and is 0.52")
    assert first_difference({"operator a": rows}, {"operator b": near}) is None
    assert first_difference({"test_top1": [[47.0]]}, {"test_top1": [[48.5]]}) is None
    assert first_difference({"test_top1": [[47.0]]}, {"test_top1": [[math.nan]]})
    assert first_difference({"test_top1": [[13.0]]}, {"test_top1": [[17.0]]}) is None  # three of 64 images
    assert first_difference({"test_top1": [[13.0]]}, {"test_top1": [[19.0]]})
    assert first_difference({"test_miou": [[0.30]]}, {"test_miou": [[0.35]]})
    for when, off in ("before", 0.0004), ("after", 0.2):
        name = f"loss {when} a step"
        assert first_difference({name: [[5.0]]}, {name: [[5.0 + off]]}) is None
        assert first_difference({name: [[5.0]]}, {name: [[5.0 + 2 * off]]}) == Difference(
            name, f"was 5 and is {5 + 2 * off:.5g}"
        )
    assert first_difference({"optimizer lr": [[0.1]]}, {"optimizer lr": [[0.1], [0.1]]})


def test_a_trace_sees_texture_that_colors_do_not_show(images):
    pixelated = [
        nn.functional.interpolate(nn.functional.avg_pool2d(images, side), scale_factor=side, mode="nearest")
        for side in (2, 4)
    ]
    assert first_difference({"operator a": _summary(pixelated[0])}, {"operator a": _summary(pixelated[1])})


def test_an_operator_is_traced_in_its_place(ran, tmp_path):
    """Here one that needs the images of the one before it."""
    view = {"VIEW": "Crop(size=12), Tiles(), Dim()", "OTHER": "Crop(size=12),"}
    assert ran(**view)[0] == 0
    [document] = (tmp_path / "results").glob("**/training.json")
    assert [name.split()[:2] for name in comparable(json.loads(document.read_text())["trace"])] == [
        ["operator", "1"],
        ["operator", "2"],
    ]
    assert ran(**view)[0] == 0
    code, said = ran("mylab.settings.configure(factor=0.5)", **view)
    assert code == 2
    assert "Dim computes other numbers" in said


def test_one_percent_of_a_loss_is_noticed(ran):
    assert ran(OBJECTIVE="Scaled()")[0] == 0
    assert ran("mylab.settings.configure(factor=1.01)", OBJECTIVE="Scaled()")[0] == 2


def test_each_of_two_classes_with_the_same_numbers_is_compared(ran):
    assert ran(SCHEDULE="Plateau(), Other()")[0] == 0
    code, said = ran("mylab.settings.set_factor(0.9)", SCHEDULE="Plateau(), Other()")
    assert code == 2
    assert "Other computes other numbers" in said


def test_the_class_that_changed_is_named_and_not_the_loss_that_follows_from_it(ran):
    parts = {"VIEW": "Dim()", "OBJECTIVE": "Scaled()"}
    assert ran(**parts)[0] == 0
    code, said = ran("mylab.settings.set_factor(0.9)", **parts)
    assert code == 2
    assert "Dim computes other numbers" in said


@pytest.mark.parametrize(
    ("parts", "line", "count"),
    [
        ({"VIEW": "Dim()", "SCHEDULE": "Cosine(), Plateau()"}, "mylab.settings.set_factor(0.9)", 2),
        ({"SCHEDULE": "Cosine(), Plateau()"}, "mylab.settings.configure(factor=0.5)", 1),
        ({"EVALUATION": "Constant(), KNN()", "SCHEDULE": "Cosine(), Other()"}, "mylab.settings.configure(factor=2)", 2),
    ],
)
def test_a_refusal_names_all_that_must_be_computed_again(parts, line, count, ran, tmp_path):
    assert ran(**parts)[0] == 0
    code, said = ran(line, **parts)
    assert code == 2
    named = [tmp_path / path for path in re.search(r"remove (.*) to compute them again", said)[1].split()]
    assert len(named) == count
    for path in named:
        assert path.exists()
        assert path.is_dir() == ("EVALUATION" not in parts)  # an evaluation again needs no training
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert ran(line, **parts)[0] == 0


def test_only_the_runs_that_differ_are_refused(ran):
    """As from two shards at the same time whose environments differ: one of the two is like today's."""
    parts = {"OBJECTIVE": "ByFactor()", "SCHEDULE": "Cosine(), Plateau()"}
    assert ran(options=("--workers", "1", "--only", "a=0"), **parts)[0] == 0
    other = "mylab.settings.set_factor(0.5)"
    assert ran(other, ("--workers", "1", "--results", "theirs", "--only", "a=1"), **parts)[0] == 0
    [theirs] = Path("theirs").glob("*/training.json")
    shutil.copytree(theirs.parent, Path("results") / theirs.parent.name)
    [ours] = (path.parent for path in Path("results").glob("*/training.json") if path.parent.name != theirs.parent.name)
    for line, refused in (("", theirs.parent.name), (other, ours.name)):
        code, said = ran(line, **parts)
        assert code == 2
        assert re.search(r"remove (.*) to compute them again", said)[1] == f"results/{refused}"


def test_a_worker_with_other_numbers_than_its_owner_is_named(ran):
    """As on another machine whose environment differs: they are compared after the jobs, before the table."""
    code, said = ran(options=("--workers", "2"), VIEW="InWorkers()")
    assert code == 2
    assert "InWorkers computes other numbers" in said


def test_all_classes_that_changed_are_named(ran):
    parts = {"VIEW": "Dim()", "SCHEDULE": "Plateau(), Cosine()"}
    assert ran(**parts)[0] == 0
    code, said = ran("mylab.settings.configure(factor=0.5)", **parts)
    assert code == 2
    assert re.search(r"Dim computes other numbers.*\. Plateau also changed", said)


def test_a_training_does_not_resume_with_other_numbers(tmp_path, monkeypatch, capsys):
    """Half of its steps would have them, under an id that says nothing of them."""
    training = small_training(views=((Dimmed(),), ()))
    training = training.replace(optimization=training.optimization.replace(epochs=4))

    class Stopped(Exception):
        pass

    def stop(fraction: float) -> None:
        if fraction > 0.6:
            raise Stopped

    def halt(fraction: float) -> None:
        raise Stopped

    checkpoint = Checkpoint(tmp_path, "a training", 0)
    whole = pretrain(training, loaded(SMALL, "cpu")).learner.state_dict()
    with pytest.raises(Stopped):
        pretrain(training, loaded(SMALL, "cpu"), stop, checkpoint=checkpoint)
    monkeypatch.setattr(operators, "_first", {})  # as in a new process
    monkeypatch.setitem(FACTOR, "now", 0.5)
    with pytest.raises(InvalidSpec, match=r"Dimmed computes other numbers than in the steps before its checkpoint"):
        pretrain(training, loaded(SMALL, "cpu"), checkpoint=checkpoint)
    monkeypatch.setattr(operators, "_first", {})
    monkeypatch.setitem(FACTOR, "now", 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "trace_of_training", lambda *_: {})
        with pytest.raises(Stopped):
            pretrain(training, loaded(SMALL, "cpu"), halt, checkpoint=checkpoint)
    assert re.search("could not be compared with the steps before its checkpoint.* operator", capsys.readouterr().err)
    resumed = pretrain(training, loaded(SMALL, "cpu"), checkpoint=checkpoint)
    assert "resuming a training after step" in capsys.readouterr().err
    assert all(torch.equal(value, whole[name]) for name, value in resumed.learner.state_dict().items())


def test_a_trace_does_not_depend_on_the_number_of_threads():
    """A worker has one; its owner may have more, which add up in another order."""
    training = small_training(method=MyMethod(), views=((Dimmed(),), ()))
    threads, traces = torch.get_num_threads(), []
    for count in (1, 2):
        torch.set_num_threads(count)
        traces.append(trace_of_training(training, loaded(SMALL, "cpu"), build_learner))
        assert torch.get_num_threads() == count
    torch.set_num_threads(threads)
    assert [name.split()[0] for name in comparable(traces[0])] == ["operator", "loss", "loss"]
    assert traces[0] == traces[1]


@dataclass(frozen=True, kw_only=True)
class Weighed(MyMethod):
    """A loss that compares views with a weight that no field states."""

    kind: str = "mse"

    def build(self, encoder, classes):
        return WeighedLearner(encoder, nn.Linear(encoder.features, 8), self.kind)


class WeighedLearner(Learner):
    def __init__(self, encoder, head, kind):
        super().__init__(encoder, head)
        self.kind = kind

    def loss(self, views, labels):
        a, b = self.embed(views)
        spread = torch.relu(1 - (a.var(0) + 1e-4).sqrt()).mean()
        apart = {
            "mse": lambda: (a - b.detach()).square().mean(),
            "cosine": lambda: 1 - torch.cosine_similarity(a, b.detach()).mean(),
            "vicreg": lambda: (a - b).square().mean(),
        }[self.kind]()
        return FACTOR["now"] * apart + (spread if self.kind == "vicreg" else 0), {}


@pytest.mark.parametrize("kind", ["mse", "cosine", "vicreg"])
def test_the_trace_of_a_loss_sees_how_it_compares_views(kind, monkeypatch):
    """Also of views whose own operators it leaves out."""
    training = small_training(method=Weighed(kind=kind), views=((), (Crop(),)))
    traces = []
    for weight in (1.0, 25.0):
        monkeypatch.setitem(FACTOR, "now", weight)
        traces.append(trace_of_training(training, loaded(SMALL, "cpu"), build_learner))
    assert "loss before a step" in traces[0]
    assert first_difference(*traces)


def test_all_that_may_be_the_cause_are_named():
    before = with_format({"loss before a step": [[1.0]]})
    training = small_training(method=MyMethod(), encoder=MyEncoder())
    with pytest.raises(InvalidSpec, match=r"MyEncoder or MyMethod computes .* was 1 and is 2\. .*; or try again\.$"):
        check_trace(training, before, with_format({"loss before a step": [[2.0]]}), "an earlier run", "try again")


def test_an_id_that_reads_as_an_accuracy_is_an_operator():
    name = "operator 1 0acc3d5e4f5a"
    assert first_difference({name: [[0.5] * 12]}, {name: [[0.25] * 12]})
    assert first_difference({"optimizer lr": [[0.1]]}, {"optimizer lr": [[0.1], [0.1]]}).how == "had 1 values and has 2"


def test_how_the_device_computes_an_optimizer_is_no_setting(ran, tmp_path):
    assert ran(OPTIMIZER="optimizer=Decayed()")[0] == 0
    [document] = (tmp_path / "results").glob("**/training.json")
    names = set(json.loads(document.read_text())["trace"])
    assert {"optimizer parameters", "optimizer lr", "optimizer weight_decay", "loss before a step"} <= names
    assert not names & {"optimizer fused", "optimizer foreach", "optimizer capturable"}
