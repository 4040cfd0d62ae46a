"""Every file in experiments/: loads at every scale it is for, says what it asks, and fits on a screen."""

import pytest
from helpers import ROOT

from ablation.loading import docstring, load, read
from ablation.scales import SCALES
from ablation.specs import InvalidSpec

FILES = sorted((ROOT / "experiments").glob("*.py"))
ONE_SCALE = {"control": "tiny"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
class TestExperiments:
    @pytest.mark.parametrize("scale", SCALES)
    def test_loads(self, path, scale):
        if ONE_SCALE.get(path.stem, scale) != scale:
            with pytest.raises(InvalidSpec, match="--scale"):
                load(read(str(path), scale))
            return
        experiment = load(read(str(path), scale))  # raises on duplicate coordinates
        assert experiment.cells
        assert experiment.figures
        assert all("seed" in cell.coords for cell in experiment.cells)

    def test_says_what_it_asks(self, path):
        text = docstring(path)
        assert "?" in text.splitlines()[0]
        for word in ("Source:", "Cost:", "Expected:", f"ablation run {path.stem} --scale"):
            assert word in text, word

    def test_is_in_the_docs(self, path):
        page = (ROOT / "docs" / "experiments.md").read_text()
        assert f"`{path.stem}`" in page.partition("## The study")[2].partition("## Figures")[0]

    def test_is_short(self, path):
        assert len(path.read_text().splitlines()) <= 45
