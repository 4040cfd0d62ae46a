"""docs/extending.md and docs/architecture.md: each example runs unchanged; each step of the walk exists."""

import importlib
import re

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT

from ablation.cli import main

PAGE = (ROOT / "docs" / "extending.md").read_text()
EXAMPLES = re.findall(r"`(\w+)\.py`:\n\n```python\n(.*?)```", PAGE, re.DOTALL)
SMALL = (
    "    from ablation import Shapes, SmallResNet\n"
    "    scale = scale.replace(dataset=Shapes(train=140, validation=40, test=60, size=16), epochs=1, batch=32,\n"
    "                          encoder=SmallResNet(channels=4), curve_every=0)\n"
)
HEAD = "def experiment(scale):\n"


def test_every_kind_of_class_has_an_example():
    names = [name for name, _ in EXAMPLES]
    assert names == ["vignette", "align", "mocov3", "class_means", "arrays", "mixer", "scatter"]
    assert len(EXAMPLES) == PAGE.count("```python")


@pytest.mark.parametrize(("name", "code"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_the_example_runs(name, code, tmp_path, monkeypatch):
    """Unchanged, in one process; only the scale is smaller. All cells finish, and its figure is drawn."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    labels = np.arange(200) % 3
    images = (60 * labels[:, None, None, None] + generator.integers(0, 100, (200, 16, 16, 3))).astype("uint8")
    np.savez("arrays.npz", images=images, labels=labels)
    assert code.count(HEAD) == 1
    (tmp_path / f"{name}.py").write_text(code.replace(HEAD, HEAD + SMALL))
    assert main(["run", f"{name}.py", "--scale", "tiny", "--workers", "1"]) == 0
    table = pd.read_csv(f"figures/{name}-tiny.csv")
    assert (table["state"] == "finished").all()
    assert {f.suffix for f in (tmp_path / "figures").iterdir() if not f.stem.endswith("-views")} >= {".png", ".pdf"}


def test_the_walk_names_what_there_is():
    """At most fifteen steps, each a module and a name in it."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    steps = re.findall(r"^\| \d+ \| `([\w.]+)\.(\w+)` \|", page, re.MULTILINE)
    assert 10 <= len(steps) <= 15
    for module, name in steps:
        assert hasattr(importlib.import_module(f"ablation.{module}"), name), f"{module}.{name}"
