"""Labels in tables: each file has its own table of classes, and every value is checked."""

import io
import json
import math
import re

import datasets as huggingface
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from ablation.data import ImageData
from ablation.spec import DataError, identity

IMAGE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("ABLATION_CACHE", str(tmp_path / "cache"))
    return tmp_path


def encoded(seed: int, level: int = 0) -> dict:
    """A noise image whose red is `level`, so that its pixels show its class."""
    pixels = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    pixels[..., 0] = level
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "PNG")
    return {"bytes": held.getvalue(), "path": None}


def write(path, labels, names=None, images=None) -> None:
    """A parquet file with the columns image and label. names: of its classes, if labels are numbers."""
    images = images or [encoded(sum(path.name.encode()) * 100 + i) for i in range(len(labels))]
    table = pyarrow.table({"image": pyarrow.array(images, IMAGE), "label": labels})
    if names:
        declared = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": declared}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path)


def read(place, **changes):
    return ImageData(path=place, **{"validation": 0.25, "image_column": "image", "label_column": "label", **changes})


LEVELS = {"cat": 10, "dog": 20, "owl": 30}


def by_name(path, names, labels=(0, 1, 2) * 4) -> None:
    """Images that show their class, labelled by the file's own names."""
    images = [encoded(sum(path.name.encode()) * 100 + i, LEVELS[names[label]]) for i, label in enumerate(labels)]
    write(path, list(labels), names=list(names), images=images)


def test_every_file_is_read_by_its_own_names(place):
    by_name(place / "set" / "train-00000-of-00002.parquet", ("cat", "dog", "owl"))
    by_name(place / "set" / "train-00001-of-00002.parquet", ("owl", "cat", "dog"))
    by_name(place / "set" / "test.parquet", ("dog", "owl", "cat"))
    data = read(place / "set").load()
    assert data.classes == ("cat", "dog", "owl")
    for part in data.splits().values():
        assert part.images[:, 0, 0, 0].tolist() == [LEVELS[data.classes[label]] for label in part.labels]


@pytest.mark.parametrize("file", ["train-00001-of-00002.parquet", "test.parquet"])
def test_files_with_other_names_are_refused(place, file):
    for name in ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "test.parquet"):
        write(place / "set" / name, [0, 1] * 4, names=["cat", "emu" if name == file else "dog"])
    with pytest.raises(DataError, match=rf"{file} lacks 'dog'"):
        read(place / "set").load()
    write(place / "set" / file, ["cat", "dog"] * 4)
    with pytest.raises(DataError, match=rf"train-00000.* does and {file} does not"):
        read(place / "set").load()


def test_the_hubs_files_must_agree(place, monkeypatch):
    """The library applies the first file's names to all; a copy of the layout replaces the Hub."""
    by_name(place / "set" / "train.parquet", ("cat", "dog", "owl"))
    by_name(place / "set" / "test.parquet", ("owl", "cat", "dog"))
    for name in ("load_dataset", "load_dataset_builder"):
        function = getattr(huggingface, name)
        monkeypatch.setattr(
            huggingface, name,
            lambda path, *a, f=function, **k: f(str(place / "set"), cache_dir=str(place / "hub")),
        )  # fmt: skip
    with pytest.raises(DataError, match=r"test.parquet' has \['owl', 'cat', 'dog'\].*--data FOLDER"):
        read("a/hub").load()
    by_name(place / "set" / "test.parquet", ("cat", "dog", "owl"))
    monkeypatch.setattr(huggingface, "load_dataset", lambda *a, **k: huggingface.load_dataset_builder("").as_dataset())
    huggingface.load_dataset_builder("").download_and_prepare()
    assert identity(read("a/hub")) == identity(read(place / "set"))


NAN = math.nan


@pytest.mark.parametrize(
    ("labels", "names", "words"),
    [
        ([0, 1, 0, 7], ["cat", "dog"], "row 3 of test.parquet has 7"),
        ([0, 1, 0, -2], ["cat", "dog"], "row 3 of test.parquet has -2"),
        ([0, 1, 0, -1], ["cat", "dog"], "must have a label, but row 3 of test.parquet has none"),
        ([0, 1, 0, None], ["cat", "dog"], "must have a label, but row 3 of test.parquet has none"),
        ([0.0, 1.0, 0.0, 1.0], ["cat", "dog"], "test.parquet does not.*Write the names"),
        (["cat", "dog", "cat", "dog"], ["cat", "dog"], "test.parquet does not.*Write the names"),
        ([True, False, True, False], ["cat", "dog"], "test.parquet does not.*Write the names"),
        ([0, 1, 0, None], None, "must have a label, but row 3 of test.parquet has none"),
        ([0.0, 1.0, 0.0, NAN], None, "must have a label, but row 3 of test.parquet has none"),
        (["a", "b", "a", "b "], None, "row 3 of test.parquet has 'b '.*Correct"),
        (["a", "b", "a", " "], None, "must have a label, but row 3 of test.parquet has none"),
        ([0.0, 1.0, 0.0, 0.5], None, "row 3 of test.parquet has 0.5.*label_column"),
        ([0.0, 1.0, 0.0, math.inf], None, "row 3 of test.parquet has inf.*label_column"),
        ([[0], [1], [0], [1]], None, r"row 0 of train.parquet has \[0\].*label_column"),
        ([b"a", b"b", b"a", b"b"], None, "row 0 of train.parquet has b'a'.*label_column"),
        ([0, 1, 0, 2], None, "train lacks '2'"),
    ],
    ids=str,
)
def test_bad_labels_are_named_with_file_and_row(place, labels, names, words):
    write(place / "set" / "train.parquet", [0, 1] * 6 if names else labels[:2] * 6, names)
    write(place / "set" / "test.parquet", labels, names)
    with pytest.raises(DataError, match=words):
        read(place / "set").load()


def test_labels_of_two_kinds_are_refused(place):
    write(place / "set" / "train.parquet", [0, 1] * 6)
    write(place / "set" / "test.parquet", ["0", "1"] * 2)
    with pytest.raises(
        DataError, match=r"row 0 of train.parquet .*int .*row 0 of test.parquet .*str.*Write all in the same way"
    ):
        read(place / "set").load()


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([-1, 1], ("-1", "1")),
        ([10, 9], ("9", "10")),
        (["1.10", "1.9"], ("1.10", "1.9")),
        (["007", "7"], ("007", "7")),
        ([True, False], ("False", "True")),
        ([1.0, 0.0], ("0.0", "1.0")),
    ],
    ids=str,
)
def test_labels_that_are_classes_keep_their_spelling(place, labels, classes):
    for name in ("train", "test"):
        write(place / "set" / f"{name}.parquet", labels * 4)
    data = read(place / "set").load()
    assert data.classes == classes
    assert data.test.labels.tolist() == [classes.index(str(label)) for label in labels * 4]


@pytest.mark.parametrize("missing", [None, {"bytes": None, "path": None}, {"bytes": None, "path": "none.png"}], ids=str)
def test_rows_without_an_image_are_named_all_at_once(place, missing):
    for name in ("train", "test"):
        images = [encoded(i) for i in range(7)]
        write(place / "set" / f"{name}.parquet", [0, 1] * 4, ["cat", "dog"], [*images, missing])
    with pytest.raises(DataError, match=r"2 images cannot be read: row 7 of test.parquet .*row 7 of train.parquet"):
        read(place / "set").fingerprint()


# --------------------------------------------------------------------------------------------------
# Files and their splits


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"], ["test-00000-of-00001.parquet"]),
        (["data/train-00000-of-00001-a1b2c3d4.parquet"], ["data/test-00000-of-00001-a1b2c3d4.parquet"]),
        (["plain_text/train.parquet"], ["plain_text/test.parquet"]),
        (["default/train/0000.parquet", "default/train/0001.parquet"], ["default/test/0000.parquet"]),
        (["train/any.parquet", "train/other.parquet"], ["test/thing.parquet"]),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("above", ["set", "test of a [train] set*"])
def test_parquet_files_and_their_splits(place, train, test, above):
    for name in (*train, *test, "validation.parquet", "bullet_train-test.parquet"):
        write(place / above / name, [0, 1] * 4, ["cat", "dog"])
    data = read(place / above).load()
    assert len(data.train) + len(data.validation) == 8 * len(train)
    assert len(data.test) == 8


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["my_train.parquet", "my_test.parquet"], r"ImageData\.train must .*\['my_test', 'my_train'\]"),
        (["train.parquet", "Test.parquet"], r"ImageData\.test must .*test='Test'"),
        (["train.parquet"], r"ImageData\.test must .*test=0\.2"),
        (["a/train.parquet", "b/train.parquet", "a/test.parquet"], r"in \['a/train\*\.parquet', 'b/train\*.*config="),
        (["a/train/0.parquet", "b/train/0.parquet", "a/test/0.parquet"], r"in \['a/train', 'b/train'\].*config="),
        (["train.parquet", "train/other.parquet", "test.parquet"], "must be in one place.*train"),
        (["train-00000-of-00003.parquet", "train-00002-of-00003.parquet", "test.parquet"], "only 2 of its 3 files"),
        (["train-00000-of-00001.parquet", "train-00000-of-00002.parquet", "test.parquet"], "must be complete"),
        (["train/test.parquet", "test/train.parquet"], "must belong to one split.*Rename"),
    ],
    ids=str,
)
def test_parquet_files_of_unclear_splits(place, files, words):
    for name in files:
        write(place / "set" / name, [0, 1] * 4, ["cat", "dog"])
    with pytest.raises(DataError, match=words):
        read(place / "set").load()


@pytest.mark.parametrize(
    ("column", "kind", "values"),
    [
        ("split", huggingface.ClassLabel(names=["train", "test"]), (0, 1)),
        ("split", huggingface.Value("string"), ("train", "test")),
        ("Usage", huggingface.Value("string"), ("Training", "PublicTest")),  # as in FER2013
        ("phase", huggingface.Value("string"), ("train", "val")),
        ("is_test", huggingface.Value("bool"), (False, True)),
    ],
    ids=str,
)
def test_a_column_that_splits_the_rows_is_not_passed_over(place, column, kind, values, capsys):
    """One file of all images with a column that marks the test images, and the same saved by `datasets`. The
    table warns too. No warning if each split has its own file."""
    features = {"image": huggingface.Image(), "label": huggingface.ClassLabel(names=["cat", "dog"]), column: kind}
    rows = {"image": [encoded(i) for i in range(16)], "label": [0, 1] * 8}
    rows[column] = [values[0]] * 12 + [values[1]] * 4
    whole = huggingface.Dataset.from_dict(rows, features=huggingface.Features(features))
    whole.to_parquet(place / "set" / "train.parquet")
    whole.save_to_disk(place / "saved")
    for each in (place / "set", place / "set" / "train.parquet", place / "saved"):
        capsys.readouterr()
        assert len(read(each, test=0.25).load().test) == 4
        assert f"the column '{column}' of " in capsys.readouterr().err
        assert "read as one split. Write" in read(each, test=0.25).warning
    whole.select(range(12)).to_parquet(place / "both" / "train.parquet")
    whole.select(range(12, 16)).to_parquet(place / "both" / "test.parquet")
    capsys.readouterr()
    read(place / "both").load()
    assert "column" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("column", "values"),
    [("vehicle", ("train", "bus")), ("note", ("test", "a test")), ("color", (True, False)), ("train", (True, False))],
)
def test_other_columns_do_not_split_the_rows(place, column, values, capsys):
    features = {"image": huggingface.Image(), "label": huggingface.ClassLabel(names=["cat", "dog"])}
    features[column] = huggingface.Value("bool" if values[0] is True else "string")
    rows = {"image": [encoded(i) for i in range(16)], "label": [0, 1] * 8, column: list(values) * 8}
    table = huggingface.Dataset.from_dict(rows, features=huggingface.Features(features))
    table.to_parquet(place / "set" / "train.parquet")
    capsys.readouterr()
    assert len(read(place / "set", test=0.25).load().test) == 4
    assert capsys.readouterr().err == ""


def test_a_configuration_is_a_folder(place):
    for name in ("a/train.parquet", "b/train.parquet", "a/test.parquet"):
        write(place / "set" / name, [0, 1] * 4, ["cat", "dog"] if name[0] == "a" else ["emu", "owl"])
    assert read(place / "set", config="a").load().classes == ("cat", "dog")
    with pytest.raises(DataError, match=r"ImageData\.config must name a folder .*'c'"):
        read(place / "set", config="c").load()


def test_what_save_to_disk_wrote_is_read(place):
    for name in ("train", "test"):
        write(place / "set" / f"{name}.parquet", [0, 1] * 4, ["cat", "dog"])
    splits = {n: huggingface.Dataset.from_parquet(str(place / "set" / f"{n}.parquet"), cache_dir=str(place / "hub"))
              for n in ("train", "test")}  # fmt: skip
    huggingface.DatasetDict(splits).save_to_disk(place / "saved")
    splits["train"].save_to_disk(place / "one")
    assert identity(read(place / "saved")) == identity(read(place / "set"))
    assert len(read(place / "one", test=0.5, validation=0.5).load().test) == 4


@pytest.mark.parametrize(
    "name", ["more.PARQUET", "more.pq", "more.parquet.crdownload", ".more.parquet", "_t/more.parquet"]
)
def test_a_parquet_file_of_another_name_is_refused(place, name):
    """Otherwise part of a split would be missing, or a job's leftovers be used."""
    for split in ("train", "test"):
        write(place / "set" / split / "0.parquet", [0, 1] * 4)
    write(place / "set" / "train" / name, [0, 1] * 4)
    with pytest.raises(DataError, match=rf"parquet files must be named.*{re.escape(name)}.*Rename"):
        read(place / "set").load()


def test_a_split_is_whole_or_in_pieces(place):
    write(place / "set" / "test.parquet", [0, 1] * 4)
    write(place / "set" / "train.parquet", [0, 1] * 4)
    write(place / "set" / "train-00000-of-00001.parquet", [0, 1] * 4)
    with pytest.raises(DataError, match=r"'train' .*both.*read twice"):
        read(place / "set").load()


def test_a_class_is_one_whichever_way_its_accent_is_typed(place):
    one, other = "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"
    write(place / "set" / "train.parquet", [one, "dog", other, "dog"] * 3)
    write(place / "set" / "test.parquet", [other, "dog"] * 2)
    data = read(place / "set").load()
    assert data.classes == (one, "dog")
    assert data.test.labels.tolist() == [0, 1, 0, 1]
