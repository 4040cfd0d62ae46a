"""Every file in experiments/ loads at all its scales, has a docstring, and fits on a screen."""

import ast

import optuna
import pandas as pd
import pytest
from helpers import ROOT

from ablation.analysis.settings import read_settings
from ablation.data import ImageData
from ablation.execution.store import check_axes, identified
from ablation.operators import Crop
from ablation.search.load import load_searches
from ablation.spec import InvalidSpec
from ablation.study.experiment_file import docstring, load, read
from ablation.study.scales import SCALES

FILES = [path for path in sorted((ROOT / "experiments").glob("*.py")) if not path.stem.startswith("search_")]
SEARCHES = sorted((ROOT / "experiments").glob("search_*.py"))
ONE_SCALE = {"control": "tiny"}
COMMITTED = {(path.stem, ONE_SCALE.get(path.stem, "cifar10-small")) for path in FILES if path.stem != "grid"}
COMMITTED |= {("pairwise", "tiny")}


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
        check_axes(experiment)
        for figure in experiment.figures.values():
            drawn = [c for c in experiment.cells if figure.where.items() <= c.coords.items()]
            assert all(any(axis in cell.coords for cell in drawn) for axis in figure.axes), figure

    @pytest.mark.parametrize("scale", SCALES)
    def test_its_table_is_of_these_cells(self, path, scale):
        """A committed table has today's coordinates of its experiment, and all its figures beside it."""
        csv = ROOT / "figures" / f"{path.stem}-{scale}.csv"
        if not csv.is_file() and (path.stem, scale) not in COMMITTED:
            pytest.skip(f"{path.stem} is not committed at {scale}")
        experiment = load(read(str(path), scale))
        axes = list(dict.fromkeys(axis for cell in experiment.cells for axis in cell.coords))
        cells = pd.DataFrame([{axis: cell.coords.get(axis) for axis in axes} for cell in experiment.cells])
        table = pd.read_csv(csv)
        assert (table["state"] == "finished").all()
        pd.testing.assert_frame_equal(table[axes], cells, check_dtype=False)
        for name in experiment.figures:
            for suffix in ("png", "pdf"):
                assert (csv.with_name(f"{csv.stem}-{name}.{suffix}")).is_file()

    @pytest.mark.parametrize("scale", SCALES)
    def test_todays_code_builds_the_ids_of_its_table(self, path, scale, monkeypatch):
        """Every training and every evaluation of a committed table."""
        csv = ROOT / "figures" / f"{path.stem}-{scale}.csv"
        if not csv.is_file():
            pytest.skip(f"{path.stem} is not committed at {scale}")
        settings = read_settings(csv)
        described = [settings.training(each) for each in settings.trainings]
        (precision,) = {each["optimization"]["precision"] for each in described}
        data = {each["dataset"]["content"]: each["dataset"] for each in described if "content" in each["dataset"]}
        made = SCALES[scale]().replace(precision=precision)
        for content, dataset in data.items():
            counts = {name: dataset.get(name) for name in ("train_images", "test_images", "validation")}
            if any(counts.values()):  # images identified by the digest of a copy, which may be absent here
                monkeypatch.setattr(ImageData, "fingerprint", lambda self, content=content: content)
                made = made.replace(dataset=ImageData(path="nowhere", **counts))
        monkeypatch.setattr("ablation.study.experiment_file.scale_named", lambda *_: made)
        today = identified(load(read(str(path), scale)))
        assert {each.training_id for each in today} >= set(settings.trainings)
        evaluations = {each for cell in today for each in cell.evaluation_ids}
        assert evaluations >= {each for ids in settings.evaluations.values() for each in ids}

    def test_says_what_it_asks(self, path):
        text = docstring(path.read_bytes())
        assert "?" in text.splitlines()[0]
        for word in ("Source:", "Cost:", "Expected:", f"ablation run {path.stem} --scale"):
            assert word in text, word

    @pytest.mark.parametrize("scale", SCALES)
    def test_its_command_gives_the_runs_of_its_table(self, path, scale):
        """With the precision of the committed runs."""
        csv = ROOT / "figures" / f"{path.stem}-{scale}.csv"
        if not csv.is_file():
            pytest.skip(f"{path.stem} is not committed at {scale}")
        settings = read_settings(csv)
        [precision] = {settings.training(each)["optimization"]["precision"] for each in settings.trainings}
        command = f"ablation run {path.stem} --scale {scale}"
        lines = [line.strip() for line in docstring(path.read_bytes()).splitlines()]
        stated = [line for line in lines if line.startswith(command)]
        option = " --precision bfloat16" * (precision != SCALES[scale]().precision)
        assert all(line == command + option for line in stated)
        assert stated or scale == "tiny"

    def test_is_in_the_docs(self, path):
        page = (ROOT / "docs" / "experiments.md").read_text()
        assert f"`{path.stem}`" in page.partition("## The study")[2].partition("## Figures")[0]

    def test_is_short(self, path):
        """Without its imports: the formatter gives each name a line."""
        text = path.read_text()
        imports = [n for n in ast.parse(text).body if isinstance(n, (ast.Import, ast.ImportFrom))]
        assert len(text.splitlines()) - sum(n.end_lineno - n.lineno + 1 for n in imports) <= 45


@pytest.mark.parametrize("path", SEARCHES, ids=lambda p: p.stem)
class TestSearches:
    @pytest.mark.parametrize("scale", SCALES)
    def test_loads(self, path, scale):
        for search in load_searches(read(str(path), scale)).values():
            study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
            for _ in range(20):
                search.check_run(search.suggest(study.ask()))

    def test_says_what_it_asks(self, path):
        text = docstring(path.read_bytes())
        assert "?" in text.splitlines()[0]
        for word in ("Source:", "Cost:", "Expected:", f"ablation search {path.stem} --scale"):
            assert word in text, word
        assert f"`{path.stem}`" in (ROOT / "docs" / "search.md").read_text()
        assert len(path.read_text().splitlines()) <= 45


def test_a_search_is_no_experiment_and_the_other_way_round():
    with pytest.raises(InvalidSpec, match=r"defines a search, not an experiment. Type: ablation search search_color"):
        load(read("search_color", "tiny"))
    with pytest.raises(InvalidSpec, match=r"holds an experiment, not a search. Type: ablation run control"):
        load_searches(read("control", "tiny"))


def test_strengths_move_one_operator_at_a_time():
    """Apart from the named operator, crop and color have their own strength."""
    own = {"crop": Crop(), "color": SCALES["cifar10-small"]().color()}
    cells = load(read(str(ROOT / "experiments" / "strengths.py"), "cifar10-small")).cells
    assert len({cell.run for cell in cells if cell.coords["seed"] == 0}) == 1 + 7 * 3 + 3 * 3
    for cell in cells:
        moved = cell.coords["operator"].split()[0]
        for view in cell.run.training.views:
            others = [operator for operator in view if operator.label != moved]
            assert all(own.get(operator.label, operator) == operator for operator in others), cell.name
            assert {operator.label for operator in view} | {moved} >= {"crop", "color"}
