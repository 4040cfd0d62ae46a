"""The way of an evaluation on other images, and of one that trains, from the file to the figure."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from helpers import small_run
from safetensors import safe_open

from ablation import (
    KNN,
    Bars,
    Cell,
    Experiment,
    FineTune,
    InvalidSpec,
    Linear,
    Shapes,
    SmallResNet,
    ViT,
    predictions,
    table,
)
from ablation.analysis.cell_settings import _options_of
from ablation.analysis.settings import read_settings
from ablation.analysis.tables import read_table
from ablation.cli import main
from ablation.execution.store import Identified, Results, identified
from ablation.plots import draw_all
from ablation.plots.columns import columns_of
from ablation.search.load import load_searches
from ablation.spec.metric import SPLITS, STATISTICS, TUNED, Metric
from ablation.study.experiment_file import load, read

WALK = '''
"""Does color help on other images?"""
from dataclasses import dataclass

import torch

from ablation import *


@dataclass(frozen=True, kw_only=True)
class Pictures(DataSet):
    """Flat images whose brightness is the class."""

    names: tuple
    count: int

    @property
    def label(self):
        return self.names[0]

    def load(self):
        def split(count, seed):
            labels = torch.arange(count) % len(self.names)
            noise = torch.randint(40, (count, 3, 16, 16), generator=torch.Generator().manual_seed(seed))
            return Split((noise + 60 * labels[:, None, None, None]).byte(), labels)

        return Data(split(self.count, 0), split(20, 1), split(30, 2), classes=self.names)


PETS, FRUIT = Pictures(names=("cat", "dog"), count=64), Pictures(names=("apple", "pear", "plum"), count=48)
QUICK = {"epochs": 1, "batch": 16}


@dataclass(frozen=True, kw_only=True)
class Mistakes(Evaluation):
    """The share of mistakes of a classifier that always says 0."""

    name = "linear_probe"
    metrics = {"test_error": ("%", "lowest")}

    def evaluate(self, features):
        return {"test_error": 100 * (features.labels["test"] != 0).double().mean().item()}, {}, []


def experiment(scale):
    evaluations = (
        KNN(k=(5,), dataset=FRUIT), KNN(k=(5,)), Linear(dataset=FRUIT), FineTune(**QUICK),
        FineTune(fraction=0.5, **QUICK), FineTune(dataset=FRUIT, **QUICK),
        FineTune(frozen=True, dataset=FRUIT, **QUICK), FineTune(frozen=True, **QUICK), Mistakes(),
    )
    scale = scale.replace(dataset=PETS, evaluations=evaluations, encoder=SmallResNet(channels=4), epochs=1, batch=32)
    values = ("linear_apple_test_top1_recalibrated", "fine_tune_test_top1_tuned")
    return Experiment(
        cells=sweep(lambda view: scale.run(SimCLR(hidden=8, dimension=4), views=(view, view)),
                    view={"crop": (Crop(),)}, seeds=range(SEEDS)),
        figures={"bars": Bars(bars="view", values=values)},
    )
'''
LABELS = ["knn_apple", "knn", "linear_apple", "fine_tune", "fine_tune_50", "fine_tune_apple", "linear_sgd_apple",
          "linear_sgd"]  # fmt: skip


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """The folder of an experiment that was estimated, run with one seed, and then with a second one."""
    folder = tmp_path_factory.mktemp("walk")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seeds in (1, 2):
            (folder / "walk.py").write_text(WALK.replace("SEEDS", str(seeds)))
            assert main(["run", "walk.py", "--dry-run"]) == 0
            assert main(["run", "walk.py", "--workers", "1"]) == 0
        yield folder


def test_every_evaluation_has_its_columns(walked):
    rows = table(load(read(str(walked / "walk.py"), "tiny")), walked / "results")
    assert list(rows["state"]) == ["finished"] * 2
    for label in LABELS:
        ending = "tuned" if "fine" in label or "sgd" in label else "recalibrated"
        assert rows[f"{label}_test_top1_{ending}"].notna().all()
    assert (walked / "figures" / "walk-tiny-bars.pdf").is_file()


def test_what_an_evaluation_states_of_its_metrics_lies_beside_the_table(walked):
    """So a figure of the table alone has its unit and name."""
    csv, value = walked / "figures" / "walk-tiny.csv", "linear_probe_test_error_recalibrated"
    assert read_settings(csv).measures == {"linear_probe": {"test_error": ["%", "lowest"]}}
    figure = Bars(bars="view", values=(value,))
    assert "linear probe error (%)" in draw_all({"mistakes": figure}, csv)[1]
    for file in csv.parent.glob("walk-tiny-mistakes.*"):
        file.unlink()


def test_an_evaluation_on_other_images_states_their_numbers(walked):
    """In the table, and in a caption, beside the training's or in place of its test images."""
    rows = read_table(walked / "figures" / "walk-tiny.csv")
    counts = {label: [f"{label}_{split}_images" for split in SPLITS] for label in LABELS}
    for label, columns in counts.items():
        if "apple" in label:
            assert rows[columns].astype(int).values.tolist() == [[48, 20, 30]] * 2
        else:
            assert not set(columns) & set(rows)

    def said(*values, whole=False):
        text = Bars(bars="view", values=values).full_caption(rows)
        return text if whole else text.split("; n = ")[0]

    own, other = "knn_test_top1_recalibrated", "knn_apple_test_top1_recalibrated"
    assert said(own).startswith("cat (64 train + 20 validation + 30 test images), SimCLR")
    assert "other data" not in said(own)
    shown = said(other, "linear_apple_test_top1_recalibrated")
    assert shown.startswith("cat (64 train + 20 validation images), SimCLR")
    on = "on 48 train + 20 validation + 30 test images of other data"
    assert shown.endswith(f"last epoch; apple kNN and apple linear {on}")
    assert "recalibrated on clean training images of the evaluated data." in said(other, whole=True)
    assert "recalibrated on clean training images." in said(own, whole=True)
    both = (walked / "figures" / "walk-tiny-bars.txt").read_text()  # linear on the fruit, fine-tuning on the pets
    assert both.startswith("cat (64 train + 20 validation + 30 test images), SimCLR")
    assert f"last epoch; apple linear {on}; n = 2" in both


def test_documents_of_an_earlier_version_state_no_numbers_of_images(walked, monkeypatch):
    """The caption then claims none, and not the training's test images."""
    original = Results.evaluation

    def without_images(self, *arguments, **named):
        document, wrong = original(self, *arguments, **named)
        return {name: held for name, held in document.items() if name != "images"}, wrong

    monkeypatch.setattr(Results, "evaluation", without_images)
    rows = table(load(read(str(walked / "walk.py"), "tiny")), walked / "results")
    said = Bars(bars="view", values=("knn_apple_test_top1_recalibrated",)).full_caption(rows)
    assert said.startswith("cat (64 train + 20 validation images), SimCLR")
    assert "; apple kNN on images of other data; n = 2" in said


def test_numbers_of_images_are_no_results(walked):
    """Figures know the columns beforehand; no cell of them is marked as the best."""
    cells = load(read(str(walked / "walk.py"), "tiny")).cells
    table = pd.read_csv(walked / "figures" / "walk-tiny.csv").select_dtypes("number")
    assert set(table) - {"seed", "format", "notes"} <= set(columns_of(cells)[0])
    column = "fine_tune_apple_test_images"
    metric = Metric.of(column)
    assert metric == Metric.images("fine_tune_apple", "test")
    assert (metric.name, metric.label) == (column, "test images of apple fine-tuning")
    assert (metric.highest_is_best, metric.is_accuracy, metric.unit) == (False, False, "")
    assert not Bars(bars="view").marks(column)


def test_variances_are_of_evaluations_of_the_trainings_images_by_frozen_features(walked):
    assert set(pd.read_csv(walked / "figures" / "walk-tiny-images.csv")["evaluation"]) == {"knn"}


def test_predictions_have_the_classes_of_their_own_images(walked):
    found = predictions(load(read(str(walked / "walk.py"), "tiny")), walked / "results")
    assert set(found["evaluation"]) == set(LABELS)
    for label, rows in found.groupby("evaluation"):
        names = {"apple", "pear", "plum"} if label.endswith("apple") else {"cat", "dog"}
        assert set(rows["label"]) == names
        assert set(rows["predicted"]) <= names


def test_evaluations_that_train_predict_alike_for_all_statistics(walked):
    """They have only one kind, "tuned", which chooses them alone; its accuracies are the table's."""
    experiment = load(read(str(walked / "walk.py"), "tiny"))
    training = [label for label in LABELS if "fine" in label or "sgd" in label]
    kinds = {s: predictions(experiment, walked / "results", statistics=s) for s in (*STATISTICS, TUNED)}
    assert set(kinds[TUNED]["evaluation"]) == set(training)
    for found in kinds.values():
        trained = found[found["evaluation"].isin(training)].reset_index(drop=True)
        pd.testing.assert_frame_equal(trained, kinds[TUNED])
    measured = table(experiment, walked / "results").set_index("seed")
    for (label, seed), rows in kinds[TUNED].groupby(["evaluation", "seed"]):
        accuracy = 100 * (rows["label"] == rows["predicted"]).mean()
        assert accuracy == pytest.approx(measured[f"{label}_test_top1_tuned"][seed], abs=0.01)


@dataclass(frozen=True, kw_only=True)
class Copied(Shapes):
    """A data set with a remark."""

    label: str = "copied"

    @property
    def warning(self):
        return f"{self.label}: 1 of the 9 test images are training images too"


def test_remarks_about_the_images_of_an_evaluation_are_noted(tmp_path):
    """As those about the training's; each once."""
    own, other = Copied(), Copied(label="pets")
    run = small_run(dataset=own).replace(evaluations=(KNN(), KNN(dataset=other), Linear(dataset=other)))
    rows = table(Experiment(cells=(Cell(coords={"seed": 0}, run=run),), figures={}), tmp_path)
    assert rows["notes"][0] == f"{own.warning}; {other.warning}"


TRANSFER = """
from ablation import *
from helpers import SMALL, small_run

LISTED = ImageData(path="anywhere", images="cifar10-lossless-5k")


def of(scale, own=SMALL):
    return small_run(dataset=own).replace(evaluations=(KNN(dataset=scale.dataset),))
"""
EXPERIMENT = """

def experiment(scale):
    return Experiment(cells=(Cell(coords={"seed": 0}, run=of(scale, LISTED)),), figures={})
"""
SEARCH = """

def search(scale):
    return Search(suggest=lambda trial: of(scale), default=of(scale), metric="knn_pets_validation_top1_recalibrated")
"""


def test_data_may_be_those_of_an_evaluation_alone(tmp_path):
    """--data then names them, and the recorded command has it, also where the training's images need no place."""
    for name, code in ("transfer", EXPERIMENT), ("tuned", SEARCH):
        (tmp_path / f"{name}.py").write_text(TRANSFER + code)
    place = str(tmp_path / "pets")
    Path(place).mkdir()
    source = read(str(tmp_path / "transfer.py"), "cifar10", f"pets={place}")
    experiment = load(source)
    [cell] = experiment.cells
    assert cell.run.datasets[1].path == place
    assert _options_of(source, [Identified(cell, "", ())]) == ["--data pets=PLACE"]
    [search] = load_searches(read(str(tmp_path / "tuned.py"), "cifar10", f"pets={place}")).values()
    assert search.default.datasets[1].path == place


@pytest.mark.parametrize(
    ("encoder", "words"),
    [(SmallResNet(), "mean of the last layer over places"), (ViT(), "class token"), (ViT(pool="mean"), "patch")],
)
def test_an_exported_encoder_says_what_its_features_are(encoder, words, walked, monkeypatch, capsys):
    """Read from the run's own description."""
    from ablation.commands import export

    training_id = identified(load(read(str(walked / "walk.py"), "tiny")))[0].training_id
    original = export.Results.training

    def with_encoder(self, training_id):
        document, wrong = original(self, training_id)
        described = {"type": type(encoder).__name__, **{"pool": getattr(encoder, "pool", None)}}
        return {**document, "training": {**document["training"], "encoder": described}}, wrong

    monkeypatch.setattr(export.Results, "training", with_encoder)
    assert main(["export", training_id, "--to", str(walked / "e.safetensors")]) == 0
    with safe_open(walked / "e.safetensors", "pt") as file:
        assert words in file.metadata()["features"]
        assert "torchvision" not in file.metadata()["features"]


@pytest.mark.parametrize(
    ("evaluation", "label"),
    [
        (FineTune(), "fine-tuning accuracy (%)"),
        (FineTune(fraction=0.1), "fine-tuning accuracy, 10 % of labels (%)"),
        (FineTune(frozen=True, fraction=0.01), "linear (SGD) accuracy, 1 % of labels (%)"),
        (Linear(), "linear accuracy (%)"),
        (KNN(on="z"), "kNN accuracy on z (%)"),
    ],
)
def test_labels_of_evaluations(evaluation, label):
    statistics = "tuned" if isinstance(evaluation, FineTune) else "recalibrated"
    column = next(c for c in evaluation.columns() if c.endswith(f"test_top1_{statistics}"))
    assert Metric.of(column).label == label
    assert Metric.of(column).name == column
    assert Metric.of(column).highest_is_best


@pytest.mark.parametrize(
    "column",
    ["linear_sgd_test_top1_tuned", "fine_tune_10_test_top1_tuned", "linear_probe_test_top1_recalibrated",
     "linear_pets_test_top1_recalibrated", "linear_z_test_top1_recalibrated"],
)  # fmt: skip
def test_a_published_linear_accuracy_is_not_drawn_beside_another_protocol(column):
    """Nor beside a user's evaluation or other data: gradient descent on fresh views, say, is not the linear evaluation
    of the reference."""
    rows = pd.DataFrame({"strength": ["0.5", "1", "0.5", "1"], "seed": [0, 0, 1, 1]})
    rows = rows.assign(linear_test_top1_recalibrated=[1.0, 2.0, 3.0, 4.0], **{column: [1.0, 2.0, 3.0, 4.0]})
    reference = "simclr_table1_color_strength"
    Bars(bars="strength", values=("linear_test_top1_recalibrated",), reference=reference).draw(rows)
    with pytest.raises(InvalidSpec, match="must fit a panel"):
        Bars(bars="strength", values=(column,), reference=reference).draw(rows)
