"""Identities: equal computations have equal ids, different ones different ids."""

import dataclasses
import hashlib
import importlib
import json
import sys
import textwrap

import pytest
from helpers import SMALL, small_run, small_training

from ablation.data import ImageData
from ablation.evaluate import KNN, Linear
from ablation.execution.executor import Job
from ablation.execution.worker import work_for, works_of
from ablation.operators import Blur, Color, ColorJitter, Crop, Noise, Operator, Resize, Sobel
from ablation.plots import Heatmap
from ablation.spec import (
    Cell,
    Experiment,
    InvalidSpec,
    Optimization,
    Run,
    canonical_json,
    describe,
    identity,
    identity_of_description,
    pairwise,
    source_digest,
    sweep,
)
from ablation.study.experiment_file import Source, load


def test_every_field_counts():
    base = small_training()
    others = [
        base.replace(seed=1),
        base.replace(shared=(Crop(),)),
        base.replace(views=((Crop(area=(0.2, 1.0)),), ())),
        base.replace(views=((), (Crop(),))),
        base.replace(dataset=SMALL.replace(shortcut=0.5)),
        base.replace(method=base.method.replace(hidden=17)),
        base.replace(optimization=base.optimization.replace(precision="bfloat16")),
        base.replace(encoder=base.encoder.replace(channels=8)),
    ]
    ids = {identity(each) for each in [base, *others]}
    assert len(ids) == len(others) + 1
    assert all(len(each) == 12 and int(each, 16) >= 0 for each in ids)
    assert identity(base) == identity(small_training())


def test_every_dataclass_field_is_described():
    described = describe(small_training(dataset=SMALL.replace(channels=1)))  # the default is omitted
    assert {f.name for f in dataclasses.fields(small_training())} <= set(described)
    assert {f.name for f in dataclasses.fields(SMALL)} <= set(described["dataset"])
    assert described["views"][0][0] == {
        "type": "Crop", "version": 1, "p": 1, "strength": 1, "area": [0.08, 1], "aspect": [0.75, 4 / 3],
        "law": "torchvision", "interpolation": "bilinear",
    }  # fmt: skip


def test_a_field_that_was_added_later_leaves_earlier_identities_alone():
    """Omits only the default, which earlier versions computed."""
    assert "size" not in describe(Crop())
    assert identity(Crop(size=None)) == identity(Crop())
    assert describe(Crop(size=128))["size"] == 128
    assert len({identity(crop) for crop in (Crop(), Crop(size=128), Crop(size=96))}) == 3
    # The id of a run before the field existed.
    assert identity(Crop()) == hashlib.sha256(FIRST_CROP.encode()).hexdigest()[:12]


FIRST_CROP = (
    '{"area":[0.08,1],"aspect":[0.75,1.3333333333333333],"interpolation":"bilinear","law":"torchvision","p":1,'
    '"strength":1,"type":"Crop","version":1}'
)


def test_views_of_different_sizes():
    small_training(views=((Crop(size=12),), (Resize(size=12),)))
    small_training(views=((Crop(size=16),), ()))  # the images' own
    small_training(shared=(Crop(size=12),), views=((Crop(),), ()))
    with pytest.raises(InvalidSpec, match=r"Training.views must have the same size, but got 12, 16 px.*Resize"):
        small_training(views=((Crop(size=12),), ()))
    # If only the images show their size, the views are refused when they are computed.
    small_training(dataset=ImageData(path="somewhere"), views=((Crop(size=12),), ()))


def test_equal_numbers_are_described_equally():
    assert identity(Crop(p=1)) == identity(Crop(p=1.0))
    assert identity(Crop(p=0.5)) != identity(Crop(p=1))
    assert identity(Optimization(epochs=1, batch=2, optimizer=Crop(), warmup=0)) == identity(
        Optimization(epochs=1, batch=2, optimizer=Crop(), warmup=0.0)
    )


def test_identity_is_that_of_the_json_on_disk():
    described = describe(small_run())
    assert identity_of_description(json.loads(json.dumps(described))) == identity(small_run())
    assert json.loads(canonical_json(described)) == described


def test_what_has_no_description():
    for value in (float("nan"), lambda x: x, object()):
        with pytest.raises(InvalidSpec):
            describe(value)


def test_version_of_our_classes_counts(monkeypatch):
    before = identity(Crop())
    monkeypatch.setattr(Crop, "version", 2)
    assert identity(Crop()) != before


# --------------------------------------------------------------------------------------------------
# User code

FILE = '''
"""A file of a user."""
from dataclasses import dataclass
import torch
from ablation.operators import Operator
from ablation import Experiment, Cell
from helpers import small_run

GAIN = 2.0
TABLE = [1]
TABLE.append(2)
if True:
    HIDDEN = 1.0

def helper(x):
    return x.clamp(0, 1) * HIDDEN * TABLE[0]

def unrelated(x):
    return x

class Mixin:
    bonus = 1

@dataclass(frozen=True, kw_only=True)
class Gamma(Mixin, Operator):
    """A docstring."""
    label = "gamma"
    limit: float = 2.0

    def sample(self, batch, size, generator):
        return {"exponent": torch.rand(batch, generator=generator)}  # a comment

    def apply(self, images, params):
        return helper(images ** (GAIN * params["exponent"][:, None, None, None]))

Gamma.label = "gamma"
OPERATORS = (Gamma,)

def experiment(scale):
    return Experiment(cells=(Cell(coords={"a": 1}, run=small_run(views=((Gamma(),), ()))),), figures={})
'''


def user_id(code: str, path: str = "/nowhere/mine.py") -> str:
    experiment = load(Source(path=path, code=textwrap.dedent(code).encode(), scale="tiny", data=None))
    return identity(experiment.cells[0].run.training)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("torch.rand(batch", "torch.randn(batch"),
        ("limit: float = 2.0", "limit: float = 3.0"),
        ("GAIN = 2.0", "GAIN = 2.5"),
        ("x.clamp(0, 1) *", "x.clamp(0, 0.9) *"),
        ("bonus = 1", "bonus = 2"),
        ("GAIN * params", "GAIN + params"),
        ("TABLE = [1]", "TABLE = [2]"),
        ("TABLE.append(2)", "TABLE.append(3)"),
        ("    HIDDEN = 1.0", "    HIDDEN = 2.0"),
        ('Gamma.label = "gamma"', 'Gamma.label = "other"'),
    ],
)
def test_an_edited_operator_has_a_new_id(old, new):
    assert old in FILE
    assert user_id(FILE.replace(old, new)) != user_id(FILE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    return x\n", "    return x + 1\n"),
        ("# a comment", "# another comment"),
        ('"""A docstring."""', '"""A better docstring."""'),
        ('"""A file of a user."""', ""),
        ("{GAIN * params", "{GAIN  *  params"),
        ("class Gamma", "\n\n\nclass Gamma"),
        ("import Operator", "import Crop, Operator"),
        ("OPERATORS = (Gamma,)", "OPERATORS = (Gamma, Mixin)"),
        ("OPERATORS = (Gamma,)", "OPERATORS = (Gamma,)\nprint(GAIN)\nSUM = torch.add(torch.ones(1), 1)"),
    ],
)
def test_an_unrelated_edit_keeps_the_id(old, new):
    assert user_id(FILE.replace(old, new)) == user_id(FILE)
    assert user_id(FILE, "/elsewhere/other.py") == user_id(FILE)


def operator_of(code: str) -> type:
    experiment = load(Source(path="/nowhere/mine.py", code=code.encode(), scale="tiny", data=None))
    return type(experiment.cells[0].run.training.views[0][0])


def test_a_class_that_imports_nothing_of_the_users_keeps_its_digest():
    """Results on disk stay valid. The digests are those of the version that first wrote them."""
    assert source_digest(operator_of(FILE)) == "84dbea58ef8a"
    starred = FILE.replace("import torch\n", "import torch\nfrom math import *\n", 1)
    assert source_digest(operator_of(starred)) == "84dbea58ef8a"
    memory = FILE.replace("def helper(x):", "KERNELS = {}\n\ndef helper(x):\n    KERNELS[1] = 2")
    assert source_digest(operator_of(memory)) == "c284817163ef"


REGISTRY = """
STEPS = {}

def register(step):
    STEPS[step.__name__] = step
    return step

@register
def invert(x):
    return 1 - x
"""


@pytest.mark.parametrize(
    ("added", "old", "new"),
    [
        (REGISTRY, "return 1 - x", "return 1 - 2 * x"),
        ("STEPS = [1]\ndef fill(n):\n    STEPS.append(n)\nfill(3)", "fill(3)", "fill(4)"),
        ("STEPS = 1\ndef change():\n    global STEPS\n    STEPS = 3\nchange()", "STEPS = 3", "STEPS = 4"),
        ("def change():\n    global STEPS\n    STEPS = 3\nchange()", "STEPS = 3", "STEPS = 4"),
        ("def change(n):\n    global STEPS\n    STEPS = n\nchange(3)", "change(3)", "change(4)"),
        ("import random\nSTEPS = [1, 2]\nrandom.Random(0).shuffle(STEPS)", "Random(0)", "Random(1)"),
        ("class STEPS:\n    n = 1\nsetattr(STEPS, 'n', 2)", "'n', 2", "'n', 3"),
        ("exec('STEPS = 1')", "STEPS = 1", "STEPS = 2"),
        ("globals()['STEPS'] = 1", "= 1", "= 2"),
        ("for STEPS in range(3):\n    pass", "range(3)", "range(4)"),
        ("import io\nwith io.StringIO('a') as file:\n    STEPS = file.read()", "'a'", "'b'"),
        ("try:\n    STEPS = 1\nexcept ValueError:\n    STEPS = 2", "STEPS = 1", "STEPS = 3"),
        ("if True:\n    def STEPS():\n        return 1", "return 1", "return 2"),
        ("match (1, 2):\n    case (STEPS, _):\n        pass", "(1, 2)", "(2, 2)"),
        ("STEPS = lambda x=1: x", "x=1", "x=2"),
        ("import functools\n@functools.cache\ndef STEPS(x=1):\n    return x", "x=1", "x=2"),
        ("def STEPS():\n    class Inner:\n        n = 1\n    return Inner", "n = 1", "n = 2"),
        ("(STEPS := 1)", "1", "2"),
        ("STEPS = []\n[STEPS.append(i) for i in range(3)]", "range(3)", "range(4)"),
        ("STEPS = {}\nbefore = STEPS.setdefault('n', 1)", "'n', 1", "'n', 2"),
        ("STEPS = []\nTrue and STEPS.append(1)", "append(1)", "append(2)"),
    ],
    ids=range(21),
)
def test_what_changes_a_name_that_a_class_uses_counts(added, old, new):
    """For every way to bind or change the name."""
    uses = FILE.replace("return helper(images", "STEPS\n        return helper(images")
    code = uses.replace("def helper(x)", f"{added}\n\ndef helper(x)")
    assert old in added
    digests = [
        source_digest(operator_of(code)),
        source_digest(operator_of(code.replace(added, added.replace(old, new)))),
    ]
    assert digests[0] != digests[1]


WITH_POWER = """
def with_power(cls, power):
    cls.power = power
    return cls
"""


@pytest.mark.parametrize(
    "added",
    [
        f"{WITH_POWER}\nOp = with_power(Gamma, 2.0)",
        "G = Gamma\nG.power = 2.0",
        "for each in (Gamma,):\n    each.power = 2.0",
        "_ = setattr(Gamma, 'power', 2.0)",
        "print(setattr(Gamma, 'power', 2.0))",
        "OPERATORS[0].power = 2.0",
        "def patch():\n    OPERATORS[0].power = 2.0\n_ = patch()",
        "patch = lambda: setattr(Gamma, 'power', 2.0)\npatch()",
        "import functools\nset_on = functools.partial(setattr, Gamma)\n_ = set_on('power', 2.0)",
        "class Holder:\n    operator = Gamma\nHolder.operator.power = 2.0",
        "B = Operator\nB.power = 2.0",
        "_ = setattr(Operator, 'power', 2.0)",
        "from helpers import *\n_ = id((SMALL, 2.0))\nGamma.small = SMALL",
        "first, rest = TABLE, []\nfirst[0] = 2.0",
        "same = TABLE\nsame += [2.0]",
        "class Adds:\n    def __init__(self, n):\n        TABLE.append(n)\nadded = Adds(2.0)",
        "def views(scale):\n    for each in OPERATORS:\n        each.power = 2.0",
        f"{WITH_POWER}\ndef views(scale):\n    return with_power(Gamma, 2.0)",
    ],
)
def test_what_changes_a_class_through_another_name_or_a_call_counts(added):
    """In the file and in its functions. The rest of the file does not count."""
    code = FILE.replace("def experiment(", f"{added}\n\ndef experiment(")
    before = user_id(code)
    assert user_id(code.replace(added, added.replace("2.0", "0.5"))) != before
    assert user_id(code.replace('{"a": 1}', '{"a": 2}')) == before


@pytest.mark.parametrize(
    "added",
    [
        "RATES = [0.1, 2.0]",
        "from ablation.operators import Noise\nVIEWS = (Noise(p=0.1), Gamma(limit=2.0))",
        "HALF = GAIN / 2.0",
        "STEPS = torch.linspace(0, 2.0, 3).tolist()",
        "for rate in (1.0, 2.0):\n    print(rate)",
        "@dataclass(frozen=True)\nclass Beta(Mixin, Operator):\n    n: float = 2.0\n    apply = lambda *x: helper(x)",
        "class Wrong(Exception):\n    n = 2.0\n    apply = helper",
        "class Stronger(Gamma):\n    limit: float = 2.0",
        "def views(scale):\n    cells = []\n    cells.append(Gamma(limit=2.0))\n    return cells",
    ],
)
def test_what_only_reads_or_constructs_does_not_count(added):
    code = FILE.replace("def experiment(", f"{added}\n\ndef experiment(")
    assert user_id(code.replace(added, added.replace("2.0", "0.5"))) == user_id(code)


LOCAL = {
    "apart.py": "import deeper\nfrom parts import scale\n\ndef clip(x):\n    return deeper.clip(scale.of(x))\n",
    "deeper.py": "def clip(x):\n    return x.clamp(0, 1)\n",
    "parts/__init__.py": "WIDTH = 1\n",
    "parts/scale.py": "from . import WIDTH, below\n\ndef of(x):\n    return x * WIDTH * below.FACTOR\n",
    "parts/below.py": "FACTOR = 1\n",
    "lazy.py": "FACTOR = 1\n",
    "named.py": "FACTOR = 1\n",
    "unused.py": "FACTOR = 1\n",
    "starred.py": "FACTOR = 1\n",
}
IMPORTING = FILE.replace(
    "import torch\n", "import torch\nimport unused\nfrom apart import clip\nfrom starred import *\n", 1
).replace(
    "return helper(images",
    "import importlib, lazy\n        importlib.import_module('named')\n        return clip(images",
)


def forget() -> None:
    """Unloads this process's modules of LOCAL, and the experiment."""
    tops = {name.split("/")[0].removesuffix(".py") for name in LOCAL} | {"experiment_file_mine"}
    for name in [name for name in sys.modules if name.split(".")[0] in tops]:
        del sys.modules[name]


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """Digest of the operator in a folder with LOCAL and changed files, as in a new process."""

    def digest(folder: str = "a", **changed: tuple[str, str]) -> str:
        for name, text in LOCAL.items():
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            old, new = changed.get(path.stem if path.stem != "__init__" else "parts", ("", ""))
            assert old in text
            path.write_text(text.replace(old, new) if old else text)
        forget()
        monkeypatch.setattr(sys, "path", [p for p in sys.path if not p.startswith(str(tmp_path))])
        importlib.invalidate_caches()
        source = Source(path=str(tmp_path / folder / "mine.py"), code=IMPORTING.encode(), scale="tiny", data=None)
        return source_digest(type(load(source).cells[0].run.training.views[0][0]))

    yield digest
    forget()


@pytest.mark.parametrize("file", ["deeper", "below", "parts", "lazy", "named", "starred"])
def test_files_that_a_class_imports_count(file, beside):
    """Through other files, from packages, inside functions; but no unused ones."""
    before = beside()
    old, new = ("clamp(0, 1)", "clamp(0, 0.9)") if file == "deeper" else ("1", "2")
    assert beside(**{file: (old, new)}) != before
    assert beside(unused=("1", "2")) == before


@pytest.mark.parametrize(
    ("acts", "text"),
    [
        (True, "import deeper\nFACTOR = 1\ndeeper.WIDTH = 1\n"),
        (True, "import deeper\nsetattr(deeper, 'WIDTH', 1)\n"),
        (True, "import deeper\nif True:\n    deeper.WIDTH = 1\n"),
        (False, "'It has a docstring.'\nFACTOR = 1\n\ndef f():\n    return 1\n"),
    ],
)
def test_a_file_that_may_change_another_counts_wherever_it_is_imported(acts, text, beside, monkeypatch):
    monkeypatch.setitem(LOCAL, "unused.py", text)
    before = beside()
    assert (beside(unused=("1", "2")) != before) == acts


def test_two_experiments_have_files_of_one_name_beside_them(tmp_path, monkeypatch):
    """In one process, such as a notebook's: each has its own, the second time too."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    found = []
    for folder, factor in (("a", 1), ("b", 2), ("a", 1)):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "factors.py").write_text(f"FACTOR = {factor}\n")
        code = FILE.replace("import torch\n", "import torch\nimport factors\n", 1)
        importlib.invalidate_caches()
        load(Source(str(tmp_path / folder / f"of_{folder}.py"), code.encode(), "tiny", None))
        found.append(sys.modules["factors"].FACTOR)
        for name in [name for name in sys.modules if name.startswith("experiment_file_of_")]:
            del sys.modules[name]
    monkeypatch.delitem(sys.modules, "factors")
    assert found == [1, 2, 1]


def test_a_file_that_no_import_finds_is_named(tmp_path, monkeypatch, capsys):
    """`experiments.pairwise` is the suite's and `json` Python's, whatever is beside an experiment."""
    from ablation.study.experiment_file import load, read

    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    for name in ("experiments/pairwise.py", "json.py", "numbers.py", "mine.py"):
        (tmp_path / name).write_text("value = 1\n")
    code = "import json\nfrom experiments.pairwise import experiment\nfrom mine import value\n"
    (tmp_path / "question.py").write_text(code)
    load(read("question.py", "tiny", None, "experiment"))
    said = capsys.readouterr().err.splitlines()
    hidden = [tmp_path / "experiments" / "pairwise.py", tmp_path / "json.py"]
    for line, name, file in zip(said, ["experiments.pairwise", "json"], hidden, strict=True):
        assert f"import {name} loads " in line
        assert f", not {file}; rename yours." in line


def test_the_place_of_files_and_their_comments_do_not_count(beside, tmp_path, monkeypatch):
    before = beside()
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "b")
    assert beside("b", deeper=("def clip", "# a comment\ndef clip")) == before
    assert beside("b", deeper=("    return", "    'A docstring.'\n    return")) == before
    assert beside("b", deeper=("\n", "\r\n")) == before


def test_a_file_that_changes_after_it_was_loaded_changes_no_digest(beside, tmp_path):
    """The loaded code runs."""
    before = beside()
    (tmp_path / "a" / "deeper.py").write_text("def clip(x):\n    return x\n")
    assert source_digest(type(sys.modules["experiment_file_mine"].Gamma())) == before


def test_a_worker_whose_files_differ_finds_no_work(beside, tmp_path):
    """The experiment's bytes travel with it; its imports do not, and the id compares them."""
    beside()
    path = tmp_path / "a" / "mine.py"
    source = Source(path=str(path), code=IMPORTING.encode(), scale="tiny", data=None)
    [here] = works_of(source)
    beside(deeper=("clamp(0, 1)", "clamp(0, 0.5)"))
    with pytest.raises(RuntimeError, match=f"does not find the training {here} in .*mine.py.*imported files"):
        work_for(source, Job(here, (), "", None))


def test_packages_are_not_followed(tmp_path, monkeypatch):
    """Wherever they are installed, also in a folder of PYTHONPATH with distributions."""
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "library-1.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "installed"))
    digests = []
    for text in ("FACTOR = 1\n", "FACTOR = 2\n"):
        (tmp_path / "installed" / "library_apart.py").write_text(text)
        monkeypatch.delitem(sys.modules, "library_apart", raising=False)
        importlib.invalidate_caches()
        code = FILE.replace("import torch\n", "import torch\nimport library_apart\n", 1)
        digests.append(
            source_digest(operator_of(code.replace("helper(images", "helper(library_apart.FACTOR * images")))
        )
    assert digests[0] == digests[1]


def test_a_file_beside_the_experiment_belongs_to_no_library(beside, tmp_path):
    """Whatever is installed in its folder."""
    for folder in ("a", "b"):
        (tmp_path / folder / "einops-1.dist-info").mkdir(parents=True)
    before = beside()
    assert beside(deeper=("clamp(0, 1)", "clamp(0, 0.9)")) != before


HIDDEN = FILE.replace(
    "    def sample",
    """    def __init__(self, gain=1.0):
        super().__init__()
        object.__setattr__(self, "gain", gain)

    def sample""",
)


def test_state_beside_the_fields_is_refused():
    """Two operators that differ only there would share results."""
    with pytest.raises(InvalidSpec, match=r"Gamma sets 'gain', which is not a field.*field of the dataclass"):
        user_id(HIDDEN)
    derived = FILE.replace(
        "    def sample",
        "    def __post_init__(self):\n        object.__setattr__(self, 'twice', 2 * self.p)\n\n    def sample",
    )
    user_id(derived)  # it follows from the fields


def test_a_new_version_of_our_operator_counts_for_a_users_subclass(monkeypatch):
    code = FILE.replace("class Gamma(Mixin, Operator)", "class Gamma(Mixin, Crop)").replace(
        "import Operator", "import Crop"
    )
    before = user_id(code)
    monkeypatch.setattr(Crop, "version", 2)
    assert user_id(code) != before


def test_the_decorator_is_missed():
    code = FILE.replace("@dataclass(frozen=True, kw_only=True)\nclass Gamma", "class Gamma")
    with pytest.raises(InvalidSpec, match=r"Gamma.limit must be a dataclass field.*@dataclass"):
        user_id(code)


# --------------------------------------------------------------------------------------------------
# Grids and experiments


def test_pairwise_is_every_ordered_pair_with_singles_on_the_diagonal():
    operators = (Crop(), Sobel(), Blur())
    cells = pairwise(operators, lambda view: small_run(views=(view, ())), seeds=[0, 5])
    assert len(cells) == 9 * 2
    views = {(c.coords["first"], c.coords["second"]): c.run.training.views for c in cells}
    assert views["crop", "blur"] == ((Crop(), Blur()), ())
    assert views["blur", "crop"] == ((Blur(), Crop()), ())
    assert views["sobel", "sobel"] == ((Sobel(),), ())
    assert {(c.coords["seed"], c.run.training.seed) for c in cells} == {(0, 0), (5, 5)}


def test_sweep_is_the_product_of_its_axes():
    def make(sigma, noise):
        return small_run(views=((Blur(sigma=(0.1, sigma)), noise), ()))

    noises = {"weak": Noise(std=(0.1, 0.1)), "strong": Noise(std=(0.3, 0.3))}
    cells = sweep(make, sigma=(1.0, 2.0), noise=noises, seeds=range(3))
    assert len({tuple(c.coords.values()) for c in cells}) == 12
    assert cells[-1].coords == {"sigma": 2.0, "noise": "strong", "seed": 2}
    assert cells[-1].run.training.views[0] == (Blur(sigma=(0.1, 2.0)), noises["strong"])


def test_seeds_may_be_a_generator():
    cells = pairwise((Crop(), Sobel()), lambda v: small_run(views=(v, ())), seeds=(s for s in range(2)))
    assert len(cells) == 8
    assert len(sweep(lambda a: small_run(), a=(1, 2), seeds=iter([0, 1]))) == 4


def test_figures_use_the_cells_coordinates():
    cells = sweep(lambda op: small_run(), op=("a", "b"), seeds=[0])
    with pytest.raises(InvalidSpec, match=r"figures\['map'\] uses 'opp'.*Use one of op, seed"):
        Experiment(cells=cells, figures={"map": Heatmap(rows="op", columns="opp")})


def test_nothing_is_chosen_on_images_that_were_trained_on():
    both = small_training().optimization.replace(with_validation=True)
    with pytest.raises(InvalidSpec, match="Give Linear a single penalty"):
        small_run(optimization=both)
    Run(training=small_training(optimization=both), evaluations=(Linear(penalties=(1e-3,)),))


def test_two_evaluations_with_one_label():
    """Their columns would have the same names, and the second would overwrite the first."""
    with pytest.raises(InvalidSpec, match=r"Run.evaluations: two have the label 'knn'.* Write one .*KNN\(k="):
        small_run().replace(evaluations=(KNN(k=(10,)), Linear(), KNN(k=(3,))))
    small_run().replace(evaluations=(KNN(k=(10, 3)), KNN(k=(10,), on="z"), Linear()))


def test_two_cells_at_the_same_place():
    with pytest.raises(InvalidSpec, match=r"same coordinates, first=color second=color seed=0"):
        Experiment(
            cells=pairwise(
                (Color(), Color(jitter=ColorJitter(hue=0.5))), lambda v: small_run(views=(v, ())), seeds=[0]
            ),
            figures={},
        )
    with pytest.raises(InvalidSpec, match="at least one cell"):
        Experiment(cells=(), figures={})
    Experiment(cells=(Cell(coords={"a": 1}, run=small_run()), Cell(coords={"a": 2}, run=small_run())), figures={})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: small_training(views=(Crop(), ())), r"views\[0\] must be a tuple of operators.*comma"),
        (lambda: small_training(views=((Crop,), ())), r"views\[0\]"),
        (lambda: small_training(shared=Crop()), "Training.shared must be a tuple of operators"),
        (lambda: small_training(views=((Crop(),),)), "SimCLR needs 2 views, but got 1"),
        (lambda: small_training(seed=-1), "Training.seed must be a whole number of at least 0, but got -1"),
        (lambda: Optimization(epochs=0, batch=8, optimizer=None), "Optimization.epochs .* at least 1, but got 0"),
        (lambda: Optimization(epochs=1, batch=0, optimizer=None), "Optimization.batch .* at least 2, but got 0"),
        (lambda: Optimization(epochs=1.5, batch=8, optimizer=None), "Optimization.epochs"),
        (lambda: Optimization(epochs=1, batch=8, optimizer=None, precision="half"), "Optimization.precision"),
        (lambda: ImageData(path=""), "ImageData.path"),
        (lambda: ImageData(path="x", validation=1.5), "ImageData.validation"),
        (lambda: ImageData(path="x", revision="main"), "ImageData.revision must be a commit"),
    ],
)
def test_bad_specs(make, words):
    with pytest.raises(InvalidSpec, match=words):
        make()


@pytest.mark.parametrize("base", [Blur, Crop, Operator])
def test_another_default_without_its_type_is_refused(base):
    """`p = 0.5` in a class body is not a field, so the operator would use the inherited default."""
    with pytest.raises(InvalidSpec, match=r"Mine\.p must have a type .*Write p: float = 0\.5\."):
        type("Mine", (base,), {"p": 0.5, "__module__": "theirs"})
    mine = dataclasses.dataclass(frozen=True, kw_only=True)(
        type("Mine", (base,), {"__annotations__": {"p": float}, "p": 0.5, "__module__": "theirs"})
    )
    assert mine().p == 0.5


def test_a_class_with_slots_and_one_with_a_property_have_their_fields():
    @dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
    class Slotted(Blur):
        gain: float = 0.5

    assert Slotted(p=0.3).p == 0.3
    assert Slotted().gain == 0.5
