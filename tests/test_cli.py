"""Bad input gets one clear sentence and exit code 2 before anything is trained."""

import json
import subprocess
import sys

import pytest
from helpers import GRID, ROOT, SMALL_EXPERIMENT, ablation, environment

from ablation.cli import main

BAD = {
    "probability": (
        SMALL_EXPERIMENT + "def experiment(scale):\n    return Blur(p=1.5)\n",
        ["question.py:", "Blur.p must lie in [0, 1], but got 1.5"],
    ),
    "reversed range": (
        SMALL_EXPERIMENT + "def experiment(scale):\n    return Blur(sigma=(2.0, 0.1))\n",
        ["Blur.sigma must be a pair (smallest, largest)", "got (2.0, 0.1)", "Write the smaller number first"],
    ),
    "same coordinates": (
        GRID.replace("(Crop(), Sobel())", "(Crop(), Crop())"),
        ["two cells are at first=crop second=crop seed=0"],
    ),
    "epochs": (GRID.replace("epochs=1", "epochs=0"), ["Optimization.epochs must be a whole number of at least 1"]),
    "batch": (GRID.replace("batch=32", "batch=0"), ["Optimization.batch must be a whole number of at least 2"]),
    "batch too large": (
        GRID.replace("batch=32", "batch=512"),
        ["Optimization.batch must be at most the number of training images", "512 for the 100 of shapes"],
    ),
    "missing data": (
        GRID.replace(
            "dataset=Shapes(train=140, validation=40, test=60, size=16)", "dataset=ImageData(path='./none')"
        ).replace("import Shapes", "import ImageData"),
        ["ImageData.path must be a folder, a parquet file or a Hub name, but './none' does not exist"],
    ),
    "a typo": (GRID.replace("Sobel())", "Sobl())"), ["question.py:", "NameError: name 'Sobl' is not defined"]),
    "unknown field": (
        GRID.replace("Sobel())", "Sobel(strenght=1))"),
        ["TypeError", "argument 'strenght'; did you mean 'strength'? its fields are p, strength"],
    ),
    "one seed count": (GRID.replace("seeds=range(2)", "seeds=2"), ["question.py:", "Write seeds=range(2)."]),
    "an axis that is computed": (
        SMALL_EXPERIMENT + "def experiment(scale):\n    make = lambda mean: scale.run(scale.simclr(), views=((), ()))\n"
        "    return Experiment(cells=sweep(make, mean=(1, 2), seeds=range(2)), figures={})\n",
        ["Cell.coords must not use the name of what is measured or computed, but got 'mean'"],
    ),
    "syntax": ("def experiment(scale)\n", ["question.py:1: expected ':'"]),
    "no experiment": ('"""Nothing."""\n', ["must define experiment(scale)"]),
    "no argument": (
        GRID.replace("def experiment(scale)", "def experiment()"),
        ["experiment must be a function of the scale alone, but is experiment()", "def experiment(scale):"],
    ),
    "two arguments": (GRID.replace("experiment(scale)", "experiment(scale, n)"), ["but is experiment(scale, n)"]),
    "a list": (
        GRID.replace("return Experiment(cells=cells,", "return list(cells), dict("),
        ["must return an Experiment, but returned ([Cell(", "Write: return Experiment(cells=..., figures=...)"],
    ),
    "runs for cells": (
        GRID.replace("cells=cells,", "cells=tuple(cell.run for cell in cells),"),
        ["question.py:", "Experiment.cells must be a tuple of cells, but got Run(", "Cell(coords="],
    ),
    "an encoder by name": (
        GRID.replace("views=(view, ())", "views=(view, ()), encoder='resnet50'"),
        ["question.py:", "Training.encoder must have label, build, but 'resnet50'", "ResNet(depth=50)"],
    ),
    "it exits": ("import sys\nsys.exit(0)\n", ["question.py ends the program when it is read"]),
    "no text": ("x = 1\0\n", ["question.py", "null bytes"]),
    "not an experiment": ("def experiment(scale):\n    return 3\n", ["must return an Experiment, but returned 3"]),
}


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Calls the command line in this process and in a folder of the test's own; returns what a refusal prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def call(*arguments: str) -> str:
        try:
            code = main([*arguments])
        except SystemExit as error:  # of the parser
            code = error.code
        printed = capsys.readouterr()
        assert code == 2
        assert printed.out == ""  # nothing was listed before
        assert "Traceback" not in printed.err
        return printed.err

    return call


@pytest.mark.parametrize("name", BAD)
def test_bad_experiment_files(name, tmp_path, refused):
    code, words = BAD[name]
    (tmp_path / "question.py").write_text(code)
    said = refused("run", "question.py")
    assert said.startswith("ablation: ")
    for word in words:
        assert word in said
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "pairwize"], ["unknown experiment 'pairwize'; did you mean 'pairwise'?", "known are"]),
        (
            ["run", "pairwise", "--scale", "cifar10-smal"],
            ["unknown scale 'cifar10-smal'; did you mean 'cifar10-small'"],
        ),
        (["run", "nothing.py"], ["the experiment file must exist, but nothing.py is not there"]),
        (["run", "pairwise", "--scale", "cifar10", "--data", "./none"], ["'./none' does not exist here"]),
        (["run", "pairwise", "--data", "."], ["the images of the scale 'tiny' are generated"]),
        (["run", "grid", "--only", "first"], ["--only must give coordinates as axis=value, but got 'first'"]),
        (["run", "grid", "--only", "frist=crop"], ["none is called 'frist'; did you mean 'first'? they are "]),
        (["run", "grid", "--device", "gpu"], ["but got 'gpu'", "Did you mean cuda, or cpu?"]),
        (["run", "grid", "--device", "GPU:1"], ["but got 'GPU:1'", "Did you mean cuda:1, or cpu?"]),
        (["run", "grid", "--device", "cqu"], ["but got 'cqu'", "Try cpu."]),
        (["run", "grid", "--dry-run", "--device", "gpu"], ["Did you mean cuda"]),
        (["run", "grid", "--dry-run", "--workers", "0"], ["--workers must be at least 1, but got 0"]),
        (["run", "grid", "--gpus-per-run", "0.5"], ["--gpus-per-run", "--ray"]),
        (["run", "grid", "--epochs", "3"], ["unknown argument --epochs 3", "scale = scale.replace(epochs=3)"]),
        (["run", "grid", "--batch-size=64"], ["--batch-size=64", "scale.replace(batch=64)"]),
        (["search", "search_color", "--lr", "0.1"], ["--lr 0.1", "AdamW(learning_rate=0.1)"]),
        (["run", "grid", "--seeds", "3"], ["--seeds 3", "seeds=range(5)"]),
        (["run", "grid", "--fast"], ["--fast", "See --help"]),
        (["run", "grid", "methods"], ["unknown argument methods"]),
        (["run", "grid", "--only", "first=crap"], ["chooses none", "first: crop, color"]),
        (["run", "grid", "--workers", "0"], ["--workers must be at least 1, but got 0"]),
        (["run", "grid", "--device", "cuda:77"], ["--device must name devices of this machine, but got 'cuda:77'"]),
        (["run", "control", "--scale", "cifar10-small"], ["the shortcut dial belongs to the scale tiny"]),
        (["run", "grid", "--dry-run", "--checkpoint-every", "0"], ["--checkpoint-every must be above 0 minutes"]),
        (["run", "grid", "--dry-run", "--ray", "local", "--device", "cpu"], ["Leave one away"]),
        (["figures", "grid-tiny", "--scale", "cifar10"], ["--scale must be the table's, tiny, but got cifar10"]),
        (["figures", "grid-tiny"], ["has none of grid. Run the experiment first"]),
        (["run", "grid", "--in-full"], ["--in-full says how --dry-run prints cells"]),
        (
            ["search", "nosuch"],
            ["unknown search 'nosuch'; known are search_color, search_learning_rate, search_policy."],
        ),
        (
            ["run", "search_colour"],
            ["unknown experiment 'search_colour'; did you mean 'search_color'", "known are batch_epochs, "],
        ),
        (["run", "search_color"], ["holds a search and no experiment. Type: ablation search search_color."]),
        (
            ["search", str(ROOT / "experiments" / "grid.py")],
            [f"holds an experiment and no search. Type: ablation run {ROOT / 'experiments' / 'grid.py'}."],
        ),
        (["figures"], ["--figures must hold a table named EXPERIMENT-SCALE.csv"]),
        (["preview", "--draws", "0"], ["--draws must be at least 1"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_arguments(arguments, words, tmp_path, refused):
    said = refused(*arguments)
    for word in words:
        assert word in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--help"], ["status"]])
def test_what_computes_nothing_is_quick_and_imports_no_torch(arguments, tmp_path):
    code = f"import sys\nfrom ablation.cli import main\ntry:\n    main({arguments})\nexcept SystemExit:\n    pass\n"
    code += "assert not {'torch', 'pandas', 'matplotlib', 'numpy'} & set(sys.modules), 'heavy imports'"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment(), capture_output=True)


def test_a_status_of_what_runs_needs_no_torch_either(tmp_path):
    """With a shard, and something that is no experiment's."""
    (tmp_path / "question.py").write_text(GRID)
    ablation("run", "question.py", "--only", "first=crop,second=crop,seed=0", "--workers", "1", cwd=tmp_path)
    running = tmp_path / "results" / "running"
    document = {"host": "elsewhere", "process": 1, "updated": 0, "jobs": 2, "done": 1, "running": []}
    for name in ("question-tiny-0-of-2", "look-tiny comparison"):
        (running / f"{name}.json").write_text(json.dumps(document))
    code = "import sys\nfrom ablation.cli import main\nmain(['status', '--cost'])\n"
    code += "assert not {'torch', 'pandas', 'matplotlib', 'numpy'} & set(sys.modules), 'heavy imports'"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert "question (tiny): 8 cells, 1 finished, 7 missing" in done.stdout
    assert "stopped: shard 0-of-2, process 1 on elsewhere" in done.stdout
    assert "look-tiny comparison:\n  stopped: process 1 on elsewhere" in done.stdout


def test_names_of_data():
    from ablation.scales import scale_named

    def read(data):
        dataset = scale_named("cifar10", data).dataset
        return dataset.label, dataset.path

    assert read("mine=/some/where") == ("mine", "/some/where")
    assert read("/data/run=3/images") == ("images", "/data/run=3/images")
    assert read("someone/images") == ("images", "someone/images")


def test_a_broken_file_does_not_stop_the_list(tmp_path):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "broken.py").write_text("def (")
    (tmp_path / "experiments" / "latin.py").write_bytes(b'"""\xe9"""')
    shown = ablation("list", cwd=tmp_path).stdout
    experiments, _, searches = shown.partition("searches (ablation search NAME):")
    assert "broken (cannot be read)" in " ".join(experiments.split())
    assert "  pairwise " in experiments
    assert "  search_color " in searches
    assert "UnicodeDecodeError" in ablation("run", "latin", cwd=tmp_path, check=2).stderr


def test_status_before_anything(tmp_path):
    assert "nothing has been run into results/ yet" in ablation("status", cwd=tmp_path).stdout


def test_list_names_what_can_be_run(tmp_path):
    shown = ablation("list", cwd=tmp_path).stdout
    for name in [p.stem for p in (ROOT / "experiments").glob("*.py")] + ["tiny", "cifar10-small", "imagenet100"]:
        assert f"  {name} " in shown


def test_preview_shows_every_operator(tmp_path):
    done = ablation("preview", "--draws", "3", cwd=tmp_path)
    png, pdf = done.stdout.split()
    assert (tmp_path / png).read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / pdf).stat().st_size > 10_000
