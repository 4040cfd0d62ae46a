"""One id, one number: what an id cannot count shows in the trace of finished runs."""

from __future__ import annotations

import json
import math
import re

import pytest
from helpers import SMALL_EXPERIMENT
from torch import nn

from ablation.cli import main
from ablation.contracts.trace import _summary, differing

OPERATOR = (
    SMALL_EXPERIMENT
    + '''
import os
from pathlib import Path

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


def experiment(scale):
    scale = small(scale)
    method = scale.method(SimCLR).replace(objective=OBJECTIVE)
    optimization = scale.optimization(method).replace(schedule=SCHEDULE)
    run = scale.run(method, views=((VIEW,), (OTHER)), optimization=optimization)
    run = run.replace(evaluations=(EVALUATION,))
    return Experiment(cells=(Cell(coords={"a": 1}, run=run),), figures={})
'''
)
PARTS = {"VIEW": "Crop()", "OTHER": "", "EVALUATION": "KNN()", "OBJECTIVE": "NTXent()", "SCHEDULE": "Cosine()"}
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

    def run(line: str = "", **names: str) -> tuple[int, str]:
        for name in [name for name in sys.modules if name.startswith(("mylab", "experiment_file_question"))]:
            del sys.modules[name]
        code = OPERATOR
        for name, value in (PARTS | names).items():
            code = code.replace(name, value)
        code = code.replace("    scale = small(scale)\n", f"    scale = small(scale)\n    {line}\n", 1)
        (tmp_path / "question.py").write_text(code)
        return main(["run", "question.py", "--workers", "1"]), capsys.readouterr().err

    yield run
    for name in [name for name in sys.modules if name.startswith("mylab")]:
        del sys.modules[name]


def test_a_value_from_elsewhere_that_changed_is_named(ran, tmp_path, monkeypatch):
    """An attribute of another package's object, its global, a file, the environment: none is part of an id."""
    assert ran(VIEW="Dim()")[0] == 0
    [document] = (tmp_path / "results").glob("**/training.json")
    [(name, rows)] = json.loads(document.read_text())["trace"].items()
    assert name.startswith("operator ")
    assert [len(row) for row in rows] == [12, 3, 6] * 8  # quarters, contrast, edges
    for line in ("mylab.settings.configure(factor=0.5)", "mylab.settings.set_factor(0.9)"):
        code, said = ran(line, VIEW="Dim()")
        assert code == 2
        assert re.search(r"question.py.*Dim computes other numbers than in the finished runs of results.*field", said)
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
    code = code.replace('return Experiment(cells=(Cell(coords={"a": 1}, run=run),), figures={})', "return run")
    search = search.replace("experiment(scale).cells[0].run", "made(scale, p)")
    for line, wanted in (("", 0), ("mylab.settings.configure(factor=0.5)", 2)):
        changed = code.replace("    scale = small(scale)\n", f"    scale = small(scale)\n    {line}\n", 1)
        (tmp_path / "look.py").write_text(changed + search)
        trials = "2" if not line else "3"
        assert main(["search", "look.py", "--trials", trials, "--trials-only", "--workers", "1"]) == wanted
    assert "Dim computes other numbers" in capsys.readouterr().err


def test_rounding_and_single_pixels_are_no_difference():
    rows = [[0.5] * 12 for _ in range(8)]
    near = [[0.5 + 4e-3, *row[1:]] for row in rows]
    assert differing({"operator a": rows}, {"operator a": near}) is None
    assert differing({"operator a": rows}, {"operator a": [[0.51] * 12, *rows[1:]]}) == "operator a"
    assert differing({"operator a": rows}, {"operator b": near}) is None
    assert differing({"test_top1": [[47.0]]}, {"test_top1": [[48.5]]}) is None
    assert differing({"test_top1": [[47.0]]}, {"test_top1": [[math.nan]]}) == "test_top1"
    assert differing({"test_top1": [[13.0]]}, {"test_top1": [[17.0]]}) is None  # three of 64 images
    assert differing({"test_top1": [[13.0]]}, {"test_top1": [[19.0]]}) == "test_top1"
    assert differing({"test_miou": [[0.30]]}, {"test_miou": [[0.35]]}) == "test_miou"
    assert differing({"losses on cpu": [[5.0]]}, {"losses on cpu": [[5.5]]}) == "losses on cpu"
    assert differing({"losses on cuda": [[5.0]]}, {"losses on cpu": [[5.5]]}) is None


def test_a_trace_sees_texture_that_colors_do_not_show(images):
    pixelated = [
        nn.functional.interpolate(nn.functional.avg_pool2d(images, side), scale_factor=side, mode="nearest")
        for side in (2, 4)
    ]
    assert differing({"operator a": _summary(pixelated[0])}, {"operator a": _summary(pixelated[1])})


def test_an_operator_that_needs_another_before_it_trains(ran):
    """It has no trace on images of the data set's size."""
    assert ran(VIEW="Crop(size=12), Tiles()", OTHER="Crop(size=12),")[0] == 0
    assert ran(VIEW="Crop(size=12), Tiles()", OTHER="Crop(size=12),")[0] == 0


def test_finished_runs_are_tabulated_without_what_they_read(ran, tmp_path):
    (tmp_path / "needed.txt").write_text("1")
    assert ran(OBJECTIVE="Read()")[0] == 0
    (tmp_path / "needed.txt").unlink()
    code, said = ran(OBJECTIVE="Read()")
    assert code == 0
    assert "could not be compared with the finished runs" in said
