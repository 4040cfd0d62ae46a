"""Folders of images in the wild: every image is used or named."""

import io
import os
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image, features

from ablation.data import ImageData, decode
from ablation.data import survey as source
from ablation.spec import DataError, InvalidSpec, identity

SPLITS = ("train", "test")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """The folder of the data set."""
    monkeypatch.setenv("ABLATION_CACHE", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    return tmp_path / "set"


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8))


def put(place, *names: str, count: int = 4):
    """Images in folders, all with different pixels."""
    for name in names:
        (place / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            picture(sum(f"{name}/{i}".encode()) * 1000 + i).save(place / name / f"{i}.png")
    return place


def classes(*names: str) -> list[str]:
    return [f"{split}/{name}" for split in SPLITS for name in names]


def counted(place, **changes) -> dict[str, tuple[int, int]]:
    """By class, the number of training images (including validation) and of test images."""
    data = ImageData(path=place, **{"validation": 0.25, **changes}).load()
    trained = [*data.train.labels.tolist(), *data.validation.labels.tolist()]
    return {name: (trained.count(i), data.test.labels.tolist().count(i)) for i, name in enumerate(data.classes)}


# --------------------------------------------------------------------------------------------------
# What is a split, what is a class


@pytest.mark.parametrize(
    "name",
    ["train", "test", "bullet train", "test tube", "eval", "val", "train-test", "Test", "__background__", "a[1]", "a*",
     "007", "1.10", "ünder", "images"],
)  # fmt: skip
def test_a_class_may_have_any_name(place, name):
    put(place, *classes("bus", name))
    assert counted(place) == dict.fromkeys(sorted(("bus", name)), (4, 4))


@pytest.mark.parametrize("name", ["bullet train", "a[1]", "test * of?", "my test data"])
def test_the_folder_itself_may_have_any_name(place, name):
    put(place / name, *classes("bus", "car"))
    assert counted(place / name) == {"bus": (4, 4), "car": (4, 4)}


def test_the_class_is_the_folder_below_the_split(place):
    put(place, *(f"{c}/{session}" for c in classes("cat", "dog") for session in ("camera1", "camera2")))
    assert counted(place) == {"cat": (8, 8), "dog": (8, 8)}


def test_classes_without_a_split(place):
    """Cut with test=0.2; also with a class named train that contains images itself."""
    put(place, "bus", "car/at night", "train", count=10)
    assert counted(place, test=0.2) == dict.fromkeys(("bus", "car", "train"), (8, 2))


def test_splits_are_named_as_they_are_written(place):
    put(place, "Train/cat", "Train/dog", "held out/cat", "held out/dog")
    with pytest.raises(DataError, match=r"ImageData\.train must .*'train' is not in .*train='Train'"):
        counted(place)
    assert counted(place, train="Train", test="held out") == {"cat": (4, 4), "dog": (4, 4)}
    with pytest.raises(DataError, match=r"Train"):
        counted(place, test=0.2)


@pytest.mark.parametrize("other", ["val", "validation", "Valid"])
def test_a_split_that_is_not_asked_for_is_named_and_not_used(place, capsys, other):
    put(place, *classes("cat", "dog"), f"{other}/cat", f"{other}/dog")
    assert counted(place) == {"cat": (4, 4), "dog": (4, 4)}
    assert re.search(rf"not using 8 images in the folder '{other}'", capsys.readouterr().err)


# --------------------------------------------------------------------------------------------------
# Every image is used


def test_linked_folders_are_followed(place, tmp_path):
    far = put(tmp_path / "far", *classes("cow"))
    put(place, "train/cat", "train/dog")
    put(tmp_path / "test", "cat", "dog")
    (tmp_path / "test" / "cow").symlink_to(far / "test" / "cow")
    (place / "test").symlink_to(tmp_path / "test")
    (place / "train" / "cow").symlink_to(far / "train" / "cow")
    assert counted(place) == dict.fromkeys(("cat", "cow", "dog"), (4, 4))


def kinds() -> list[str]:
    kinds = [".bmp", ".BMP", ".gif", ".jfif", ".jpe", ".jpg", ".JPeG", ".pgm", ".png", ".ppm", ".tga", ".tif", ".tiff"]
    kinds += [".ico", ".pcx", ".sgi", ".dds"]
    return kinds + [f".{kind}" for kind in ("webp", "avif") if features.check(kind)]


@pytest.mark.parametrize("ending", kinds())
def test_what_pillow_reads_is_an_image(place, ending):
    put(place, *classes("cat", "dog"))
    for split in SPLITS:
        for i in range(4):
            (place / split / "cat" / f"{i}.png").unlink()
            picture(i).convert("L" if ending == ".pgm" else "RGB").save(place / split / "cat" / f"{i}{ending}")
    assert counted(place) == {"cat": (4, 4), "dog": (4, 4)}


@pytest.mark.parametrize("name", ["noending", "a.jpg_large", "b.bak"])
def test_an_unknown_ending_says_nothing(place, name):
    put(place, *classes("cat", "dog"))
    picture(1).save(place / "train" / "cat" / name, "JPEG")
    assert counted(place)["cat"] == (5, 4)


def test_texts_and_what_systems_leave_behind_may_lie_beside(place):
    put(place, *classes("cat", "dog"))
    for name in ("0.json", "0.txt", "0.xml", "Thumbs.db", "desktop.ini", ".DS_Store", "._0.png", ".hidden"):
        (place / "train" / "cat" / name).write_bytes(b"x")
    for name in ("__MACOSX/train/cat", ".cache", "train/.cache", "train/cat/.cache"):
        (place / name).mkdir(parents=True)
        (place / name / "._0.png").write_bytes(b"x")
    (place / "README").write_text("cats and dogs")
    (place / "notes.eval").write_text("")
    assert counted(place) == {"cat": (4, 4), "dog": (4, 4)}


def test_a_test_image_that_is_trained_on_is_named_at_every_start(place, capsys):
    """Also for cached images; and beside the results."""
    put(place, "train/cat", "train/dog", "test/cat", "test/dog")
    shutil.copy(place / "train/cat/0.png", place / "test/cat/copy.png")
    for _ in range(2):
        source._surveyed.cache_clear()
        dataset = ImageData(path=str(place), size=8, validation=0.25)
        dataset.fingerprint()
        assert re.search(r"1 of the \d+ test images .*accuracies are too high. Remove", capsys.readouterr().err)
    assert "1 of the 9 test images are training images too" in dataset.warning


def test_the_order_is_that_of_the_names(place):
    """Not the file system's order, nor a numeric or language-specific order."""
    names = ["B", "a", "ä", "10", "9"]
    put(place, *(f"train/{name}" for name in reversed(names)), *(f"test/{name}" for name in names))
    data = ImageData(path=place, validation=0.25).load()
    assert data.classes == ("10", "9", "B", "a", "ä")
    os.rename(place / "test" / "ä", place / "test" / "a\u0308")  # as macOS stores it
    fingerprint = ImageData(path=place).fingerprint()
    os.rename(place / "train" / "ä", place / "train" / "a\u0308")
    assert ImageData(path=place).fingerprint() == fingerprint


# --------------------------------------------------------------------------------------------------
# Or named


def write(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(7).save(path, "PNG")


def link(path, to):
    path.symlink_to(to)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: save(p / "train" / "stray.png"), "must be in a class folder .*train/stray.png.*Move"),
        (lambda p: save(p / "figure.png"), "figure.png.*Move"),
        (lambda p: save(p / "extra" / "cat" / "1.png"), "extra/cat/1.png.*Move"),
        (lambda p: save(p / "train" / ".x" / "1.png"), "must not start with a dot.*train/.x/1.png.*Rename"),
        (lambda p: save(p / "train" / "cat" / ".1.png"), "must not start with a dot.*train/cat/.1.png.*Rename"),
        (lambda p: write(p / "train" / "cat" / "1.heic"), "train/cat/1.heic.*Convert"),
        (lambda p: write(p / "train" / "cat" / "1.npy"), "train/cat/1.npy.*Convert"),
        (lambda p: write(p / "train" / "cat" / "new.png"), "train/cat/new.png.*Remove or replace"),
        (lambda p: write(p / "train" / "cat" / "new.png", b""), "train/cat/new.png.*Remove or replace"),
        (lambda p: write(p / "train" / "metadata.csv"), "never from files of metadata.*train/metadata.csv.*Rename"),
        (lambda p: write(p / "metadata.jsonl"), "never from files of metadata.*metadata.jsonl.*Rename"),
        (lambda p: (p / "train" / "emu").mkdir(), "every class folder must contain images.*train/emu.*remove"),
        (lambda p: save(p / "train" / "emu" / "1.png"), "the split 'test' lacks 'emu'.*every split"),
        (lambda p: save(p / "test" / "emu" / "1.png"), "the split 'train' lacks 'emu'.*every split"),
        (lambda p: save(p / "train" / "Cat" / "1.png"), "the split 'test' lacks 'Cat'"),
        (lambda p: link(p / "train" / "cow", p / "nothing"), "train/cow.*remove"),
        (lambda p: link(p / "train" / "cat" / "5.png", p / "nothing"), "train/cat/5.png.*remove"),
        (lambda p: link(p / "train" / "loop", p), "'train/loop' and '.' are the same folder.*Remove the link"),
        (lambda p: link(p / "train" / "cow", p / "train" / "cat"), "train/cow.*the same folder.*Remove the link"),
        (lambda p: link(p / "val", p / "test"), "the same folder.*Remove the link"),
        (lambda p: os.mkfifo(p / "train" / "cat" / "6.png"), "train/cat/6.png.*remove"),
        (lambda p: save(p / "train" / "a\u0308" / "1.png") or save(p / "train" / "\u00e4" / "1.png"), "Rename"),
        (lambda p: write(p / "train.parquet"), "must be parquet files or a folder of images, not both"),
    ],
)  # fmt: skip
def test_what_is_not_used_is_named(place, change, words):
    put(place, *classes("cat", "dog"))
    assert counted(place)
    change(place)
    with pytest.raises(DataError, match=f"(?s)ImageData.path '{re.escape(str(place))}': .*{words}"):
        counted(place)


def test_broken_images_are_named_all_at_once(place):
    put(place, *classes("cat", "dog"), count=9)
    for i in range(7):
        (place / "train" / "dog" / f"{i}.png").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"7 images .*: train/dog/0.png .*train/dog/4.png .*and 2 more") as told:
        counted(place)
    assert "BytesIO" not in str(told.value)


@pytest.mark.parametrize(
    ("folders", "changes", "words"),
    [
        (["train", "test"], {}, "'train' has no class folders with images .4 images"),
        (["train", "test"], {"test": 0.2}, "must be classes.*'test', 'train'.*class folders"),
        (["train", "test1"], {"test": 0.2}, "must be classes.*'test1', 'train'.*class folders"),
        (["train2017", "val2017"], {"test": 0.2}, "must be classes.*'train2017', 'val2017'.*train='train2017'"),
        ([""], {}, "ImageData.train must .*no class folders: 4 images"),
        ([""], {"test": 0.2}, "no class folders with images .4 images"),
        (classes("cat"), {}, "at least two classes, but the only one is 'cat'"),
        (["cat", "dog"], {}, "ImageData.train must .*not in .'cat', 'dog'.*test=0.2"),
        (["train/cat", "train/dog"], {}, r"ImageData.test must .*'test' is not in \['train'\].*test=0.2"),
        (["all/train/cat", "all/test/cat"], {}, "ImageData.train must .*its folder 'all'.*path='.*set/all'"),
        (["Train/cat", "Train/dog", "Test/cat"], {"test": 0.2}, "'Test', 'Train'.*train='Train'"),
        (["cat/train", "cat/test", "dog/train"], {"test": 0.2}, "class folders must not contain splits.*first folder"),
        (["train/cat", "train/dog", "bus", "car"], {"test": 0.2}, "bus/0.png.*Move"),
        (
            ["cat ", "dog", "cat"],
            {"test": 0.2},
            "must not start or end with a space, but 'cat ' breaks.*Rename the fold",
        ),
        (classes("dog", " cat"), {}, "must not start or end with a space, but 'train/ cat' breaks"),
    ],
    ids=str,
)
def test_other_layouts_lead_to_the_cure(place, folders, changes, words):
    put(place, *folders)
    with pytest.raises(DataError, match=f"(?s){words}"):
        counted(place, **changes)


@pytest.mark.parametrize(
    ("folders", "file", "test"),
    [
        (["images"], "labels.csv", "test"),
        (["images"], "labels.csv", 0.2),
        ([""], "labels.json", "test"),
        ([""], "labels.xlsx", 0.2),
        (["train", "test"], "train.csv", "test"),
        (["train", "test"], "train/labels.txt", "test"),
    ],
    ids=str,
)
def test_labels_in_a_file_lead_to_the_cure(place, folders, file, test):
    """Its advice works: class folders, and a fraction if there are no splits."""
    put(place, *folders, count=12)
    write(place / file)
    write(place / "README.txt")
    with pytest.raises(DataError, match=rf"not read from files \('{file}'\).*a folder for each class, .*CLASS/IMAGE"):
        counted(place, test=test)
    flat = len(folders) == 1
    for folder in folders:
        for number, path in enumerate(sorted((place / folder).glob("*.png"))):
            named = ("" if flat else f"{folder}/") + "ab"[number % 2]
            (place / named).mkdir(exist_ok=True, parents=True)
            path.rename(place / named / path.name)
        if flat and folder:
            (place / folder).rmdir()
    counted(place, test=0.25 if flat else "test")


def test_a_readme_holds_no_labels(place):
    put(place, "train/cat", "train/dog")
    write(place / "classes.txt")
    with pytest.raises(DataError, match=r"ImageData.test must .*test=0\.2") as told:
        counted(place)
    assert "not read" not in str(told.value)


@pytest.mark.parametrize(
    ("folders", "changes", "words"),
    [
        (["A", "B"], {"test": 0.25}, r"'A', 'B', .* 'cat', 'dog'.*cat/IMAGE.*path='.*set/A'.*train='A', test='B'"),
        (classes("images", "masks"), {}, "'images', 'masks', .*'cat', 'dog'.*SPLIT/cat"),
    ],
)
def test_classes_that_hold_the_same_folders_are_named(place, folders, changes, words, capsys):
    """Sites, masks or folds are in the place of classes; a subfolder of only one class gives no line."""
    put(place, *(f"{folder}/{name}" for folder in folders for name in ("cat", "dog")))
    data_set = ImageData(path=place, validation=0.25, **changes)
    data_set.load()
    said = capsys.readouterr().err
    assert re.search(words, said)
    assert said.count("each contains the folders") == 1
    assert re.search(words, data_set.warning)
    for folder in folders[::2]:
        shutil.rmtree(place / folder / "dog")
    ImageData(path=place, validation=0.25, **changes).load()
    assert capsys.readouterr().err == ""


def test_folders_that_are_splits_by_a_part_of_their_names_are_no_classes(place):
    """As in some downloads: seg_train/seg_train/CLASS."""
    put(place, *(f"seg_{split}/seg_{split}/{name}" for split in ("train", "test", "pred") for name in ("cat", "dog")))
    with pytest.raises(DataError, match=r"seg_(train|test|pred).*train='seg_train'"):
        ImageData(path=str(place), test=0.2).load()


def test_pixels_that_are_in_two_classes_are_counted(place, capsys):
    """By hand: three images of a, saved in another format as images of b."""
    put(place, *classes("a", "b"), count=8)
    for number in range(3):
        Image.open(place / "train" / "a" / f"{number}.png").save(place / "train" / "b" / f"a{number}.bmp")
    Image.open(place / "train" / "a" / "7.png").save(place / "train" / "a" / "again.bmp")
    data_set = ImageData(path=str(place), validation=0.25)
    data_set.load()
    words = "3 of the 36 images are labelled unlike an image with the same pixels"
    assert words in capsys.readouterr().err
    assert words in data_set.warning


def test_a_file_that_is_no_parquet_file(place):
    save(place / "1.png")
    with pytest.raises(DataError, match=r"1\.png': it must be a folder, a parquet file .*name their folder"):
        ImageData(path=place / "1.png", test=0.2).load()


# --------------------------------------------------------------------------------------------------
# As a viewer shows them


def shown(encoded: bytes) -> np.ndarray:
    return np.asarray(decode.color(encoded))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_their_tag_says(kind, orientation):
    """The values are Pillow's exif_transpose of an upright image with the matching tag."""
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    held = io.BytesIO()
    picture(1).resize((8, 6)).save(held, kind, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(held.getvalue())))
    assert upright.size == ((8, 6) if orientation < 5 else (6, 8))
    assert np.array_equal(shown(held.getvalue()), np.asarray(upright.convert("RGB")))
    assert decode.size(held.getvalue()) == upright.size


def test_the_identity_moves_where_a_tag_turns_an_image(place):
    put(place, *classes("cat", "dog"))
    ids = []
    for orientation in (None, 1, 6, 9):
        exif = Image.Exif()
        if orientation:
            exif[0x0112] = orientation
        picture(3).save(place / "train" / "cat" / "0.png", exif=exif)
        ids.append((ImageData(path=place).fingerprint(), as_before(place)))
    assert [one == before for one, before in ids] == [True, True, False, True]


def as_before(place) -> str:
    """The digest that ignores tags."""
    import hashlib

    digest = hashlib.sha256(repr(("cat", "dog")).encode())
    for split in ("test", "train"):
        for label, name in enumerate(("cat", "dog")):
            for path in sorted((place / split / name).iterdir()):
                digest.update(f"{split} {label} {path.stat().st_size} ".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def test_damaged_metadata_do_not_spoil_an_image():
    held = io.BytesIO()
    picture(1).save(held, "PNG", exif=b"Exif\x00\x00not what it should be")
    assert np.array_equal(shown(held.getvalue()), np.asarray(picture(1)))


def test_transparency_is_dropped_and_an_animation_is_its_first_frame():
    rgba = picture(1).convert("RGBA")
    rgba.putalpha(Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)))
    for kind in ("PNG", "TIFF"):
        held = io.BytesIO()
        rgba.save(held, kind)
        assert np.array_equal(shown(held.getvalue()), np.asarray(picture(1)))
    palette = picture(1).quantize(16)
    frames = [picture(2).quantize(16), picture(3).quantize(16)]
    held = io.BytesIO()
    palette.save(held, "GIF", save_all=True, append_images=frames, transparency=3)
    assert np.array_equal(shown(held.getvalue()), np.asarray(palette.convert("RGB")))


# --------------------------------------------------------------------------------------------------
# The spec


@pytest.mark.parametrize(
    "changes",
    [{"path": 3}, {"path": b"x"}, {"path": " "}, {"name": 3}, {"train": ""}, {"train": 0.8}, {"test": "train"},
     {"test": 1}, {"test": True}, {"test": None}, {"validation": 0}, {"size": 0}, {"size": "32"}, {"size": 32.0},
     {"train_images": 0}, {"test_images": -1}, {"config": 3}, {"image_column": ""}, {"label_column": 1}],
    ids=str,
)  # fmt: skip
def test_bad_values_are_refused_when_the_spec_is_built(changes):
    with pytest.raises(InvalidSpec, match=rf"ImageData\.{next(iter(changes))} must .*but got"):
        ImageData(**{"path": "somewhere", **changes})


def test_what_a_number_of_images_counts(place):
    put(place, "cat", "dog", count=10)
    with pytest.raises(InvalidSpec, match=r"test_images must be at most 4, .*test=0\.2 cuts from the 20 "):
        counted(place, test=0.2, test_images=5)
    with pytest.raises(InvalidSpec, match=r"train_images must be at most 16, .*test=0\.2 leaves of the 20 "):
        counted(place, test=0.2, train_images=17)


def test_test_images_that_are_trained_on_are_counted(place, capsys):
    """Equal files in train and test; and in one split from which the test images are cut."""
    put(place, *classes("cat", "dog"))
    ImageData(path=place, validation=0.25).fingerprint()
    assert capsys.readouterr().err == ""
    for i in range(3):
        shutil.copy(place / "train" / "cat" / f"{i}.png", place / "test" / "cat" / f"copy{i}.png")
    ImageData(path=place, validation=0.25).fingerprint()
    assert "3 of the 11 test images" in capsys.readouterr().err
    flat = place / "flat"
    put(flat, "cat", "dog")
    shutil.copy(flat / "dog" / "0.png", flat / "dog" / "other.png")
    ImageData(path=flat, test=0.25, validation=0.25).fingerprint()
    assert "1 of the 9 images repeat another (equal files), so images cut for test and validation" in (
        capsys.readouterr().err
    )


def test_images_that_are_chosen_on_and_trained_on_or_in_two_classes_are_counted(place, capsys):
    """An oversampled training set with a separate test set; by hand: five copies, one of them in both classes."""
    put(place, *classes("cat", "dog"))
    for i in range(4):
        shutil.copy(place / "train/cat/0.png", place / f"train/cat/again{i}.png")
    shutil.copy(place / "train/cat/1.png", place / "train/dog/cat.png")
    ImageData(path=place, validation=0.25).fingerprint()
    said = capsys.readouterr().err
    assert "5 of the 13 images repeat another (equal files), so images cut for validation" in said
    assert "2 of the 13 images are in two classes" in said
    assert "test images" not in said


def test_images_that_show_little_or_nothing_are_named_and_the_table_says_so(place, capsys):
    """12 bits in a file of 16, unscaled; and icons whose picture is in the transparency."""
    for name in "ab":
        (place / name).mkdir(parents=True)
        for number in range(10):
            dim = np.random.default_rng(number).integers(0, 4096, (8, 8)).astype(np.uint16)
            Image.fromarray(dim).save(place / name / f"{number}.png")
    data_set = ImageData(path=str(place), test=0.2)
    data = data_set.load()
    brightest = int(data.train.images.max())
    assert brightest in (15, 16)
    assert f"the brightest value of the {len(data.train)} training images is {brightest} of 255" in data_set.warning
    assert "12 bits" in capsys.readouterr().err
    for number in range(3):
        alone = np.zeros((8, 8, 4), np.uint8)
        alone[2:5, 2:5, 3] = 255
        Image.fromarray(alone).save(place / "a" / f"icon{number}.png")
    data_set.load()
    assert "3 of the 23 images are of one color" in capsys.readouterr().err
    assert "3 of the 23 images are of one color" in data_set.warning


def test_usual_images_are_not_named(place, capsys):
    for name in "ab":
        put(place, f"{name}", count=10)
    ImageData(path=str(place), test=0.2).load()
    assert capsys.readouterr().err == ""


def test_16_bit_grey_in_which_0_is_white_is_turned_round(place):
    """As Pillow does for 8 bits; by hand: 40 is shown as 215. Only such files get a new identity."""
    for bits, dtype in ((8, np.uint8), (16, np.uint16)):
        for name, level in (("a", 40), ("b", 200)):
            (place / f"{bits}" / name).mkdir(parents=True)
            for number in range(10):
                grey = np.full((8, 8), level * (257 if bits == 16 else 1), dtype)
                grey[0, number % 8] = 0
                held = io.BytesIO()
                Image.fromarray(grey).save(held, "TIFF")
                (place / f"{bits}" / name / f"{number}.tif").write_bytes(with_white_as_0(held.getvalue()))
        data = ImageData(path=str(place / f"{bits}"), test=0.2).load()
        for label, level in enumerate((215, 55)):
            shown = data.train.images[data.train.labels == label]
            assert (shown[:, :, 1:] == level).all()
            assert int(shown.max()) == 255


def with_white_as_0(tiff: bytes) -> bytes:
    """The same file with its tag 262 changed; Pillow writes the one of the mode."""
    place = tiff.index((262).to_bytes(2, "little") + (3).to_bytes(2, "little"))
    return tiff[: place + 8] + (0).to_bytes(2, "little") + tiff[place + 10 :]


def test_what_is_cut_off_or_not_read_of_images_is_counted(place, capsys):
    """Wide pictures, which lose their sides, and files of several pages or frames."""
    for name in "ab":
        put(place, name, count=8)
        for number in range(2):
            strip = np.random.default_rng(number).integers(0, 255, (8, 24, 3), dtype=np.uint8)
            Image.fromarray(strip).save(place / name / f"wide{number}.png")
    pages = [picture(number) for number in range(3)]
    pages[0].save(place / "a" / "pages.tif", save_all=True, append_images=pages[1:])
    pages[0].save(place / "a" / "moving.gif", save_all=True, append_images=pages[1:])
    pages[0].save(place / "b" / "phone.jpg", "MPO", save_all=True, append_images=pages[1:])  # with a preview
    data_set = ImageData(path=str(place), test=0.2, size=8)
    data_set.load()
    said = capsys.readouterr().err
    assert "4 of the 23 images are at least twice as long as wide: only the central square is kept" in said
    assert "2 of the 23 images are of several frames or pages: only the first is used" in said
    assert "central square" in data_set.warning


def ramp(width: int, height: int) -> np.ndarray:
    """Red grows by 10 from column to column, green from row to row; no value is 0."""
    across, down = np.meshgrid(10 * np.arange(1, width + 1), 10 * np.arange(1, height + 1))
    return np.stack([across, down, np.full_like(across, 255)], 2).astype(np.uint8)


@pytest.mark.parametrize("turned", [False, True])
def test_how_an_oblong_picture_becomes_square(turned):
    """A ramp of 8 x 4 px: the middle; all of it at half the width; and at half of both between black bars."""
    pixels = ramp(8, 4)
    if turned:
        pixels = pixels.transpose(1, 0, 2)[..., [1, 0, 2]]
    image = Image.fromarray(pixels)

    def shown(how: str, size: int) -> np.ndarray:
        found = np.asarray(decode.square(image, size, how))
        assert found.shape == (size, size, 3)
        return found.transpose(1, 0, 2)[..., [1, 0, 2]] if turned else found

    crop, squash, pad = (shown(how, 4) for how in ("crop", "squash", "pad"))
    assert np.array_equal(crop, ramp(8, 4)[:, 2:6])
    # Bilinear with antialiasing, at half the width: weights 1, 3, 3, 1 of 8, cut off and normalized at the border.
    red = [(3 * 10 + 3 * 20 + 30) / 7, 35, 55, (60 + 3 * 70 + 3 * 80) / 7]
    assert np.abs(squash[..., 0] - np.array(red)).max() <= 1
    assert np.array_equal(squash[..., 1], ramp(8, 4)[:, :4, 1])
    assert (pad[[0, 3]] == 0).all()
    assert (pad[1:3, :, 2] == 255).all()
    assert np.abs(pad[1:3, :, 0] - np.array(red)).max() <= 1
    green = [(3 * 10 + 3 * 20 + 30) / 7, (20 + 3 * 30 + 3 * 40) / 7]
    assert np.abs(pad[1:3, :, 1] - np.array(green)[:, None]).max() <= 1


def test_squares_are_a_part_of_the_identity_and_have_images_of_their_own(place, capsys):
    for number in range(16):
        folder = place / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(ramp(16, 8) // 2 + np.uint8(number)).save(folder / f"{number}.png")
    crop = ImageData(path=place, test=0.25, validation=0.25, size=8)
    each = {how: crop.replace(square=how) for how in decode.SQUARES}
    assert identity(each["crop"]) == identity(crop)
    assert len({identity(data) for data in each.values()}) == 3
    images = {how: data.load().train.images for how, data in each.items()}
    assert capsys.readouterr().err.count("only the central square is kept") == 1  # of crop
    assert (images["pad"][:, :, 0] == 0).all()
    assert (images["squash"] > 0).all()
    assert not torch.equal(images["squash"], images["crop"])
    for changes, words in (
        ({"square": "stretch"}, r"ImageData\.square must be one of 'crop', 'squash', 'pad', but got 'stretch'"),
        ({"square": "pad", "size": None}, r"ImageData\.square must be omitted without a size.*size=64"),
    ):
        with pytest.raises(InvalidSpec, match=words):
            crop.replace(**changes)


def test_test_images_that_are_training_images_in_another_file_are_counted(place, capsys):
    for name in "ab":
        put(place, f"train/{name}", count=8)
        (place / "test" / name).mkdir(parents=True)
        for number in range(8):
            (picture(9000 + number + ord(name)) if number else Image.open(place / "train" / name / "0.png")).save(
                place / "test" / name / f"{number}.bmp"
            )
    data_set = ImageData(path=str(place), validation=0.25)
    data_set.load()
    words = "2 of the 32 images are test images with the pixels of another image"
    assert words in capsys.readouterr().err
    assert words in data_set.warning


def test_classes_that_differ_in_capitals_only_are_named(place, capsys):
    put(place, *classes("cat", "Cat", "dog"), count=8)
    ImageData(path=str(place), validation=0.25).load()
    assert "the classes 'Cat', 'cat' differ in capitals or spaces only" in capsys.readouterr().err


def test_copies_in_other_files_and_among_test_images_are_counted(place, capsys):
    """A picture as PNG and BMP in one class, and in two; and test images in two classes."""
    for name in "ab":
        put(place, f"train/{name}", f"test/{name}", count=8)
    for number in range(4):
        Image.open(place / "train" / "a" / f"{number}.png").save(place / "train" / "a" / f"{number}.bmp")
        Image.open(place / "train" / "a" / f"{number}.png").save(place / "train" / "b" / f"a{number}.bmp")
    (place / "test" / "b" / "copy.png").write_bytes((place / "test" / "a" / "0.png").read_bytes())
    ImageData(path=str(place), validation=0.25).load()
    said = capsys.readouterr().err
    assert "1 of the 17 test images repeat another (equal files)" in said
    assert re.search(r"[4-8] of the 41 images are training or validation images with the pixels of another", said)
