"""Images of a list, identified by their pixels: the same at any place, in any encoding and order."""

import csv
import io

import datasets as huggingface
import numpy as np
import pytest
import torch
from helpers import ROOT
from test_datasets import picture

from ablation.data import ImageData, image_lists
from ablation.spec import DataError, InvalidSpec, identity
from ablation.study.scales import SCALES, scale_named

CLASSES = ("cat", "dog", "owl")
NAMES = [CLASSES[i % 3] for i in range(30)]
SPLITS = ["train"] * 18 + ["validation"] * 6 + ["test"] * 6


@pytest.fixture(autouse=True)
def pets(tmp_path, monkeypatch):
    """A list of 30 images."""
    monkeypatch.setenv("ABLATION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(image_lists, "FOLDER", tmp_path / "lists")
    image_lists.read.cache_clear()
    (tmp_path / "lists").mkdir()
    with open(tmp_path / "lists" / "pets.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "class", "pixels"])
        for i in range(30):
            writer.writerow([SPLITS[i], NAMES[i], image_lists.digest(np.asarray(picture(i)))])
    yield
    image_lists.read.cache_clear()


def source(order, names=CLASSES, kind="PNG", label=NAMES.__getitem__) -> huggingface.Dataset:
    """CIFAR-10's columns on the Hub; order: numbers of pictures."""
    rows = []
    for i in order:
        buffer = io.BytesIO()
        picture(i).save(buffer, kind, lossless=True)
        name = label(i) if i < 30 else names[i % len(names)]
        rows.append({"img": {"bytes": buffer.getvalue(), "path": None}, "label": names.index(name)})
    kinds = {"img": huggingface.Image(), "label": huggingface.ClassLabel(names=list(names))}
    return huggingface.Dataset.from_list(rows, features=huggingface.Features(kinds))


def write(folder, **splits):
    """Parquet files as on the Hub."""
    (folder / "plain_text").mkdir(parents=True)
    for name, split in splits.items():
        split.to_parquet(folder / "plain_text" / f"{name}-00000-of-00001.parquet")
    return folder


def test_the_same_bytes_from_every_source(tmp_path, monkeypatch):
    """Shuffled among others (one broken), twice, in other splits, files, encodings and orders of classes; and by the
    Hub's reader."""
    shuffled = torch.randperm(40, generator=torch.Generator().manual_seed(0)).tolist()
    places = [
        write(tmp_path / "in-order", train=source(range(24)), test=source(range(24, 30))),
        write(tmp_path / "shuffled", train=source(shuffled[:30] + shuffled[:5]), test=source(shuffled[30:])),
        write(tmp_path / "webp", train=source(shuffled, names=("emu", "owl", "dog", "cat"), kind="WEBP")),
    ]
    for i in shuffled:
        place = tmp_path / "folders" / ("train", "test")[i % 2] / (NAMES[i] if i < 30 else "cat")
        place.mkdir(parents=True, exist_ok=True)
        picture(i).save(place / f"{i}.bmp")
    (tmp_path / "folders" / "train" / "cat" / "broken.png").write_bytes(b"")
    hub = huggingface.DatasetDict(train=source(shuffled[20:]), test=source(shuffled[:20]))
    load = huggingface.load_dataset
    monkeypatch.setattr(huggingface, "load_dataset", lambda p, *a, **k: hub if p == "a/hub" else load(p, *a, **k))
    found, ids = [], set()
    for number, path in enumerate((*places, tmp_path / "folders", "a/hub")):
        monkeypatch.setenv("ABLATION_CACHE", str(tmp_path / f"cache{number}"))  # so that each is read
        data = ImageData(path=path, images="pets")
        ids.add(identity(data))
        found.append(data.load())
    assert len(ids) == 1
    for data in found:
        assert data.classes == CLASSES
        for split, part in data.splits().items():
            numbers = [i for i in range(30) if SPLITS[i] == split]
            assert part.labels.tolist() == [i % 3 for i in numbers]
            expected = [torch.from_numpy(np.array(picture(i))).permute(2, 0, 1) for i in numbers]
            assert torch.equal(part.images, torch.stack(expected))


def test_the_identity_needs_no_images_and_is_the_lists_content(tmp_path):
    data = ImageData(path="no/where", images="pets")
    before = identity(data)
    path = image_lists.FOLDER / "pets.csv"
    path.write_text(path.read_text().replace("train,cat,", "train,dog,", 1))
    image_lists.read.cache_clear()
    assert identity(data) != before
    assert identity(ImageData(path="else/where", images="pets", name="mine")) == identity(data)
    assert data.label == "pets"


def test_decoded_images_are_found_wherever_they_came_from(tmp_path):
    first = ImageData(path=write(tmp_path / "one", train=source(range(30))), images="pets", size=8).load()
    again = ImageData(path="no/where", images="pets", size=8).load()
    assert first.size == 8
    assert torch.equal(first.train.images, again.train.images)


def test_the_images_of_a_list_may_be_grey(tmp_path):
    """Matched by color, stored as luma."""
    color, grey = (ImageData(path=tmp_path / "one", images="pets", channels=c) for c in (3, 1))
    write(tmp_path / "one", train=source(range(30)))
    assert identity(color) == identity(ImageData(path="no/where", images="pets")) != identity(grey)
    luma = torch.einsum("nchw,c->nhw", color.load().test.images.float(), torch.tensor([0.299, 0.587, 0.114]))
    assert grey.load().test.images.shape == (6, 1, 20, 20)
    assert (grey.load().test.images[:, 0] - luma).abs().max() <= 0.51


def test_a_source_that_lacks_some(tmp_path):
    path = write(tmp_path / "some", train=source(range(3, 28)))
    with pytest.raises(
        DataError, match=r"5 of its 30 images are missing .*\(3 of 18 in train, 0 of 6 in validation, 2 of 6 in test\)"
    ) as e:
        ImageData(path=path, images="pets").load()
    for word in ("'pets'", str(path), "--data PLACE", "ImageData(path=...)"):
        assert word in str(e.value)


def test_a_source_with_other_classes(tmp_path):
    """Compares classes by name, not by number; of equal images, one with the right class is enough."""
    wrong = source([*range(29), 29], label=lambda i: NAMES[i] if i != 4 else "owl")
    with pytest.raises(DataError, match=r"gives 1 of them another, the first 'owl' instead of 'dog' .row 4 of "):
        ImageData(path=write(tmp_path / "wrong", train=wrong), images="pets").load()
    both = write(tmp_path / "both", train=wrong, test=source([4]))
    assert len(ImageData(path=both, images="pets").load().train) == 18


@pytest.mark.parametrize(
    "changes",
    [{"images": "pet"}, {"train": "a"}, {"test": 0.2}, {"validation": 0.2}, {"train_images": 9}, {"test_images": 3},
     {"revision": "a" * 40}],
)  # fmt: skip
def test_what_the_list_says_is_refused_beside_it(changes):
    with pytest.raises(InvalidSpec, match=rf"ImageData\.{next(iter(changes))} must .*'pets'"):
        ImageData(**{"path": "somewhere", "images": "pets", **changes})


# --------------------------------------------------------------------------------------------------
# The list of the scale cifar10-small


@pytest.fixture
def committed(monkeypatch):
    monkeypatch.setattr(image_lists, "FOLDER", ROOT / "ablation" / "data" / "lists")
    image_lists.read.cache_clear()


def test_the_scale_names_its_images_by_content(committed):
    """The identity of every result at this scale contains the value."""
    data = scale_named("cifar10-small", data="any/place").dataset
    assert data.fingerprint() == SCALES["cifar10-small"]().dataset.fingerprint() == "f9e2d2097cf10a9e"
    assert data.label == "cifar10-lossless-5k"
    named = image_lists.read("cifar10-lossless-5k")
    assert named.lengths == {"train": 4500, "validation": 500, "test": 1000}
    assert len({digest for _, _, digest in named.images}) == 6000


def test_the_list_is_what_its_files_give(committed):
    """In order, stratified by class: 5,000 and 1,000 images of the files, and a tenth of the first for validation."""
    path = ROOT.parent / "shared" / "data" / "cifar10-lossless-subset"
    if not path.is_dir():
        pytest.skip("no folder cifar10-lossless-subset with images of CIFAR-10 beside the repository")
    found = scale_named("cifar10-small", data=str(path)).dataset.load()
    expected = ImageData(path=path, train_images=5000, test_images=1000).load()
    for part, other in zip(found.splits().values(), expected.splits().values(), strict=True):
        assert torch.equal(part.images, other.images)
        assert torch.equal(part.labels, other.labels)
    assert found.classes == expected.classes
