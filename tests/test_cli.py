"""Bad input gives one clear sentence and exit code 2 before any training."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import GRID, ROOT, SMALL_EXPERIMENT, ablation_here, environment

from ablation.analysis.settings import Settings
from ablation.cli import main
from ablation.execution.documents import RUNNING, sealed
from ablation.spec import InvalidSpec
from ablation.study.experiment_file import Source, check_owner

LOADING = """class Mine(Shapes):
    def {}(self):
        return open("nowhere")


def experiment"""

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
        ["same coordinates, first=crop second=crop seed=0"],
    ),
    "epochs": (GRID.replace("epochs=1", "epochs=0"), ["Optimization.epochs must be a whole number of at least 1"]),
    "batch": (GRID.replace("batch=32", "batch=0"), ["Optimization.batch must be a whole number of at least 2"]),
    "batch too large": (
        GRID.replace("batch=32", "batch=512"),
        ["Optimization.batch must be at most the number of training images", "got 512, and shapes has 100"],
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
    "a class that is not frozen": (
        SMALL_EXPERIMENT + "@dataclass\nclass Mine(Operator):\n    gamma: float = 2.0\n",
        ["question.py:", "frozen", "Write @dataclass(frozen=True, kw_only=True) above class Mine."],
    ),
    "a class that is not frozen like a base of yours": (
        SMALL_EXPERIMENT + "@dataclass(frozen=True)\nclass A:\n    a: int\n@dataclass\nclass B(A):\n    b: int\n",
        ["question.py:", "frozen", "Write @dataclass(frozen=True, kw_only=True) above the class."],
    ),
    "one seed count": (GRID.replace("seeds=range(2)", "seeds=2"), ["question.py:", "Write seeds=range(2)."]),
    "an axis that is computed": (
        SMALL_EXPERIMENT + "def experiment(scale):\n    make = lambda mean: scale.run(scale.simclr(), views=((), ()))\n"
        "    return Experiment(cells=sweep(make, mean=(1, 2), seeds=range(2)), figures={})\n",
        ["Cell.coords must not use the name of a computed column, but got 'mean'"],
    ),
    "syntax": ("def experiment(scale)\n", ["question.py:1: expected ':'"]),
    "no experiment": ('"""Nothing."""\n', ["does not define experiment(scale)"]),
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
    "a list of figures": (
        GRID.replace('figures={"heatmap": Heatmap(rows="first", columns="second")}', "figures=[]"),
        ["question.py:", "Experiment.figures must map names", "figures={"],
    ),
    "data that are not there": (
        GRID.replace("def experiment", LOADING.format("load")).replace("dataset=Shapes", "dataset=Mine"),
        ["question.py:", "FileNotFoundError", "'nowhere'"],
    ),
    "a fingerprint that fails": (
        GRID.replace("def experiment", LOADING.format("fingerprint")).replace("dataset=Shapes", "dataset=Mine"),
        ["question.py:", "FileNotFoundError", "'nowhere'"],
    ),
    "an encoder by name": (
        GRID.replace("views=(view, ())", "views=(view, ()), encoder='resnet50'"),
        ["question.py:", "Training.encoder must have label, build, but 'resnet50'", "ResNet(depth=50)"],
    ),
    "it exits": ("import sys\nsys.exit(0)\n", ["question.py ends the program"]),
    "no text": ("x = 1\0\n", ["question.py", "null bytes"]),
    "not an experiment": ("def experiment(scale):\n    return 3\n", ["must return an Experiment, but returned 3"]),
}


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Calls the command line in this process in a temporary folder; returns the printed refusal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def call(*arguments: str) -> str:
        try:
            code = main([*arguments])
        except SystemExit as error:  # from the parser
            code = error.code
        printed = capsys.readouterr()
        assert code == 2
        assert printed.out == ""  # prints nothing else before
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
        (["run", "nothing.py"], ["the experiment file nothing.py does not exist"]),
        (["run", "pairwise", "--scale", "cifar10", "--data", "./none"], ["'./none' does not exist here"]),
        (["run", "pairwise", "--data", "."], ["the scale 'tiny' generates its images"]),
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
        (["run", "control", "--scale", "cifar10-small"], ["the shortcut dial belongs to Shapes", "cifar10-small"]),
        (["run", "grid", "--dry-run", "--checkpoint-every", "0"], ["--checkpoint-every must be above 0 minutes"]),
        (["run", "grid", "--dry-run", "--ray", "local", "--device", "cpu"], ["Write one of them"]),
        (["figures", "grid-tiny", "--scale", "cifar10"], ["--scale must be the table's, tiny, but got cifar10"]),
        (["figures", "grid-tiny"], ["has no table of grid"]),
        (["run", "grid", "--in-full"], ["--in-full", "--dry-run"]),
        (
            ["search", "nosuch"],
            ["unknown search 'nosuch'; known are search_color, search_learning_rate, search_policy."],
        ),
        (
            ["run", "search_colour"],
            ["unknown experiment 'search_colour'; did you mean 'search_color'", "known are batch_epochs, "],
        ),
        (["run", "search_color"], ["defines a search, not an experiment. Type: ablation search search_color."]),
        (
            ["search", str(ROOT / "experiments" / "grid.py")],
            [f"holds an experiment, not a search. Type: ablation run {ROOT / 'experiments' / 'grid.py'}."],
        ),
        (["figures"], ["has no table of any experiment (EXPERIMENT-SCALE.csv)"]),
        (["preview", "--draws", "0"], ["--draws must be at least 1"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_arguments(arguments, words, tmp_path, refused):
    said = refused(*arguments)
    for word in words:
        assert word in said
    assert list(tmp_path.iterdir()) == []


TABLE = "first,second,seed,acc\na,b,0,5\na,b,1,6\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_that_cannot_show_a_sign_shows_another(encoding, tmp_path, monkeypatch):
    (tmp_path / "mÿ.csv").write_text(TABLE.replace("a,", "σ,"))
    shown = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", shown)
    assert main(["figures", str(tmp_path / "mÿ.csv")]) == 0
    said = shown.buffer.getvalue().decode(encoding)
    assert "5.50 ?0.71" in said or "5.50 ±0.71" in said
    assert "?" in said  # none of these encodings has σ


def test_a_full_disk_under_what_is_printed_is_a_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "my.csv").write_text(TABLE)
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["figures", str(tmp_path / "my.csv")]) == 2
    assert "standard output cannot be used: No space left on device" in capsys.readouterr().err
    assert (tmp_path / "my-own-heatmap.pdf").is_file()
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["list"]) == 2
    assert "standard output is closed" in capsys.readouterr().err


MINE = (
    SMALL_EXPERIMENT
    + """
from ablation.plots import Bars
from ablation.analysis.settings import Settings
def experiment(scale):
    cells = sweep(lambda view: small(scale).run(scale.simclr(), views=(view, ())), view={"1.10": (Crop(),), "1.9": ()},
                  seeds=range(2))
    return Experiment(cells=cells, figures={
        "bars": Bars(bars="view", values=("knn_test_top1_running",)),
        "lines": Bars(bars="view", values=("loss",)),
    })
"""
)
ROWS = """training,commit,view,seed,knn_test_top1_running,loss
a,f,1.10,0,5,1
b,f,1.10,1,6,1
c,f,1.9,0,7,1
d,f,1.9,1,8,1
"""


def settle(csv) -> None:
    settings = Settings(name="mine", scale="tiny", file="../elsewhere/mine.py")
    csv.with_suffix(".json").write_bytes(settings.content(csv))


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A table of a user's experiment, whose file is elsewhere, and one of an unknown experiment."""
    (tmp_path / "figures").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine.py").write_text(MINE)
    for name in ("mine-tiny", "lost-tiny"):
        (tmp_path / "figures" / f"{name}.csv").write_text(ROWS)
    settle(tmp_path / "figures" / "mine-tiny.csv")
    (tmp_path / "figures" / "notes.csv").write_text("no table of an experiment\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


PICTURES = [f"mine-tiny-{name}{ending}" for name in ("bars", "lines") for ending in (".pdf", ".png")]


def drawn(folder):
    return sorted(path.name for path in folder.rglob("*") if path.suffix in (".png", ".pdf"))


@pytest.mark.parametrize("asked", [["mine"], ["mine-tiny"], ["elsewhere/mine.py"], ["mine", "--scale", "tiny"]])
def test_figures_of_ones_own_experiment(asked, mine, capsys):
    assert main(["figures", *asked]) == 0
    assert drawn(mine) == PICTURES
    assert capsys.readouterr().err == ""


def test_figures_of_every_table_whose_experiment_is_known(mine, capsys):
    """Names an unknown one and continues with the others; the same for a figure that fails."""
    assert main(["figures"]) == 1
    assert drawn(mine) == PICTURES
    said = capsys.readouterr().err
    assert "figures/lost-tiny.csv is not drawn: its experiment's file is not known. Name it" in said
    assert "notes" not in said
    table = mine / "figures" / "mine-tiny.csv"
    table.write_text(ROWS.replace("1.9,0,7,1", "1.9,0,7,one"))
    settle(table)
    for picture in (mine / "figures").glob("*.p*"):
        picture.unlink()
    assert main(["figures", "mine"]) == 1
    assert drawn(mine) == PICTURES[:2]
    assert "the figure 'lines' of figures/mine-tiny.csv is not drawn" in (said := capsys.readouterr().err)
    assert "'loss'" in said
    assert "line 4 holds 'one'" in said
    assert main(["figures", "lost"]) == 2
    assert main(["figures", "mime"]) == 2
    assert "Did you mean mine?" in capsys.readouterr().err
    (mine / "lost.py").write_text("def (")
    assert main(["figures", "--figures", "figures"]) == 1
    assert "figures/lost-tiny.csv is not drawn: " in capsys.readouterr().err


def test_figures_of_ones_own_table_go_where_they_are_asked(mine, capsys):
    (mine / "my.csv").write_text(TABLE)
    (mine / "elsewhere" / "my.csv").write_text(TABLE)
    assert main(["figures", "my.csv", "none.csv", "--figures", "there"]) == 1
    assert drawn(mine / "there") == drawn(mine) == ["my-own-heatmap.pdf", "my-own-heatmap.png"]
    assert "none.csv does not exist" in capsys.readouterr().err
    assert main(["figures", "my.csv", "elsewhere/my.csv", "--figures", "there"]) == 2
    assert "my.csv and elsewhere/my.csv have the same name" in capsys.readouterr().err
    assert main(["figures", "my.csv", "elsewhere/my.csv"]) == 0
    assert drawn(mine / "elsewhere") == ["my-own-heatmap.pdf", "my-own-heatmap.png"]


def owner(folder, file="../one/study.py", **of):
    (folder / "kept").mkdir(exist_ok=True)
    (folder / "kept" / "study-tiny.json").write_text(json.dumps({"file": file, **(of or {"trainings": {"a": 1}})}))
    return folder / "kept" / "study-tiny.json"


@pytest.mark.parametrize("of", [{"trainings": {"a": {}, "b": {}}}, {"cells": [{"training": "a"}, {"training": "b"}]}])
def test_two_experiments_of_one_name_do_not_overwrite_each_other(of, tmp_path):
    """An edited, copied or moved file is the same experiment; another file of that name is not."""
    document = owner(tmp_path, **of)
    for folder, text in (("one", "original"), ("two", "other"), ("copy", "original")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "study.py").write_text(text)

    def check(folder, trainings):
        path = (tmp_path / folder / "study.py").resolve()
        check_owner(document, Source(str(path), path.read_bytes(), "tiny", None), trainings, "--figures")

    check("one", {"edited"})
    check("copy", {"from another version"})
    with pytest.raises(
        InvalidSpec,
        match=r"--figures.* one/study.py, and .* two/study.py has the same name.* Rename".replace(" ", ".*"),
    ):
        check("two", {"a"})
    (tmp_path / "one" / "study.py").unlink()  # moved, or on another machine
    check("two", {"b", "c"})
    with pytest.raises(InvalidSpec, match="Rename one file, or use another folder"):
        check("two", {"c"})
    document.write_text("{}")
    check("two", {"c"})


@pytest.mark.parametrize("arguments", [["--help"], ["status"]])
def test_what_computes_nothing_is_quick_and_imports_no_torch(arguments, tmp_path):
    code = f"import sys\nfrom ablation.cli import main\ntry:\n    main({arguments})\nexcept SystemExit:\n    pass\n"
    code += "assert not {'torch', 'pandas', 'matplotlib', 'numpy'} & set(sys.modules), 'heavy imports'"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment(), capture_output=True)


def test_a_status_of_what_runs_needs_no_torch_either(tmp_path):
    """With a shard, and a file of no experiment."""
    (tmp_path / "question.py").write_text(GRID)
    ablation_here("run", "question.py", "--only", "first=crop,second=crop,seed=0", "--workers", "1", cwd=tmp_path)
    running = tmp_path / "results" / "running"
    document = {"host": "elsewhere", "process": 1, "updated": 0, "jobs": 2, "done": 1, "failed": 0, "left": None}
    for name in ("question-tiny-0-of-2", "look-tiny comparison"):
        (running / f"{name}.json").write_bytes(sealed({**document, "running": []}, RUNNING))
    code = "import sys\nfrom ablation.cli import main\nmain(['status', '--cost'])\n"
    code += "assert not {'torch', 'pandas', 'matplotlib', 'numpy'} & set(sys.modules), 'heavy imports'"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert "question (tiny): 8 cells, 1 finished, 7 missing" in done.stdout
    assert "stopped: shard 0-of-2, process 1 on elsewhere" in done.stdout
    assert "look-tiny comparison:\n  stopped: process 1 on elsewhere" in done.stdout


def test_names_of_data():
    from ablation.study.scales import scale_named

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
    shown = ablation_here("list", cwd=tmp_path).stdout
    experiments, _, searches = shown.partition("searches (ablation search NAME):")
    assert "broken (cannot be read)" in " ".join(experiments.split())
    assert "  pairwise " in experiments
    assert "  search_color " in searches
    assert "UnicodeDecodeError" in ablation_here("run", "latin", cwd=tmp_path, check=2).stderr


def test_status_before_anything(tmp_path):
    assert "nothing has been run into results/ yet" in ablation_here("status", cwd=tmp_path).stdout


def test_list_names_what_can_be_run(tmp_path):
    shown = ablation_here("list", cwd=tmp_path).stdout
    for name in [p.stem for p in (ROOT / "experiments").glob("*.py")] + ["tiny", "cifar10-small", "imagenet100"]:
        assert f"  {name} " in shown


def test_preview_shows_every_operator_and_view(tmp_path):
    done = ablation_here("preview", "--draws", "3", cwd=tmp_path)
    paths = done.stdout.split()
    assert [Path(path).name for path in paths] == [
        f"preview-pairwise-tiny{kind}{ending}" for kind in ("", "-views") for ending in (".png", ".pdf")
    ]
    assert all((tmp_path / path).read_bytes().startswith(b"\x89PNG") for path in paths[::2])
    assert all((tmp_path / path).stat().st_size > 10_000 for path in paths)


def test_checkpoints_beside_the_results_are_no_link(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("results").mkdir()
    Path("elsewhere").mkdir()
    Path("results/checkpoints").symlink_to(tmp_path / "elsewhere")
    assert main(["run", "grid", "--scale", "tiny", "--workers", "1"]) == 2
    assert "results/checkpoints must be a folder, but is a link. Name its target" in capsys.readouterr().err
    assert list(Path("elsewhere").iterdir()) == []


def test_images_that_no_run_has_are_refused(tmp_path, monkeypatch, capsys):
    """The experiment has its own data, so --data would be ignored."""
    monkeypatch.chdir(tmp_path)
    Path("question.py").write_text(GRID)
    assert main(["run", "question.py", "--scale", "cifar10-small", "--data", "mine=elsewhere", "--dry-run"]) == 2
    assert "no run of" in (said := capsys.readouterr().err)
    assert "elsewhere" in said
    assert "Omit --data" in said


ONE_RUN = (
    SMALL_EXPERIMENT
    + """
@dataclass(frozen=True, kw_only=True)
class Mine(Operator):
    label = "mine"
    factor = 1.0

    def sample(self, batch, size, generator):
        return {}

    def apply(self, images, params):
        return images * self.factor


def experiment(scale):
    cells = []
    scale = small(scale)
    for factor in (1.0, 0.5):
        Mine.factor = factor
        cells += sweep(lambda factor: scale.run(scale.simclr(), views=((Mine(),), ())), factor=(factor,), seeds=[0])
    return Experiment(cells=tuple(cells), figures={})
"""
)


def test_cells_that_differ_in_no_field_are_named(tmp_path, monkeypatch, capsys):
    """A class attribute is not part of a run, so both cells would be equal. Our baselines may fill many cells."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(ONE_RUN)
    main(["run", "mine.py", "--dry-run"])
    assert re.search(r"the cells factor=1\S* and factor=0.5 are one run", capsys.readouterr().err)
    Path("question.py").write_text(GRID)
    main(["run", "question.py", "--dry-run"])
    assert "are one run" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["my.tsv", "my.csv.gz", "my.xlsx"])
def test_a_table_that_is_no_csv_is_named(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("first\tsecond\tseed\tacc\n")
    assert main(["figures", name]) == 2
    assert f"must be a file NAME.csv, separated by commas, but got {name}" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["import torch\n", "def experiment(scale):\n"])
def test_a_file_that_sets_another_default_dtype_is_refused(line, place, monkeypatch, capsys):
    """When it is imported, and when it runs."""
    indent = "    " if line.startswith("def") else ""
    monkeypatch.chdir(place(GRID.replace(line, f"{line}{indent}torch.set_default_dtype(torch.float64)\n", 1)))
    assert main(["run", "question.py", "--dry-run"]) == 2
    assert "question.py changes torch's default dtype from float32 to torch.float64" in capsys.readouterr().err


def test_an_axis_that_changes_no_run_is_named(place, monkeypatch, capsys):
    """With the suite's own operators: the value is never used. No line about an axis that is used."""
    code = SMALL_EXPERIMENT + (
        "def experiment(scale):\n"
        "    scale = small(scale)\n"
        "    make = lambda strength, p: scale.run(scale.method(SimCLR), views=((Crop(), Blur(p=p)), ()))\n"
        "    return Experiment(cells=sweep(make, strength=[0.2, 0.5], p=[0.5, 1.0], seeds=[0, 1]), figures={})\n"
    )
    monkeypatch.chdir(place(code))
    assert main(["run", "question.py", "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert "the axis 'strength' changes no run" in said
    assert "'p'" not in said
    assert "'seed'" not in said


def test_an_axis_of_a_grid_with_gaps_may_change_what_is_never_compared(place, monkeypatch, capsys):
    """Without the operator its strength changes nothing; the other cells differ in both."""
    code = SMALL_EXPERIMENT + (
        "def experiment(scale):\n"
        "    scale = small(scale)\n"
        "    of = {'none': lambda s: Crop(), 'blur': lambda s: Blur(p=s), 'noise': lambda s: Noise(strength=s)}\n"
        "    run = lambda name, s: scale.run(scale.method(SimCLR), views=((of[name](s),), ()))\n"
        "    places = [('none', 0.2), ('none', 0.5), ('blur', 0.2), ('noise', 0.5)]\n"
        "    cells = [Cell(coords={'operator': n, 'strength': s, 'seed': 0}, run=run(n, s)) for n, s in places]\n"
        "    return Experiment(cells=tuple(cells), figures={})\n"
    )
    monkeypatch.chdir(place(code.replace("import Experiment", "import Cell, Experiment")))
    assert main(["run", "question.py", "--dry-run"]) == 0
    assert "changes no run" not in capsys.readouterr().err


UNREAD = (
    SMALL_EXPERIMENT
    + """
from ablation.operators.base import uniform

@dataclass(frozen=True, kw_only=True)
class Mine(Operator):
    label = "mine"
    amount: float = 0.5
    read: bool = False

    def sample(self, batch, size, generator):
        return {"factor": uniform(batch, 0.5, 1.0, generator) * (self.amount if self.read else 1)}

    def apply(self, images, params):
        return images * params["factor"][:, None, None, None]

def experiment(scale):
    scale = small(scale)
    method = scale.METHOD()
    make = lambda amount: scale.run(method, views=((OPERATOR,), ())).replace(evaluations=())
    return Experiment(cells=sweep(make, amount=(0.1, 0.9), seeds=[0, 1]), figures={})
"""
)


@pytest.mark.parametrize(
    ("method", "operator", "named"),
    [
        ("simclr", "Mine(amount=amount)", True),
        ("simclr", "Mine(amount=amount, read=True)", False),
        ("simclr", "Mine(amount=amount, strength=0)", False),  # correct
        ("initialization", "Mine(amount=amount)", False),
        ("simclr", "Noise(std=(0.1, amount), p=0)", False),
    ],
)
def test_cells_whose_numbers_are_the_same_are_named(method, operator, named, place, monkeypatch, capsys):
    monkeypatch.chdir(place(UNREAD.replace("METHOD", method).replace("OPERATOR", operator)))
    for _ in range(2):  # also with nothing left to do
        assert main(["run", "question.py", "--workers", "1"]) == 0
        said = capsys.readouterr().err
        assert said.count("amount (0.1, 0.9) have the same numbers") == named
        assert ("in 2 places" in said) == named
