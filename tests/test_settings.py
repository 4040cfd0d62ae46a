"""Settings are beside the table, and committed descriptions never use today's code."""

import json
import shutil
from dataclasses import dataclass

import pandas as pd
import pytest
from helpers import GRID, ROOT, SMALL, small_run

from ablation import SimCLR
from ablation.analysis.settings import Settings, path_of, read_settings
from ablation.cli import main
from ablation.data import ImageData
from ablation.operators import Blur, Color, ColorDrop, ColorJitter, Crop, Flip, Operator, Resize, Rotate
from ablation.report.appendix import appendix
from ablation.report.check import stale_figures, unsettled
from ablation.spec import DataError, identity, identity_of_description, sweep
from ablation.study.scales import scale_named

FIGURES = ROOT / "figures"


def settled(cells, sizes) -> tuple[Settings, pd.DataFrame]:
    """The settings of cells, and a table with their coordinates and ids."""
    found = [(cell, identity(cell.run.training), [identity(e) for e in cell.run.evaluations]) for cell in cells]
    settings = Settings(name="q", scale="tiny")
    settings.add(found, sizes)
    return settings, pd.DataFrame([{**cell.coords, "training": training_id} for cell, training_id, _ in found])


def resealed(document: dict) -> str:
    """The text of a changed document with a matching digest."""
    fields = {name: value for name, value in document.items() if name not in ("format", "digest")}
    return Settings(**fields).content().decode()


def of_views(views: dict, size: int = 16, **changes) -> tuple[Settings, pd.DataFrame]:
    """Cells from views by label, two seeds each; changes are fields of Training."""
    cells = sweep(lambda view: small_run(views=(view, ()), **changes), view=views, seeds=range(2))
    return settled(cells, {cell.run.training.dataset: size for cell in cells})


def rows(settings: Settings, table: pd.DataFrame) -> dict[str, str]:
    return dict(appendix(settings, table).itertuples(index=False))


def test_a_written_description_is_whole_again_and_has_its_id(tmp_path):
    settings, table = of_views({"a": (Crop(), Color()), "b": (Blur(p=0.5),)}, shared=(Flip(),))
    (tmp_path / "q-tiny.json").write_bytes(settings.content())
    again = read_settings(tmp_path / "q-tiny.csv")
    assert again == settings
    assert again.wrong() == []
    assert set(again.trainings) == set(table["training"])
    for training_id in again.trainings:
        assert identity_of_description(again.training(training_id)) == training_id


@dataclass(frozen=True, kw_only=True)
class Smear(Operator):
    """Calls itself blur, and does not commute with a rotation."""

    label = "blur"


def test_what_commutes_in_law_is_known_by_the_operators_classes():
    """Not by their labels: a user's class may have the label of one of ours."""
    turned = frozenset(("rotate", "blur"))
    settings, _ = of_views({"a": (Rotate(), Blur()), "b": (Crop(), Color(strength=0.5))})
    assert settings.commuting() == {turned, frozenset(("rotate", "color"))}
    settings, _ = of_views({"a": (Rotate(), Smear()), "b": (Crop(),)})
    assert settings.commuting() == set()
    settings, _ = of_views({"a": (Rotate(), Smear()), "b": (Blur(),)})
    assert settings.commuting() == set()
    committed = read_settings(FIGURES / "pairwise-cifar10-small.csv").commuting()
    assert committed == {frozenset(("rotate", other)) for other in ("blur", "color", "cutout", "noise", "sobel")}


def test_the_appendix_has_every_setting():
    scale = scale_named("tiny")
    cells = sweep(
        lambda view: scale.run(scale.method(SimCLR), views=(view, ())), view={"c": (Crop(),), "b": (Blur(),)}, seeds=[0]
    )
    settings, table = settled(cells, {scale.dataset: 32})
    found = rows(settings, table.assign(training_seconds=1800.0, device="x", dataset="shapes"))
    assert found["optimization.optimizer.learning_rate"] == "0.003"
    assert found["optimization.schedule"] == "Cosine"
    assert found["optimization.precision"] == "float32"
    assert found["method.objective.temperature"] == "0.5"
    assert found["encoder.channels"] == "16"
    assert found["operator blur"] == Blur().describe(32)
    assert found["training, hours in all"] == "1.00"
    assert found["dataset.shortcut"] == "1"
    assert found["dataset.name"] == "shapes"
    assert found["evaluations.KNN.k"] == "(200)"


def test_the_appendix_has_every_variant_of_an_operator():
    """Also more than six, and those with equal descriptions; adds the probability that a description omits."""
    blurs = [Blur(strength=s / 8) for s in range(1, 8)] + [Blur(p=0.5)]
    found = rows(*of_views({str(i): (blur,) for i, blur in enumerate(blurs)}))
    parts = [f"({i}) {blur.describe(16)}" for i, blur in enumerate(blurs, start=1)]
    assert found["operator blur"] == "; ".join(parts) + ", p 0.5"
    found = rows(*of_views({"a": (Color(p=0.25),), "b": (Color(drop=ColorDrop(p=0.2, strength=0.5)),)}))
    color = Color().describe(16)
    assert "p 0.8" in color  # the parts' own, only once
    assert found["operator color"] == f"(1) {color}, p 0.25; (2) {color}, drop strength 0.5"
    found = rows(*of_views({"a": (Silent(part=Blur(p=0.5)),), "b": (Silent(gain=1),), "c": (Silent(gain=2),)}))
    assert found["operator silent"].startswith("(1) silent, part p 0.5; (2) silent, ")
    assert "gain=2" in found["operator silent"]


@dataclass(frozen=True, kw_only=True)
class Silent(Operator):
    """An operator whose description omits its fields."""

    label = "silent"

    part: Blur = Blur()
    gain: int = 1

    def describe(self, size: int) -> str:
        return "silent"


def test_the_appendix_says_which_cell_has_which_views():
    weak, strong = Blur(strength=0.5), Blur()
    found = rows(*of_views({"a": (Crop(), weak), "b": (Crop(), strong)}, shared=(Flip(),)))
    assert found["views 1"] == "flip shared, then crop + blur (1) | none: view a"
    assert found["views 2"] == "flip shared, then crop + blur (2) | none: view b"
    assert "views 3" not in found


def test_the_appendix_has_the_laws_at_the_images_size(monkeypatch):
    blur, folder = (Blur(),), ImageData(path="x")
    monkeypatch.setattr(ImageData, "fingerprint", lambda self: "x")
    assert Blur().describe(16) != Blur().describe(64)
    data = {"small": SMALL, "large": folder.replace(size=64)}
    cells = sweep(lambda data: small_run(views=(blur, ()), dataset=data), data=data, seeds=[0])
    found = rows(*settled(cells, {SMALL: 16, data["large"]: 64}))
    assert found["images, pixels a side"] == "16, 64"
    assert found["operator blur"] == f"at 16 px {Blur().describe(16)}; at 64 px {Blur().describe(64)}"
    views = {"a": (Crop(size=64), Blur()), "b": (Resize(size=32), Blur())}  # the operators before it count
    cells = sweep(lambda view: small_run(views=(view, view)), view=views, seeds=[0])
    found = rows(*settled(cells, {SMALL: 16}))
    assert found["operator blur"] == f"at 64 px {Blur().describe(64)}; at 32 px {Blur().describe(32)}"


def test_the_hours_are_of_training_and_of_evaluation():
    """By hand: trainings a and b once, although a is in two cells; its kNN once, its two linear ones both."""
    settings, table = of_views({"a": (Crop(),)})
    a, b = table["training"]
    table = pd.DataFrame(
        {
            "training": [a, a, b],
            "training_seconds": [3600.0, 3600.0, 1800.0],
            "knn_seconds": [360.0, 360.0, None],
            "linear_seconds": [720.0, 360.0, 36.0],
            "warmup_seconds": ["long", "short", "long"],  # a coordinate
        }
    )
    settings.axes = ["warmup_seconds"]
    found = rows(settings, table)
    assert found["training, hours in all"] == "1.50"
    assert found["evaluation, hours in all"] == "0.41"


def test_a_changed_default_changes_no_committed_word(tmp_path, monkeypatch):
    """Captions, appendices and the check describe the runs, whatever today's operators and scales."""
    for path in FIGURES.glob("temperature-cifar10-small*"):
        shutil.copy(path, tmp_path)
    committed = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    csv = tmp_path / "temperature-cifar10-small.csv"
    before = rows(read_settings(csv), pd.read_csv(csv))
    monkeypatch.setattr(ColorJitter, "describe", lambda self, size: "another law")
    monkeypatch.setattr(Crop, "describe", lambda self, size: "another law")
    monkeypatch.setattr(Blur, "__doc__", "Another law.")
    for cls, name, value in ((Crop, "p", 0.25), (ColorJitter, "hue", 0.5), (Blur, "strength", 0.5)):
        monkeypatch.setattr(cls.__init__, "__kwdefaults__", {**cls.__init__.__kwdefaults__, name: value})
    assert rows(read_settings(csv), pd.read_csv(csv)) == before
    assert main(["figures", "temperature", "--scale", "cifar10-small", "--figures", str(tmp_path)]) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == committed


def test_what_cannot_be_traced_is_refused(tmp_path):
    """A run without a description, and a description of another run."""

    settings, table = of_views({"a": (Crop(),)})
    csv = tmp_path / "q-tiny.csv"
    table.to_csv(csv, index=False)
    assert "is missing" in unsettled(tmp_path, {})[0]
    path_of(csv).write_bytes(settings.content(csv))
    assert unsettled(tmp_path, {}) == []
    document = json.loads(path_of(csv).read_bytes())
    crop = next(key for key, spec in document["specs"].items() if spec["type"] == "Crop")
    document["specs"][crop]["p"] = 0.25
    path_of(csv).write_text(json.dumps(document))
    assert "digest" in unsettled(tmp_path, {})[0]
    path_of(csv).write_text(resealed(document))
    assert any(crop in sentence for sentence in unsettled(tmp_path, {}))
    document["trainings"].pop(table["training"][0])
    path_of(csv).write_text(resealed(document))
    assert any(table["training"][0] in sentence for sentence in unsettled(tmp_path, {}))


def test_the_comparison_of_a_search_has_its_settings_beside_the_searchs_table(tmp_path):
    """Its table has trainings; the table of trials has none."""
    settings, tested = of_views({"a": (Crop(),), "b": (Blur(),)})
    csv, test = tmp_path / "q-tiny.csv", tmp_path / "q-tiny-test.csv"
    tested.to_csv(test, index=False)
    csv.write_text("number,value\n0,1.0\n")
    assert "is missing" in unsettled(tmp_path, {})[0]
    path_of(csv).write_bytes(settings.content(csv))
    assert unsettled(tmp_path, {}) == []
    document = json.loads(path_of(csv).read_bytes())
    document["trainings"].pop(tested["training"][1])
    path_of(csv).write_text(resealed(document))
    [sentence] = unsettled(tmp_path, {})
    assert f"{test} do not describe the training {tested['training'][1]}" in sentence


def test_a_commit_that_is_not_in_the_history_is_refused(tmp_path, monkeypatch):
    settings, table = of_views({"a": (Crop(),)})
    csv = tmp_path / "q-tiny.csv"
    monkeypatch.setattr("ablation.report.check._history", lambda folder: ["0123456789abcdef0123456789abcdef01234567"])
    for commit, good in (("0123456789ab", True), ("7cbff5a96a7b", False), ("0123456789ab+", False)):
        table.assign(commit=commit).to_csv(csv, index=False)
        path_of(csv).write_bytes(settings.content(csv))
        wrong = unsettled(tmp_path, {})
        assert (wrong == []) == good
        assert good or commit in wrong[0]
        assert unsettled(tmp_path, {csv.name: "lost"}) == []
    table.assign(commit=[None, *["0123456789ab"] * (len(table) - 1)], state="finished").to_csv(csv, index=False)
    path_of(csv).write_bytes(settings.content(csv))
    assert "without a commit" in unsettled(tmp_path, {})[0]


@pytest.fixture
def committed(tmp_path):
    """A folder with a committed table, its companion files, and a report with one of its numbers."""
    for path in FIGURES.glob("temperature-cifar10-small*"):
        shutil.copy(path, tmp_path)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.md.jinja").write_text("# A report\n\n{{ mean }}\n")
    (tmp_path / "report" / "values.py").write_text(
        'from ablation.report import Table\n\nmean = Table("temperature-cifar10-small").mean("linear")\n'
    )
    return tmp_path


def edited(path) -> None:
    """Changes one digit."""
    text = path.read_text()
    digit = max(place for place, character in enumerate(text) if character == "7")
    path.write_text(f"{text[:digit]}8{text[digit + 1 :]}")


@pytest.mark.parametrize("ending", ["", "-curves", "-images"])
def test_a_changed_digit_in_a_table_is_noticed_by_all_that_read_it(ending, committed, capsys):
    csv = committed / "temperature-cifar10-small.csv"
    named = f"temperature-cifar10-small{ending}.csv has changed since it was written"
    report = ["report", "--report", str(committed / "report"), "--figures", str(committed)]
    assert main(report) == 0
    edited(committed / f"temperature-cifar10-small{ending}.csv")
    capsys.readouterr()
    assert main(["figures", "temperature", "--figures", str(committed)]) == 2
    assert named in capsys.readouterr().err
    assert main(report) == 2
    assert named in capsys.readouterr().err
    assert any(named in sentence for sentence in unsettled(committed, {csv.name: "an exception"}))
    own = ["figures", str(csv), "--rows", "temperature", "--columns", "loss"]
    assert main(own) == 2
    said = capsys.readouterr().err
    assert named in said
    assert "Restore it" in said
    assert "ablation figures COPY.csv" in said
    path_of(csv).unlink()
    assert main(["figures", "temperature", "--figures", str(committed)]) == 0
    assert "temperature-cifar10-small.json" in capsys.readouterr().err


def test_git_may_exchange_the_ends_of_lines(committed):
    for path in committed.glob("*.csv"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    settings = read_settings(committed / "temperature-cifar10-small.csv")
    assert set(settings.tables) == {"", "curves", "images"}
    assert stale_figures(committed) == []


def test_a_table_of_ones_own_needs_no_settings(tmp_path):
    """Any JSON of another program beside it."""
    (tmp_path / "own.csv").write_text("first,second,seed,accuracy\na,a,0,1\na,b,0,2\nb,a,0,3\nb,b,0,4\n")
    for text in (None, "{}", "no json"):
        if text is not None:
            (tmp_path / "own.json").write_text(text)
        assert main(["figures", str(tmp_path / "own.csv")]) == 0


def test_a_table_is_written_with_its_digests_and_without_what_is_left_of_an_earlier_one(tmp_path, monkeypatch):
    (tmp_path / "q.py").write_text(GRID.replace("(Crop(), Sobel())", "(Crop(),)").replace("range(2)", "range(1)"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "q-tiny-images.csv").write_text("first,second\n")  # one seed has none
    assert main(["run", "q.py", "--workers", "1"]) == 0
    assert set(read_settings(tmp_path / "figures" / "q-tiny.csv").tables) == {"", "curves"}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 2}', '{"format": 9, "name": "a", "scale": "b"}',
    '{"format": 2, "name": "a", "scale": "b", "specs": []}'])  # fmt: skip
def test_settings_that_are_none_are_one_sentence(tmp_path, text):
    (tmp_path / "q-tiny.json").write_text(text)
    with pytest.raises(DataError, match=r"q-tiny\.json"):
        read_settings(tmp_path / "q-tiny.csv")


def test_a_copy_of_a_table_is_not_drawn_under_another_name(committed, capsys):
    for path in list(committed.glob("temperature-cifar10-small*.*")):
        if path.suffix in (".csv", ".json"):
            shutil.copy(path, committed / path.name.replace("temperature", "losses"))
    assert main(["figures", "losses", "--figures", str(committed)]) == 2
    assert "belongs to the table temperature-cifar10-small, not to losses-cifar10-small.csv" in capsys.readouterr().err
