"""Data sets: the control's dial, and refusals."""

import io
import itertools
import re
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from helpers import ROOT, SMALL_EXPERIMENT, small_training
from PIL import Image

from ablation.cli import main
from ablation.data import ImageData, Shapes, loaded
from ablation.data import survey as source
from ablation.data.dataset import Data, Split, cut_validation
from ablation.evaluate.base import Evaluation
from ablation.execution.executor import Job
from ablation.execution.job import compute
from ablation.execution.plan import DataChecks
from ablation.execution.store import Results, identified
from ablation.operators import Crop
from ablation.operators.pipeline import make_views
from ablation.spec import Cell, DataError, Experiment, InvalidSpec, Run, identity

CLASSES = ("cat", "dog", "owl")


# --------------------------------------------------------------------------------------------------
# shapes


def histograms(images: torch.Tensor) -> torch.Tensor:
    """(N, 512): 8 x 8 x 8 colors."""
    bins = (images.long() // 32).permute(0, 2, 3, 1) @ torch.tensor([64, 8, 1])
    return torch.stack([torch.bincount(b.flatten(), minlength=512).float() for b in bins]) / images[0, 0].numel()


def found_by_color(shortcut: float) -> tuple[float, float]:
    """How often a color histogram identifies the source image of a crop (a quarter to half of it) among 500, and
    how often the 20 nearest histograms vote for its class; percent."""
    data = Shapes(train=520, validation=20, test=20, shortcut=shortcut).load()
    images, labels = data.train.images, data.train.labels
    crops = make_views(images, (), ((Crop(area=(0.25, 0.5)),),), (0,))[0].mul(255).byte()
    whole = histograms(images)
    found = torch.cdist(histograms(crops), whole, p=1).argmin(1) == torch.arange(len(images))
    distance = torch.cdist(whole, whole, p=1).fill_diagonal_(9)
    votes = labels[distance.topk(20, largest=False).indices].mode(1).values
    return 100 * found.float().mean().item(), 100 * (votes == labels).float().mean().item()


def test_at_one_color_identifies_images_but_not_classes():
    image, label = found_by_color(1.0)
    assert image > 60  # chance 0.2
    assert label < 16  # chance 10, standard error 1.3


def test_at_zero_color_identifies_neither():
    image, label = found_by_color(0.0)
    assert image < 4  # chance 0.2
    assert label < 16


def test_shapes_are_the_seed_and_nothing_else():
    one, two = Shapes(train=40, validation=10, test=10).load(), Shapes(train=40, validation=10, test=10).load()
    assert torch.equal(one.train.images, two.train.images)
    assert not torch.equal(one.test.images, Shapes(train=40, validation=10, test=10, seed=1).load().test.images)
    assert one.train.images.dtype == torch.uint8
    assert one.train.images.shape == (30, 3, 32, 32)
    assert (len(one.validation), len(one.test)) == (10, 10)


def test_the_dial_changes_colors_only():
    """The shapes stay in place for all settings of the dial."""
    grey = [Shapes(train=40, validation=10, test=10, shortcut=s).load().train.images.float().mean(1) for s in (0, 1)]
    corr = [np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in zip(*grey, strict=True)]
    assert min(corr) > 0.9


def test_statistics_are_those_of_the_training_images():
    data = Shapes(train=60, validation=20, test=20).load()
    pixels = data.train.images.double() / 255
    torch.testing.assert_close(data.mean, pixels.mean((0, 2, 3)).float())
    torch.testing.assert_close(data.std, pixels.std((0, 2, 3), correction=0).float())


def test_validation_keeps_the_classes_shares():
    labels = torch.tensor([0] * 500 + [1] * 300 + [2] * 200)
    rest, held_out = cut_validation(labels, 100, seed=0)
    assert torch.bincount(labels[held_out]).tolist() == [50, 30, 20]
    assert sorted(torch.cat([rest, held_out]).tolist()) == list(range(1000))
    assert torch.equal(cut_validation(labels, 100, seed=0)[1], held_out)
    assert not torch.equal(cut_validation(labels, 100, seed=1)[1], held_out)


@pytest.mark.parametrize(
    "changes", [{"shortcut": 1.5}, {"train": 5}, {"validation": 6000}, {"noise": -1.0}, {"size": 8}]
)
def test_bad_shapes(changes):
    with pytest.raises(InvalidSpec, match=f"Shapes.{next(iter(changes))}"):
        Shapes(**changes)


# --------------------------------------------------------------------------------------------------
# A user's images


def picture(number: int, size=(20, 20), mode="RGB") -> Image.Image:
    values = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


@pytest.fixture
def folder(tmp_path):
    """train/ and test/, three classes of six images."""
    for s, split in enumerate(("train", "test")):
        for c, name in enumerate(CLASSES):
            place = tmp_path / "pets" / split / name
            place.mkdir(parents=True)
            for i in range(6):
                picture(100 * s + 10 * c + i).save(place / f"{i}.png")
    return tmp_path / "pets"


def write_parquet(path, rows, classes=CLASSES):
    import datasets

    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=list(classes))})
    encoded = []
    for image, label in rows:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        encoded.append({"img": {"bytes": buffer.getvalue(), "path": None}, "label": label})
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_list(encoded, features=features).to_parquet(path)


def test_a_folder_of_class_folders(folder):
    data = ImageData(path=folder, validation=0.5).load()
    assert data.classes == CLASSES
    assert (len(data.train), len(data.validation), len(data.test)) == (9, 9, 18)
    assert data.train.images.shape[1:] == (3, 20, 20)
    original = torch.from_numpy(np.array(picture(100 + 20))).permute(2, 0, 1)  # owl 0 of test
    assert any(torch.equal(image, original) for image in data.test.images[data.test.labels == 2])


def test_resized_to_the_stated_size(folder):
    assert ImageData(path=folder, validation=0.5, size=12).load().train.images.shape[1:] == (3, 12, 12)


def test_a_folder_without_a_test_split(folder):
    one = folder / "train"
    with pytest.raises(DataError, match=r"ImageData.train must .*not in \['cat', 'dog', 'owl'\].*test=0.2"):
        ImageData(path=one).load()
    data = ImageData(path=one, test=1 / 3, validation=0.25).load()
    assert (len(data.train), len(data.validation), len(data.test)) == (9, 3, 6)
    images = {image.numpy().tobytes() for part in data.splits().values() for image in part.images}
    assert len(images) == 18


def test_parquet_equals_folder(folder, tmp_path):
    for s, split in enumerate(("train", "test")):
        rows = [(picture(100 * s + 10 * c + i), c) for c in range(3) for i in range(6)]
        write_parquet(tmp_path / "parquet" / f"{split}-00000-of-00001.parquet", rows)
    parquet = ImageData(path=tmp_path / "parquet", validation=0.5)
    assert torch.equal(parquet.load().train.images, ImageData(path=folder, validation=0.5).load().train.images)
    single = ImageData(path=tmp_path / "parquet" / "train-00000-of-00001.parquet", test=0.5, validation=0.5)
    assert len(single.load().test) == 9


def test_grey_images_become_three_channels(tmp_path):
    for name in CLASSES:
        for split in ("train", "test"):
            place = tmp_path / split / name
            place.mkdir(parents=True)
            for i in range(2):
                picture(i, mode="L").save(place / f"{i}.png")
    images = ImageData(path=tmp_path, validation=0.5).load().train.images
    assert torch.equal(images[:, 0], images[:, 2])


def test_the_identity_is_the_content(folder, tmp_path):
    first = identity(ImageData(path=folder, validation=0.5))
    moved = folder.rename(tmp_path / "moved")
    assert identity(ImageData(path=moved, validation=0.5, name="my pets")) == first
    other = tmp_path / "other"
    moved.rename(other)
    picture(777).save(other / "train" / "cat" / "0.png")
    assert identity(ImageData(path=other, validation=0.5)) != first


def test_a_revision_stands_for_the_content(tmp_path, monkeypatch):
    """For upright images only the commit counts, as before; a tag that turns an image counts too."""
    monkeypatch.setenv("ABLATION_CACHE", str(tmp_path))
    for commit, orientation, content in ("a" * 40, 1, "a" * 40), ("b" * 40, 6, "b" * 40 + ":turned"):
        asked = on_the_hub(monkeypatch, orientation)
        data = ImageData(path="someone/something", revision=commit)
        assert data.fingerprint() == content
        source._surveyed.cache_clear()  # as another process, which reads neither images nor network
        assert data.replace(size=8).fingerprint() == content
        assert len(asked) == 1


def test_settings_of_a_revision_are_told_apart(monkeypatch):
    """Also if their concatenations are equal."""
    monkeypatch.setattr("ablation.data.images.surveyed", lambda source: SimpleNamespace(turned=False))
    values = (None, "a", "b", "a:b", "turned", 'a","b')
    data = ImageData(path="someone/something", revision="a" * 40)
    settings = [dict(zip(NAMED, three, strict=True)) for three in itertools.product(values, repeat=3)]
    assert len({data.replace(**each).fingerprint() for each in settings}) == len(settings)


NAMED = ("config", "image_column", "label_column")


def on_the_hub(monkeypatch, orientation: int) -> list:
    """A fake Hub whose images have that tag; returns its calls."""
    import datasets

    exif, asked = Image.Exif(), []
    exif[0x0112] = orientation
    images = []
    for seed in range(4):
        held = io.BytesIO()
        picture(seed).save(held, "PNG", exif=exif)
        images.append({"bytes": held.getvalue(), "path": None})
    kinds = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["cat", "dog"]))
    split = datasets.Dataset.from_dict({"image": images, "label": [0, 1, 0, 1]}, kinds)
    monkeypatch.setattr("datasets.load_dataset", lambda *a, **k: asked.append(a) or {"train": split, "test": split})
    monkeypatch.setattr("ablation.data.reader._refuse_other_classes", lambda *_: None)
    return asked


def test_a_revision_says_nothing_about_a_folder(folder):
    content = ImageData(path=folder).fingerprint()
    assert ImageData(path=folder, revision="a" * 40).fingerprint() == content


def test_missing_places(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"ImageData.path must be a folder.*does not exist"):
        ImageData(path=tmp_path / "nothing").load()
    unreached = ConnectionError("Couldn't reach the Hub")
    monkeypatch.setattr("datasets.load_dataset", lambda *a, **k: (_ for _ in ()).throw(unreached))
    with pytest.raises(DataError, match=r"'nobody/nothing' failed: Couldn't reach the Hub\. .*--data"):
        ImageData(path="nobody/nothing").fingerprint()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"ImageData\.path '.*empty': it must hold images"):
        ImageData(path=tmp_path / "empty").load()


def test_an_unreadable_image(folder):
    """One error names all: files that are no images while counting, truncated images while decoding."""
    for i in (1, 3):
        (folder / "train" / "dog" / f"{i}.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"2 images .*: train/dog/1.png .*train/dog/3.png .*Remove or replace"):
        ImageData(path=folder, validation=0.5).fingerprint()
    for i in (1, 3):
        picture(i).save(folder / "train" / "dog" / f"{i}.png")
        content = (folder / "train" / "dog" / f"{i}.png").read_bytes()
        (folder / "train" / "dog" / f"{i}.png").write_bytes(content[:-300])
    with pytest.raises(DataError, match=r"2 images .*: train/dog/1.png .*train/dog/3.png .*Remove or replace"):
        ImageData(path=folder, validation=0.5).load()


def test_a_truncated_parquet_file(tmp_path):
    path = tmp_path / "train.parquet"
    write_parquet(path, [(picture(i), i % 3) for i in range(12)])
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"reading .* failed"):
        ImageData(path=path, test=0.2).load()


def test_mixed_sizes_need_a_size(folder):
    picture(1, size=(30, 24)).save(folder / "train" / "cat" / "0.png")
    with pytest.raises(DataError, match=r"ImageData.size must be given .* 2 sizes .20 x 20, 30 x 24"):
        ImageData(path=folder, validation=0.5).load()
    assert ImageData(path=folder, size=16, validation=0.5).load().size == 16


def test_splits_of_different_sizes_need_a_size(folder):
    for path in (folder / "test").rglob("*.png"):
        picture(1, size=(40, 40)).save(path)
    with pytest.raises(DataError, match=r"2 sizes .20 x 20, 40 x 40"):
        ImageData(path=folder, validation=0.5).load()


def test_sixteen_bit_grey_is_scaled(folder):
    values = (np.arange(400, dtype=np.uint16) * 160).reshape(20, 20)
    for path in (folder / "train").rglob("*.png"):
        Image.fromarray(values).save(path)
    images = ImageData(path=folder, validation=0.5).load().train.images
    expected = torch.from_numpy((values / 257).round().astype(np.uint8))
    assert torch.equal(images[0, 0], expected)


def test_hidden_folders_are_no_classes(folder):
    (folder / ".cache").mkdir()
    assert ImageData(path=folder, validation=0.5).load().classes == CLASSES


def test_columns_may_be_named(tmp_path):
    """CIFAR-100's layout: two columns of class labels; and plain strings as labels."""
    import datasets

    kinds = {"img": datasets.Image(), "fine": datasets.ClassLabel(names=["a", "b", "c"])}
    kinds |= {"coarse": datasets.ClassLabel(names=["x", "y"]), "word": datasets.Value("string")}
    rows = []
    for i in range(12):
        buffer = io.BytesIO()
        picture(i).save(buffer, "PNG")
        image = {"bytes": buffer.getvalue(), "path": None}
        rows.append({"img": image, "fine": i % 3, "coarse": i % 2, "word": ("no", "yes")[i % 2]})
    path = tmp_path / "train.parquet"
    datasets.Dataset.from_list(rows, features=datasets.Features(kinds)).to_parquet(path)
    with pytest.raises(
        DataError, match=r"ImageData.label_column must name .* 2 columns are declared as such.*Add label_column"
    ):
        ImageData(path=path, test=0.5).load()
    assert ImageData(path=path, test=0.5, validation=0.5, label_column="fine").load().classes == ("a", "b", "c")
    assert ImageData(path=path, test=0.5, validation=0.5, label_column="word").load().classes == ("no", "yes")


def test_a_class_without_images(folder, tmp_path):
    (folder / "train" / "emu").mkdir()
    with pytest.raises(DataError, match=r"every class folder must contain images, but 'train/emu'"):
        ImageData(path=folder).load()
    rows = [(picture(i), i % 2) for i in range(12)]
    write_parquet(tmp_path / "two" / "train.parquet", rows)
    with pytest.raises(DataError, match=r"every class must have an image in every split, but 'owl' has none"):
        ImageData(path=tmp_path / "two", test=0.3).load()


def test_columns_that_are_no_images(tmp_path):
    import pandas as pd

    pd.DataFrame({"x": [1, 2], "y": [3, 4]}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"ImageData\.image_column must name the column of the images"):
        ImageData(path=tmp_path / "train.parquet", test=0.2).load()


def test_more_images_than_there_are(folder):
    with pytest.raises(InvalidSpec, match=r"ImageData.train_images must be at most 18"):
        ImageData(path=folder, train_images=19).load()


# --------------------------------------------------------------------------------------------------
# Real images, if a folder with them is beside the repository

BESIDE = ROOT.parent / "shared" / "data"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "train", "test", "first"),
    [("cifar10-lossless-subset", 5_170, 1_017, "airplane"), ("cifar10", 50_000, 10_000, "airplane")],
)
def test_cifar10_as_parquet(name, train, test, first):
    if not (BESIDE / name).is_dir():
        pytest.skip(f"no folder {name} with CIFAR-10 as parquet files beside the repository")
    data = ImageData(path=BESIDE / name).load()
    assert len(data.train) + len(data.validation) == train
    assert len(data.test) == test
    assert data.classes[0] == first
    assert data.train.images.shape[1:] == (3, 32, 32)
    # The published channel statistics of CIFAR-10's training images.
    torch.testing.assert_close(data.mean, torch.tensor([0.4914, 0.4822, 0.4465]), rtol=0, atol=0.01)
    torch.testing.assert_close(data.std, torch.tensor([0.2470, 0.2435, 0.2616]), rtol=0, atol=0.01)


def test_one_class_is_refused():
    """With one class there is nothing to classify."""
    data = Shapes(train=20, validation=10, test=10, size=16).load()
    with pytest.raises(DataError, match=r"Data\.classes must name at least two classes"):
        Data(data.train, data.validation, data.test, ("cat",))


# --------------------------------------------------------------------------------------------------
# A user's data sets


@dataclass(frozen=True, kw_only=True)
class Mine(Shapes):
    """Splits of shapes, changed by the named function."""

    how: str = "sound"

    def load(self) -> Data:
        return HOW[self.how](super().load())


def split_of(split: Split, rows) -> Split:
    return Split(split.images[rows], split.labels[rows])


def with_splits(data: Data, **splits: Split) -> Data:
    return Data(**{**data.splits(), **splits}, classes=data.classes)


def reshaped(images: torch.Tensor) -> torch.Tensor:
    """Arrays (N, H, W, 3) wrongly reshaped to (N, 3, H, W)."""
    return images.permute(0, 2, 3, 1).reshape(images.shape)


CALLS = itertools.count()
HOW = {
    "sound": lambda d: d,
    "other order": lambda d: with_splits(d, train=split_of(d.train, torch.arange(len(d.train)).roll(next(CALLS)))),
    "other labels": lambda d: with_splits(d, test=Split(d.test.images, d.test.labels.roll(next(CALLS)))),
    "other classes": lambda d: Data(**d.splits(), classes=(*d.classes[:-1], f"class {next(CALLS)}")),
    "test is train": lambda d: with_splits(d, test=d.train),
    "a test image too": lambda d: with_splits(d, train=both(d.train, split_of(d.test, [3]))),
    "validation is test": lambda d: with_splits(d, validation=d.test),
    "arrays": lambda d: with_splits(d, train=Split(reshaped(d.train.images), d.train.labels)),
    "sixteenths": lambda d: with_splits(d, train=Split(d.train.images // 17, d.train.labels)),
    "shares of one": lambda d: with_splits(d, train=Split(d.train.images // 128, d.train.labels)),
    "one image": lambda d: with_splits(d, test=Split(d.test.images[:1].expand_as(d.test.images), d.test.labels)),
    "two labels": lambda d: with_splits(d, test=both(d.test, Split(d.test.images[:1], (d.test.labels[:1] + 1) % 10))),
    "no test images": lambda d: with_splits(d, test=split_of(d.test, d.test.labels != 4)),
    "no training images": lambda d: with_splits(d, train=split_of(d.train, d.train.labels != 4)),
    "no validation images": lambda d: with_splits(d, validation=split_of(d.validation, d.validation.labels != 4)),
}  # fmt: skip


def both(one: Split, other: Split) -> Split:
    return Split(torch.cat([one.images, other.images]), torch.cat([one.labels, other.labels]))


def mine(how: str) -> Mine:
    return Mine(train=140, validation=40, test=60, size=16, how=how)


def test_a_sound_data_set_of_a_user_is_loaded_as_it_is(capsys):
    data, expected = loaded(mine("sound"), "cpu"), Shapes(train=140, validation=40, test=60, size=16).load()
    assert all(
        torch.equal(a.images, b.images) for a, b in zip(data.splits().values(), expected.splits().values(), strict=True)
    )
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("how", ["other order", "other labels", "other classes"])
def test_a_data_set_that_differs_from_call_to_call_is_refused(how):
    with pytest.raises(DataError, match=r"Mine \('shapes'\): load\(\) must return the same .*fixed seed"):
        loaded(mine(how), "cpu")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("test is train", "100 of the 100 images of test are also in train"),
        ("a test image too", "1 of the 60 images of test are also in train"),
        ("validation is test", "60 of the 60 images of test are also in validation"),
        ("one image", "59 of the 60 images of test are copies of others"),
        ("two labels", "1 of its 200 different images have several labels"),
        ("arrays", "pixels of its images at distance 3 are more alike than neighbours.*permute"),
        ("sixteenths", "the brightest value of its training images is 15 of 255, .* by 255 / 15 before"),
        ("shares of one", r"the brightest value of its training images is 1 of 255, .*\[0, 1\].* by 255 before"),
    ],
)
def test_images_that_are_in_two_splits_are_counted(how, said, capsys):
    loaded(mine(how), "cpu")
    assert re.search(said, capsys.readouterr().err)
    loaded(mine(how), "cpu")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("split", ["test", "train", "validation"])
def test_a_class_that_a_split_lacks_is_named(split):
    how = {"train": "no training images"}.get(split, f"no {split} images")
    with pytest.raises(DataError, match=rf"images of every class in every split, but {split} has none of 'triangle'"):
        loaded(mine(how), "cpu")


OF_AN_EVALUATION = """
from ablation.evaluate import KNN

@dataclass(frozen=True, kw_only=True)
class Own(Shapes):
    label = "own"

    def load(self):
        data = super().load()
        HOW
        return data

def experiment(scale):
    scale = small(scale).replace(evaluations=(KNN(k=(5,), dataset=Own(train=140, validation=40, test=60, size=16)),))
    return Experiment(cells=sweep(lambda t: scale.run(scale.simclr(), views=((), ())), t=[1], seeds=[0]), figures={})
"""


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        ("data.test.images.random_(256)", 2, r"Own \('own'\): load\(\) must return the same"),
        ("data.test.images[:9] = data.train.images[:9]", 0, r"Own \('own'\): 9 of the 60 images of test are also in"),
        ("data = Data(*(Split(s.images) for s in data.splits().values()), classes=())", 2, "'knn_own' needs labels"),
    ],
)
def test_the_images_of_an_evaluation_are_checked_before_the_run(how, code, words, place, monkeypatch, capsys):
    """Also if worker processes load them."""
    source = SMALL_EXPERIMENT + "from ablation import Data, Split\n" + OF_AN_EVALUATION.replace("HOW", how)
    monkeypatch.chdir(place(source))
    monkeypatch.setattr("ablation.data.loading._seen", {})
    assert main(["run", "question.py", "--workers", "1"]) == code
    assert re.search(words, capsys.readouterr().err)
    assert bool(list(Path("results").glob("*/training.json"))) == (code == 0)


def test_changed_images_of_an_evaluation_are_named(place, monkeypatch, capsys):
    how = "turn = int(open('turn.txt').read())\n        data.test.labels.copy_(data.test.labels.roll(turn))"
    source = SMALL_EXPERIMENT + OF_AN_EVALUATION.replace("HOW", how)
    monkeypatch.chdir(place(source))
    Path("turn.txt").write_text("0")
    assert main(["run", "question.py", "--workers", "1"]) == 0
    loaded.cache_clear()
    monkeypatch.setattr("ablation.data.loading._seen", {})  # as in another process
    Path("turn.txt").write_text("1")
    capsys.readouterr()
    Path("question.py").write_text(source.replace("seeds=[0]", "seeds=[0, 1]"))
    assert main(["run", "question.py", "--workers", "1"]) == 2
    assert re.search(r"Own \('own'\): load\(\) .* of the 60 labels of test differ", capsys.readouterr().err)


def test_the_dry_run_loads_a_data_set_twice_too(place, monkeypatch, capsys):
    monkeypatch.chdir(place(SMALL_EXPERIMENT + DRAWN))
    assert main(["run", "question.py", "--dry-run"]) == 2
    assert re.search(r"question.py: Drawn \('shapes'\): load\(\) must return the same", capsys.readouterr().err)


DRAWN = """
@dataclass(frozen=True, kw_only=True)
class Drawn(Shapes):
    def load(self):
        data = super().load()
        data.test.images.random_(256)
        return data

def experiment(scale):
    scale = small(scale).replace(dataset=Drawn(train=140, validation=40, test=60, size=16))
    return Experiment(cells=sweep(lambda t: scale.run(scale.simclr(), views=((), ())), t=[1], seeds=[0]), figures={})
"""


def like_another_process(monkeypatch) -> None:
    loaded.cache_clear()
    monkeypatch.setattr("ablation.data.loading._seen", {})


def test_a_file_that_changes_between_runs_is_named_unless_the_identity_holds_it(place, monkeypatch, capsys):
    """No id contains the images of a file that a class reads; one table could mix cells of two contents."""
    monkeypatch.chdir(place(SMALL_EXPERIMENT + READING))
    Path("add.txt").write_text("0")
    assert main(["run", "question.py", "--workers", "1", "--only", "t=1"]) == 0
    like_another_process(monkeypatch)
    assert main(["run", "question.py", "--workers", "1", "--only", "t=2"]) == 0  # the same images
    like_another_process(monkeypatch)
    Path("add.txt").write_text("9")
    capsys.readouterr()
    assert main(["run", "question.py", "--workers", "1"]) == 2
    said = capsys.readouterr().err
    assert re.search(r"Reading \('shapes'\): load\(\) must return the same data.* finished runs.*the mean ", said)
    assert "def fingerprint(self) -> str" in said
    fingerprint = "    def fingerprint(self):\n        return open('add.txt').read()\n\n    def load"
    Path("question.py").write_text(Path("question.py").read_text().replace("    def load", fingerprint))
    assert main(["run", "question.py", "--workers", "1", "--only", "t=1"]) == 0


def test_labels_that_change_between_runs_are_named(place, monkeypatch, capsys):
    """The same images and number per class."""
    monkeypatch.chdir(
        place(
            SMALL_EXPERIMENT
            + READING.replace("classes=data.classes)", "classes=data.classes))").replace(
                "return Data(", "return turned(Data("
            )
            + TURNED
        )
    )
    Path("add.txt").write_text("0")
    Path("turn.txt").write_text("")
    assert main(["run", "question.py", "--workers", "1", "--only", "t=1"]) == 0
    like_another_process(monkeypatch)
    assert main(["run", "question.py", "--workers", "1", "--only", "t=2"]) == 0
    for split, of in {"train": 100, "validation": 40, "test": 60}.items():
        like_another_process(monkeypatch)
        Path("turn.txt").write_text(split)
        capsys.readouterr()
        assert main(["run", "question.py", "--workers", "1"]) == 2
        said = capsys.readouterr().err
        assert re.search(rf"Reading \('shapes'\): load\(\) .*\d+ of the {of} labels of {split} .*fingerprint", said)


STATE = {}  # of the files behind `Outside`


@dataclass(frozen=True, kw_only=True)
class Outside(Shapes):
    """States no fingerprint, though its content may change."""

    def load(self):
        data = super().load()
        if "train" in STATE:
            data = replace(data, train=Split(data.train.images[:70], data.train.labels[:70]))
        if "labels" in STATE:
            data.test.labels.copy_(data.test.labels.flip(0))
        splits = data.splits().values()
        if "none" in STATE:
            return Data(*(Split(each.images) for each in splits))
        return Data(*splits, classes=STATE.get("classes", data.classes))


@dataclass(frozen=True, kw_only=True)
class Deviation(Evaluation):
    name: ClassVar[str] = "deviation"
    needs_labels: ClassVar[bool] = False

    def evaluate(self, features):
        return {"test_deviation": features.h["test"].std().item()}, {}, []


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        ({}, {}, None),
        ({}, {"train": 70}, "the numbers of images are .*70"),
        ({}, {"classes": tuple("abcdefghij")}, "the classes are .*'a'"),
        ({}, {"labels": True}, "of the 60 labels of test differ"),
        ({}, {"none": True}, r"the classes are \[\]"),
        ({"none": True}, {}, r"the classes are .* and were \[\]"),
    ],
)
@pytest.mark.parametrize("earlier_version", [False, True])  # whose documents of evaluations stated fewer facts
def test_an_evaluations_own_images_do_not_change_unseen(earlier_version, before, now, words, tmp_path, monkeypatch):
    own = Outside(train=140, validation=40, test=60, size=16)
    run = Run(training=small_training(), evaluations=(Deviation(dataset=own),))
    results, [item] = Results(tmp_path), identified(Experiment(cells=(Cell(coords={"seed": 0}, run=run),), figures={}))
    monkeypatch.setattr(f"{__name__}.STATE", before)
    like_another_process(monkeypatch)
    for files in compute(run.training, run.evaluations, None, "cpu"):
        results.write(item.training_id, files)
    if earlier_version:
        known = Results.evaluation

        def lacking(self, *ids):
            document, wrong = known(self, *ids)
            return {name: held for name, held in document.items() if name not in ("images", "classes")}, wrong

        monkeypatch.setattr(Results, "evaluation", lacking)
        words = words and f"{words}|{'has' if before else 'lacks'} labels now|70 images and had"
    monkeypatch.setattr(f"{__name__}.STATE", now)
    like_another_process(monkeypatch)
    missing = [Job.of(run.with_seed(1))]
    if words is None or (earlier_version and "classes" in now):  # which that version did not record
        DataChecks(results).check(missing, [item])
    else:
        with pytest.raises(DataError, match=rf"Outside \('shapes'\): load\(\) must return the same data.*({words})"):
            DataChecks(results).check(missing, [item])


TURNED = """
def turned(data):
    for split in filter(None, [open("turn.txt").read()]):
        labels = data.splits()[split].labels
        labels.copy_(labels.flip(0))
    return data
"""

READING = """
from ablation.data import Data
from ablation.data.dataset import Split

@dataclass(frozen=True, kw_only=True)
class Reading(Shapes):
    def load(self):
        data = super().load()
        moved = Split(data.train.images.add(int(open("add.txt").read())), data.train.labels)
        return Data(train=moved, validation=data.validation, test=data.test, classes=data.classes)

def experiment(scale):
    scale = small(scale).replace(dataset=Reading(train=140, validation=40, test=60, size=16))
    make = lambda t: scale.run(scale.method(SimCLR), views=((Crop(area=(t / 10, 1.0)),), ()))
    return Experiment(cells=sweep(make, t=[1, 2, 3], seeds=[0]), figures={})
"""
