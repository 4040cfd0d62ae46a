"""Images without labels: loading on request, training, and measures without labels."""

import io
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import SMALL, SMALL_EXPERIMENT, small_run, small_training
from PIL import Image

from ablation.analysis.results import predictions, table, variances
from ablation.cli import main
from ablation.data import Data, ImageData, Split, loaded
from ablation.evaluate import KNN, Invariance, Linear, Probe
from ablation.evaluate.alignment import alignment_and_uniformity
from ablation.evaluate.base import Evaluation
from ablation.evaluate.curve import curve_points
from ablation.evaluate.evaluator import evaluate
from ablation.execution.executor import Job
from ablation.execution.job import compute
from ablation.execution.plan import DataChecks
from ablation.execution.store import Results, identified
from ablation.methods import Initialization, Learner, Method, Supervised
from ablation.operators import Crop, Rotate, Sobel
from ablation.spec import DataError, Experiment, InvalidSpec, Run, identity, sweep
from ablation.training.loop import build_learner, pretrain

ROTATION = Probe(task="rotation", versions=((), (Rotate(turns=(1,)),)), epochs=1)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ABLATION_CACHE", str(tmp_path / "cache"))


def picture(seed: int, size: int = 16) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


def put(place, *folders: str, count: int = 8):
    """Loose pictures, each with other pixels."""
    for folder in folders:
        (place / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            picture(1000 * sum(folder.encode()) + number).save(place / folder / f"{number}.png")
    return place


def without(place, **changes) -> ImageData:
    return ImageData(path=place, **{"labels": False, "test": 0.25, "validation": 0.25, **changes})


def counts(data: Data) -> list[int]:
    return [len(split) for split in data.splits().values()]


# --------------------------------------------------------------------------------------------------
# Loading


def test_loose_pictures_are_loaded_without_labels_where_the_user_says_so(tmp_path):
    place = put(tmp_path / "set", "", count=16)
    for test in ("test", 0.25):
        with pytest.raises(DataError, match=r"(?s)Make a folder for each class.*labels=False"):
            without(place, test=test, labels=True).load()
    data = without(place).load()
    assert (data.classes, data.labelled) == ((), False)
    assert all(split.labels is None for split in data.splits().values())
    assert counts(data) == [9, 3, 4]
    images = {image.numpy().tobytes() for split in data.splits().values() for image in split.images}
    assert images == {np.asarray(picture(number)).transpose(2, 0, 1).tobytes() for number in range(16)}


@pytest.mark.parametrize(
    ("folders", "changes", "expected"),
    [
        (("train", "test"), {"test": "test"}, [6, 2, 8]),
        (("train/a/b", "train", "test/c"), {"test": "test"}, [12, 4, 8]),
        (("unlabeled", "test"), {"train": "unlabeled", "test": "test"}, [6, 2, 8]),
        (("train",), {}, [4, 2, 2]),
        (("cat", "dog"), {}, [9, 3, 4]),  # class folders are ignored
        (("only one",), {}, [4, 2, 2]),
    ],
    ids=str,
)
def test_without_labels_images_lie_at_any_depth_of_a_split(tmp_path, folders, changes, expected):
    assert counts(without(put(tmp_path / "set", *folders), **changes).load()) == expected


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: (p / "1.heic").write_bytes(b"x"), r"images that Pillow reads.*1\.heic.*Convert"),
        (lambda p: put(p, "train2017", "val2017") and (p / "0.png").unlink(), r"to one split.*train='train2017'"),
        (lambda p: put(p, ".hidden"), r"must not start with a dot.*\.hidden"),
        (lambda p: put(p, "train"), r"must be in the folders 'train'.*0\.png.*Move"),
    ],
)
def test_without_labels_too_every_image_is_used_or_named(tmp_path, change, words):
    place = put(tmp_path / "set", "", count=1)
    change(place)
    with pytest.raises(DataError, match=words):
        without(place).load()


def test_texts_beside_loose_pictures_are_left_alone(tmp_path):
    place = put(tmp_path / "set", "", count=16)
    for name in ("LICENSE", "README.md", "metadata.csv"):
        (place / name).write_text("")
    assert counts(without(place).load()) == [9, 3, 4]


def write_parquet(place, labels: bool):
    import datasets

    rows = []
    for number in range(16):
        picture(number).save(held := io.BytesIO(), "PNG")
        rows.append({"image": {"bytes": held.getvalue(), "path": None}} | ({"kind": number % 2} if labels else {}))
    kinds = {"image": datasets.Image()} | ({"kind": datasets.Value("int64")} if labels else {})
    place.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_list(rows, features=datasets.Features(kinds)).to_parquet(place)
    return place


@pytest.mark.parametrize("labels", [True, False])
def test_parquet_without_a_column_of_labels(tmp_path, labels):
    """Or with an unread one: the images are the same."""
    place = write_parquet(tmp_path / "set" / "train.parquet", labels)
    with pytest.raises(DataError, match=r"label_column must name.*or train without labels: labels=False"):
        without(place, labels=True).load()
    data = without(place).load()
    assert data.classes == ()
    assert counts(data) == [9, 3, 4]


def test_labels_are_a_part_of_the_identity(tmp_path):
    place = put(tmp_path / "set", "cat", "dog")
    labelled = ImageData(path=place, test=0.25, validation=0.25)
    assert identity(labelled) == identity(labelled.replace(labels=True)) != identity(without(place))
    assert labelled.load().classes == ("cat", "dog")
    assert without(place).load().classes == ()
    for changes, words in (
        ({"labels": "no"}, r"ImageData\.labels must be True or False, but got 'no'"),
        ({"labels": False, "label_column": "kind"}, r"ImageData\.label_column must be omitted with labels=False"),
        ({"labels": False, "images": "cifar10-lossless-5k"}, r"ImageData\.labels must be left out beside images="),
    ):
        with pytest.raises(InvalidSpec, match=words):
            ImageData(path="somewhere", **changes)


# --------------------------------------------------------------------------------------------------
# A user's data sets


@dataclass(frozen=True, kw_only=True)
class Loose(type(SMALL)):
    """Shapes without labels, which it does not state."""

    label = "loose"

    def load(self) -> Data:
        return Data(**{name: Split(split.images) for name, split in super().load().splits().items()})


@dataclass(frozen=True, kw_only=True)
class Stated(Loose):
    labels = False


@dataclass(frozen=True, kw_only=True)
class Misstated(Loose):
    labels = True


LOOSE, STATED, MISSTATED = (cls(train=140, validation=40, test=60, size=16) for cls in (Loose, Stated, Misstated))


def test_data_have_labels_and_classes_or_neither():
    data = SMALL.load()
    images = {name: Split(split.images) for name, split in data.splits().items()}
    assert Data(**images).classes == ()
    with pytest.raises(DataError, match=r"Split\.labels, but validation has none"):
        Data(**data.splits() | {"validation": images["validation"]}, classes=data.classes)
    with pytest.raises(DataError, match=r"Data\.classes must name at least two classes.*omit"):
        Data(**data.splits())


def test_data_without_labels_go_to_a_device_and_join_their_splits():
    data = LOOSE.load()
    moved = data.to(torch.device("meta"))
    assert moved.device == moved.mean.device == moved.train.images.device == torch.device("meta")
    both = data.training(with_validation=True)
    assert (len(both), both.labels) == (140, None)


def test_a_data_set_that_states_labels_and_has_none_is_refused():
    assert loaded(LOOSE, "cpu").labelled is loaded(STATED, "cpu").labelled is False
    with pytest.raises(DataError, match=r"Misstated .*return labels, as it states"):
        loaded(MISSTATED, "cpu")


# --------------------------------------------------------------------------------------------------
# Needs for labels are declared


@dataclass(frozen=True, kw_only=True)
class Spread(Evaluation):
    """The deviation of h over test images."""

    name = "spread"
    needs_labels = False

    def evaluate(self, features):
        assert features.labels == {}
        return {"test_deviation": features.h["test"].std(0).mean().item()}, {}, []


@pytest.mark.parametrize("evaluation", [KNN(), Linear(), Linear(on="z")], ids=lambda e: e.label)
def test_an_evaluation_that_needs_labels_is_refused_when_the_run_is_built(evaluation):
    with pytest.raises(InvalidSpec, match=rf"Run\.evaluations\[1\]: '{evaluation.label}' needs labels.*'loose'.*Probe"):
        Run(training=small_training(dataset=STATED), evaluations=(ROTATION, evaluation))


def test_a_method_that_needs_labels_is_refused_when_the_training_is_built():
    with pytest.raises(InvalidSpec, match=r"Training\.method: 'supervised' needs labels.*'loose'.*SimCLR"):
        small_training(dataset=STATED, method=Supervised())


def test_an_evaluation_on_other_images_is_held_against_those():
    """KNN is allowed on labelled images after training without labels, but not on unlabelled ones."""
    Run(training=small_training(dataset=STATED), evaluations=(KNN(dataset=SMALL),))
    with pytest.raises(InvalidSpec, match=r"Run\.evaluations\[0\]: 'knn_loose' needs labels.*'loose'"):
        Run(training=small_training(), evaluations=(KNN(dataset=STATED),))
    with pytest.raises(InvalidSpec, match=r"3 channels, but the images of 'shapes' have 1.*channels=3"):
        Run(training=small_training(), evaluations=(KNN(dataset=SMALL.replace(channels=1)),))


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (small_run(dataset=LOOSE), "'knn' needs labels"),
        (Run(training=small_training(dataset=LOOSE, method=Supervised()), evaluations=()), "'supervised' needs labels"),
    ],
)
def test_where_a_data_set_does_not_state_it_the_images_tell_before_the_first_step(run, words, tmp_path):
    with pytest.raises(InvalidSpec, match=words):
        DataChecks(Results(tmp_path)).check([Job.of(run)], [])


@dataclass(frozen=True, kw_only=True)
class Secretly(Method):
    """Uses labels without declaring it."""

    label = "secretly"

    def build(self, encoder, classes):
        return UsesLabels(encoder, torch.nn.Identity())


class UsesLabels(Learner):
    def loss(self, views, labels):
        return sum(z.square().mean() for z in self.embed(views)) * labels.float().mean(), {}


def test_a_method_of_a_user_that_uses_labels_unsaid_is_refused():
    training = small_training(dataset=STATED, method=Secretly())
    with pytest.raises(InvalidSpec, match=r"Secretly .*a method that uses labels must declare it.*needs_labels = True"):
        pretrain(training, loaded(STATED, "cpu"))


# --------------------------------------------------------------------------------------------------
# Training and measures


def test_the_weights_do_not_depend_on_labels_that_a_method_does_not_use():
    trained = [pretrain(small_training(dataset=d), loaded(d, "cpu")) for d in (SMALL, STATED)]
    one, other = (each.learner.state_dict() for each in trained)
    assert all(torch.equal(one[name], other[name]) for name in one)
    measured = [
        alignment_and_uniformity(each.learner, small_training(dataset=d), loaded(d, "cpu"))
        for each, d in zip(trained, (SMALL, STATED), strict=True)
    ]
    assert measured[0] == measured[1]


def test_a_run_without_labels_predicts_no_classes(tmp_path):
    """Its probe predicts versions of the images."""
    run = Run(training=small_training(dataset=STATED), evaluations=(ROTATION,))
    experiment = Experiment(
        cells=sweep(lambda cell: run, cell=[0], seeds=[0]),
        figures={},
    )
    results = Results(tmp_path)
    [item] = identified(experiment)
    for files in compute(item.cell.run.training, item.cell.run.evaluations, None, "cpu"):
        results.write(item.training_id, files)
    assert table(experiment, results)["probe_rotation_test_top1_running"].notna().all()
    assert predictions(experiment, results).empty
    assert variances(experiment, results).empty


def test_measures_without_labels_are_those_of_the_same_images_with_labels():
    """Uniformity and alignment are above; here the probe, invariance and a user's evaluation. Batch norm's statistics
    are of the images in a random order if labels cannot tell that theirs mixes the classes, so they are rounded
    otherwise, and an image of 60 may change sides."""
    evaluations = (ROTATION, Invariance(operators=(Crop(), Sobel())))
    training = small_training(method=Initialization())
    found = []
    for dataset in (SMALL, STATED):
        data = loaded(dataset, "cpu")
        found.append(evaluate(evaluations, build_learner(training, data).encoder, data, "float32"))
    for one, other in zip(*found, strict=True):
        images = 100 / 60 if one.metrics.keys() >= {"test_top1_running"} else 0
        assert one.metrics == pytest.approx(other.metrics, rel=1e-4, abs=1.01 * images)
    [spread] = evaluate([Spread()], build_learner(training, data).encoder, data, "float32")
    assert spread.metrics["test_deviation_running"] > 0
    points = curve_points(build_learner(small_training(), data), data, "float32", on_test=True)
    assert points.keys() == {"z_deviation", "z_rank"}


QUESTION = (
    SMALL_EXPERIMENT
    + """
from ablation import ImageData, Probe, Rotate, Curves

def experiment(scale):
    images = ImageData(path={place!r}, labels=False, test=0.25, validation=0.25)
    probe = Probe(task="rotation", versions=((), (Rotate(turns=(1,)),)), epochs=1)
    scale = small(scale).replace(dataset=images, evaluations=(probe,), curve_every=1)
    cells = pairwise((Crop(), Sobel()), lambda view: scale.run(scale.simclr(), views=(view, ())), seeds=range(2))
    maps = {{
        name: Heatmap(rows="first", columns="second", values=(value,))
        for name, value in dict(uniformity="uniformity", rotation="probe_rotation_test_top1_recalibrated").items()
    }}
    curves = Curves(lines="first", where={{"second": "crop"}}, values=("loss",))
    return Experiment(cells=cells, figures=maps | {{"loss": curves}})
"""
)


def test_an_experiment_on_loose_pictures_from_end_to_end(place, tmp_path, monkeypatch, capsys):
    pictures = put(tmp_path / "pictures", "", count=80)
    monkeypatch.chdir(place(QUESTION.format(place=str(pictures))))
    assert main(["run", "question.py", "--scale", "tiny", "--dry-run"]) == 0
    assert main(["run", "question.py", "--scale", "tiny", "--workers", "1"]) == 0
    table = pd.read_csv(tmp_path / "figures" / "question-tiny.csv")
    assert (table["state"] == "finished").all()
    for column in ("loss", "alignment", "uniformity", "probe_rotation_test_top1_recalibrated"):
        assert table[column].notna().all(), column
    assert not [column for column in table if column.startswith(("knn", "linear", "validation_k", "validation_l"))]
    curves = pd.read_csv(tmp_path / "figures" / "question-tiny-curves.csv")
    assert "loss" in curves
    assert not [column for column in curves if column.startswith("validation_")]
    for name in ("uniformity", "rotation"):
        assert (tmp_path / "figures" / f"question-tiny-{name}.png").stat().st_size > 1000
    capsys.readouterr()
    assert main(["status"]) == 0
    assert re.search(r"question \(tiny\): .*8 .*finished", capsys.readouterr().out)
    assert main(["figures", "question.py", "--scale", "tiny"]) == 0
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.md.jinja").write_text("# Photos\n\n{{ grid }}\n")
    (tmp_path / "report" / "values.py").write_text(
        "from ablation.report import Table\n\n"
        'grid = Table("question-tiny", cell=("first", "second")).heatmap("uniformity", "Uniformity of z")\n'
    )
    assert main(["report"]) == 0
    assert "Uniformity of z" in (tmp_path / "report" / "report.html").read_text()


def test_the_default_evaluations_of_a_scale_are_refused_with_the_cure(place, tmp_path, monkeypatch, capsys):
    pictures = put(tmp_path / "pictures", "", count=80)
    code = QUESTION.format(place=str(pictures)).replace(", evaluations=(probe,)", "")
    monkeypatch.chdir(place(code))
    assert main(["run", "question.py", "--scale", "tiny"]) == 2
    said = capsys.readouterr().err
    for word in ("'knn' needs labels", "'pictures'", "scale.replace(evaluations=(Probe("):
        assert word in said
    assert "Traceback" not in said
