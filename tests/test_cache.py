"""Images are decoded once into a file and read ahead from it: the same bits, whatever happens to the file."""

import hashlib
import io
import itertools
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ablation_here, environment, small_training
from PIL import Image
from test_datasets import CLASSES, picture, write_parquet

from ablation.data import Data, ImageData, Split, cache, decode, loaded
from ablation.data import dataset as datasets_base
from ablation.data import survey as source
from ablation.data.prefetch import read_ahead
from ablation.evaluate import KNN, Invariance, Linear, Probe
from ablation.evaluate.evaluator import evaluate
from ablation.methods import SimCLR
from ablation.operators import Blur, Color, Crop, CropFlip, Noise, Resize, Sobel
from ablation.spec import DataError, StorageError, contents_read_once, identity
from ablation.training.loop import pretrain
from ablation.training.views import training_views


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """The cache of this test."""
    monkeypatch.setenv("ABLATION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    """train/ and test/, three classes of 20 images of 20 px."""
    for s, split in enumerate(("train", "test")):
        for c, name in enumerate(CLASSES):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for i in range(20):
                picture(1000 * s + 100 * c + i).save(tmp_path / "pets" / split / name / f"{i}.png")
    return tmp_path / "pets"


def pets(folder, **changes) -> ImageData:
    return ImageData(path=folder, **{"validation": 0.25, "size": 16, **changes})


def in_memory(data: Data) -> Data:
    """The same images, not in a file."""
    splits = {name: Split(part.images.clone(), part.labels) for name, part in data.splits().items()}
    return Data(**splits, classes=data.classes)


def the_images(data: Data) -> bytes:
    return b"".join(part.images.numpy().tobytes() + part.labels.numpy().tobytes() for part in data.splits().values())


def the_file(place):
    (path,) = place.glob("*.u8")
    return path


# --------------------------------------------------------------------------------------------------
# The same bits


def test_training_from_the_file_is_training_in_memory(folder):
    """Views, learning curve, weights and evaluations, also when training on the validation images."""
    streamed = pets(folder).load()
    kept = in_memory(streamed)
    assert streamed.streams
    assert not kept.streams
    for name in ("mean", "std"):
        assert torch.equal(getattr(streamed, name), getattr(kept, name))
    batches = torch.randperm(45).split(9)
    for with_validation in (False, True):
        training = small_training(
            dataset=pets(folder), shared=(CropFlip(),), views=((Color(), Noise()), (Blur(p=0.5),)),
            method=SimCLR(hidden=16, dimension=8),
        )  # fmt: skip
        settings = training.optimization.replace(batch=10, epochs=2, with_validation=with_validation)
        training = training.replace(optimization=settings)
        made = [list(training_views(d.train.images, batches, training, d, (0,))) for d in (streamed, kept)]
        assert all(
            torch.equal(*pair)
            for (one, _), (other, _) in zip(*made, strict=True)
            for pair in zip(one, other, strict=True)
        )
        one, other = (pretrain(training, data) for data in (streamed, kept))
        assert one.history == other.history
        weights = [trained.learner.state_dict() for trained in (one, other)]
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    evaluations = (
        KNN(k=(5,)), Linear(penalties=(1e-1,)), Invariance(operators=(Crop(), Sobel())),
        Probe(task="sobel", versions=((), (Sobel(),)), epochs=1),
    )  # fmt: skip
    one, other = (evaluate(evaluations, one.learner.encoder, data, "float32") for data in (streamed, kept))
    assert [each.metrics for each in one] == [each.metrics for each in other]


def test_views_of_another_size_are_trained_on(folder):
    """The crop of one branch and the whole image of the other at 12 px; evaluation at the stored 16."""
    training = small_training(dataset=pets(folder), views=((Crop(size=12),), (Resize(size=12),)))
    data = loaded(pets(folder), "cpu")
    views, _ = next(training_views(data.train.images, [torch.arange(8)], training, data, (0,)))
    assert [view.shape for view in views] == [(8, 3, 12, 12)] * 2
    assert len(pretrain(training, data).history) == 1


def test_the_second_process_reads_the_file_only(folder, monkeypatch):
    first = pets(folder).load()
    source._surveyed.cache_clear()
    monkeypatch.setattr("ablation.data.decode._opened", None)  # reading an image fails
    again = pets(folder).load()
    assert the_images(again) == the_images(first)
    assert torch.equal(again.mean, first.mean)
    assert again.classes == first.classes


def test_training_and_validation_images_are_one_piece(folder):
    """Together they are a view, not a copy, also on a device."""
    for data in (pets(folder).load(), in_memory(pets(folder).load()).to(torch.device("meta"))):
        both = data.training(with_validation=True)
        assert both.images.shape == (60, 3, 16, 16)
        assert both.images.untyped_storage().data_ptr() == data.train.images.untyped_storage().data_ptr()
        assert both.images.storage_offset() == data.train.images.storage_offset()
    data = pets(folder).load()
    whole = torch.cat([data.train.images, data.validation.images])
    assert torch.equal(data.training(True).images, whole)
    assert torch.equal(in_memory(data).training(True).images, whole)


def test_images_go_to_a_device_where_they_leave_room(folder, monkeypatch):
    data, device = pets(folder).load(), torch.device("meta")
    moved = data.to(device)
    assert moved.train.images.device == moved.device == device
    assert not moved.streams
    monkeypatch.setattr(datasets_base, "room", lambda device: 1000)
    stays = in_memory(data).to(device)
    assert stays.streams
    assert stays.train.images.device.type == "cpu"
    assert stays.device == stays.mean.device == stays.train.labels.device == device


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_streaming_to_a_gpu_is_training_with_images_on_it(folder, monkeypatch):
    """Batches are read, pinned and copied ahead, while earlier ones are used."""
    training = small_training(dataset=pets(folder), views=((CropFlip(), Color()), (Noise(),)))
    training = training.replace(optimization=training.optimization.replace(batch=8, epochs=3))
    device = torch.device("cuda")
    lying = pets(folder).load().to(device)
    monkeypatch.setattr(datasets_base, "room", lambda device: 0)
    streamed = pets(folder).load().to(device)
    assert streamed.streams
    assert not lying.streams
    batches = torch.randperm(45, device=device).split(5)
    for (views, _), (same, _) in zip(
        *(training_views(d.train.images, batches, training, d, (0,)) for d in (streamed, lying)), strict=True
    ):
        assert all(torch.equal(*pair) for pair in zip(views, same, strict=True))
    one, other = (pretrain(training, data).history for data in (streamed, lying))
    assert [row["loss"] for row in one] == pytest.approx([row["loss"] for row in other], rel=1e-3)


# --------------------------------------------------------------------------------------------------
# The identity


def test_the_fingerprint_is_a_digest_of_all_images_and_labels(folder):
    """Every result's identity contains the value, so it must never change."""
    digest = hashlib.sha256(repr(CLASSES).encode())
    for split in ("test", "train"):
        for label, name in enumerate(CLASSES):
            for path in sorted((folder / split / name).iterdir()):
                encoded = path.read_bytes()
                digest.update(f"{split} {label} {len(encoded)} ".encode() + encoded)
    assert pets(folder).fingerprint() == digest.hexdigest()[:16]


def test_the_fingerprint_is_remembered_for_the_files_as_they_are(folder, monkeypatch):
    first = pets(folder).fingerprint()
    source._surveyed.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr("ablation.data.decode._opened", None)
        assert pets(folder).fingerprint() == first
        assert pets(folder, size=8, validation=0.5).fingerprint() == first
    path = folder / "train" / "cat" / "0.png"
    old, times = path.read_bytes(), path.stat()
    path.write_bytes(old[:-20] + bytes([old[-20] ^ 1]) + old[-19:])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # the same size and time of writing
    assert pets(folder).fingerprint() != first


def test_files_that_change_are_seen_in_the_same_process(folder):
    """As in a notebook, by identity and by images; one command checks the files once."""
    data = pets(folder)
    before, images = identity(data), loaded(data, "cpu").train.images
    assert loaded(data, "cpu").train.images is images
    for path in (folder / "train").rglob("*.png"):
        path.write_bytes((folder / "test" / path.relative_to(folder / "train")).read_bytes())
    after = identity(data)
    assert after != before
    assert not torch.equal(loaded(data, "cpu").train.images, images)
    assert identity(pets(folder)) == after
    with contents_read_once():
        assert identity(data) == after
        (folder / "train" / "cat" / "0.png").unlink()
        assert identity(data) == after
    assert identity(data) != after


def test_files_that_change_while_they_are_read(folder, monkeypatch):
    turned, read = decode.turned, []

    def meanwhile(encoded):
        read.append(encoded)
        if len(read) == 30:
            picture(7).save(folder / "train" / "cat" / "0.png")
        return turned(encoded)

    monkeypatch.setattr("ablation.data.decode.turned", meanwhile)
    with pytest.raises(DataError, match=r"ImageData.path .*a file changed while .*Start again"):
        pets(folder).fingerprint()


# --------------------------------------------------------------------------------------------------
# What can happen to the file


def cut(path, sidecar):
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path, sidecar):
    content, times = bytearray(path.read_bytes()), path.stat()
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def put_another(path, sidecar):
    other = path.with_name("other")
    other.write_bytes(bytes(path.stat().st_size))
    other.replace(path)


def remove(path, sidecar):
    path.unlink()


def damage_the_facts(path, sidecar):
    sidecar.write_text(sidecar.read_text().replace("cat", "cow"))


def cut_the_facts(path, sidecar):
    sidecar.write_text(sidecar.read_text()[:50])


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (cut, r"has \d+ bytes, not \d+"),
        (flip_a_bit, r"\.u8 .*checksum differs"),
        (put_another, r"\.u8 .*checksum differs"),
        (remove, "cannot be read"),
        (damage_the_facts, "is damaged or from another version"),
        (cut_the_facts, "cannot be read"),
    ],
)
def test_a_file_that_is_not_what_was_written_is_made_again(folder, place, capsys, harm, sentence):
    expected = the_images(pets(folder).load())
    path = the_file(place)
    harm(path, path.with_suffix(".json"))
    assert capsys.readouterr().err == ""
    assert the_images(pets(folder).load()) == expected
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert re.search(sentence + ".*; decoding the images again", said)
    assert the_images(pets(folder).load()) == expected
    assert capsys.readouterr().err == ""


def test_the_checksum_is_computed_once_for_a_file(folder, place, monkeypatch):
    expected = the_images(pets(folder).load())
    os.utime(the_file(place))  # as by a copy of the folder
    assert the_images(pets(folder).load()) == expected
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert the_images(pets(folder).load()) == expected


DECODE = textwrap.dedent(
    """
    import sys, time, hashlib
    from ablation.data import ImageData, cache
    pause = float(sys.argv[2])
    put = cache.Writer.put

    def slowly(self, slot, image):
        if not self.shape:
            print("decoding", flush=True)
        put(self, slot, image)
        time.sleep(pause)

    cache.Writer.put = slowly
    data = ImageData(path=sys.argv[1], validation=0.25, size=16).load()
    content = b"".join(p.images.numpy().tobytes() + p.labels.numpy().tobytes() for p in data.splits().values())
    print(hashlib.sha256(content).hexdigest(), flush=True)
    """
)


def decoding(folder, pause: float) -> subprocess.Popen:
    command = [sys.executable, "-c", DECODE, str(folder), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())


def test_killed_while_decoding(folder, place, tmp_path, monkeypatch):
    process = decoding(folder, 0.1)
    assert process.stdout.readline() == "decoding\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(place.glob("*.partial"))
    found = the_images(pets(folder).load())
    assert not list(place.glob("*.partial"))
    monkeypatch.setenv("ABLATION_CACHE", str(tmp_path / "another"))
    assert the_images(pets(folder).load()) == found


def test_two_processes_at_once_decode_once(folder):
    said = [process.communicate()[0].split() for process in [decoding(folder, 0.01) for _ in range(2)]]
    assert sorted(len(lines) for lines in said) == [1, 2]  # one of them says "decoding"
    assert len({lines[-1] for lines in said}) == 1


def test_a_full_disk(folder, tmp_path, monkeypatch):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("a file system of a size of its own cannot be mounted here")
    try:
        monkeypatch.setenv("ABLATION_CACHE", str(small))
        with pytest.raises(StorageError, match=r"ABLATION_CACHE .* space for the 120 images of pets .*No space left"):
            pets(folder).load()
        assert not [path for path in small.iterdir() if path.suffix in (".u8", ".partial")]
        assert len(list(small.glob("source-*.json"))) == 1  # earlier files stay
        assert len(pets(folder, size=4).load().train) == 45  # smaller images still fit
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_a_folder_that_cannot_be_written(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ABLATION_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageError, match=r"ABLATION_CACHE must be a folder .*Not a directory.*ABLATION_CACHE=PLACE"):
        pets(folder).load()


def test_the_cache_is_beside_the_results_unless_another_is_named(folder, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from ablation.data import ImageData\nfrom ablation.experiments.pairwise import experiment as pairwise\n"
        "def experiment(scale):\n"
        f"    return pairwise(scale.replace(dataset=ImageData(path={str(folder)!r}, size=16), batch=8))\n"
    )
    command = ("run", "mine.py", "--scale", "cifar10-small", "--dry-run", "--results", "found")
    ablation_here(*command, cwd=tmp_path)
    assert not (tmp_path / "found" / "cache").exists()
    assert list((tmp_path / "cache").glob("source-*.json"))
    source._surveyed.cache_clear()  # like another process
    loaded.cache_clear()
    monkeypatch.delenv("ABLATION_CACHE")
    ablation_here(*command, cwd=tmp_path)
    assert list((tmp_path / "found" / "cache").glob("source-*.json"))


# --------------------------------------------------------------------------------------------------
# Images that lie elsewhere


def test_images_outside_the_folder_are_refused(folder, tmp_path):
    outside = tmp_path / "secret.png"
    picture(1).save(outside)
    link = folder / "train" / "cat" / "link.png"
    link.symlink_to(outside)
    with pytest.raises(DataError, match=r"images must be inside the data set's folder, but .*link.png.*secret.png"):
        pets(folder).load()
    link.unlink()
    link.symlink_to(folder / "train" / "cat" / "0.png")
    assert len(pets(folder).load().train) == 46


@pytest.mark.parametrize("by", ["absolute path", "parent", "link"])
def test_parquet_that_points_outside_is_refused(tmp_path, by):
    import pyarrow
    import pyarrow.parquet

    picture(1).save(tmp_path / "secret.png")
    inside = tmp_path / "set"
    inside.mkdir()
    picture(2).save(inside / "own.png")
    (inside / "link.png").symlink_to(tmp_path / "secret.png")
    path = {"absolute path": str(tmp_path / "secret.png"), "parent": "../secret.png", "link": "link.png"}[by]

    def write(path: str) -> None:
        images = [{"bytes": None, "path": path}] * 8
        table = pyarrow.table({"image": images, "label": [0, 1] * 4})
        pyarrow.parquet.write_table(table, inside / "train.parquet")

    settings = {"image_column": "image", "label_column": "label", "test": 0.5, "validation": 0.5}
    for place in (inside, inside / "train.parquet"):
        write(path)
        with pytest.raises(DataError, match=r"images must be inside the data set's folder, but .*secret.png"):
            ImageData(path=place, **settings).load()
        write("own.png")
        assert ImageData(path=place, **settings).load().size == 20


def test_splits_with_different_words_for_classes(tmp_path):
    import datasets

    for split, words in (("train", ("no", "yes")), ("test", ("no", "perhaps"))):
        rows = []
        for i in range(8):
            buffer = io.BytesIO()
            picture(i).save(buffer, "PNG")
            rows.append({"img": {"bytes": buffer.getvalue(), "path": None}, "word": words[i % 2]})
        features = datasets.Features({"img": datasets.Image(), "word": datasets.Value("string")})
        (tmp_path / "two").mkdir(exist_ok=True)
        datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "two" / f"{split}.parquet")
    with pytest.raises(DataError, match=r"must have the same classes, but train lacks 'perhaps'; test lacks 'yes'"):
        ImageData(path=tmp_path / "two", label_column="word").load()


# --------------------------------------------------------------------------------------------------
# Reading ahead


def test_batches_come_in_order_and_only_some_are_read_in_advance(monkeypatch):
    images = torch.arange(60, dtype=torch.uint8).view(20, 3, 1, 1)
    rows, read = torch.arange(20).flip(0).split(2), []
    select = torch.index_select

    def recorded(images, dimension, rows, **out):
        read.append(rows)
        return select(images, dimension, rows, **out)

    monkeypatch.setattr(torch, "index_select", recorded)
    batches = read_ahead(images, rows, torch.device("cpu"), depth=2)
    for number, expected in enumerate(rows):
        assert torch.equal(next(batches), images[expected])
        time.sleep(0.01)
        assert number < len(read) <= number + 3
    assert next(batches, None) is None


def running() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def test_an_error_of_the_thread_is_raised_at_its_batch():
    images = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
    batches = read_ahead(images, [torch.tensor([0]), torch.tensor([99]), torch.tensor([1])], torch.device("cpu"))
    assert len(next(batches)) == 1
    with pytest.raises(IndexError):
        next(batches)
    assert not running()


def test_the_thread_ends_with_the_iterator(folder):
    data = pets(folder).load()
    training = small_training(dataset=pets(folder))
    views = training_views(data.train.images, torch.arange(45).split(1), training, data, (0,))
    assert len(list(itertools.islice(views, 2))) == 2
    views.close()
    assert not running()
    assert len(list(data.pieces(data.test.images, 7))) == 9
    assert not running()


MEMORY = textwrap.dedent(
    """
    import sys, threading, time, torch
    from pathlib import Path
    torch.set_num_threads(1)
    from ablation.data import ImageData

    def anonymous():
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

    def passed(data):
        for _ in range(2):
            rows = torch.randperm(len(data.train)).split(16)
            for batch in data.batches(data.train.images, rows):
                batch.float().mean()
            for piece in data.pieces(data.test.images, 16):
                piece.float().mean()

    peak, over = 0, threading.Event()

    def watch():
        global peak
        while not over.is_set():
            peak = max(peak, anonymous())
            time.sleep(0.002)

    def load(path):
        return ImageData(path=path, test=0.1, validation=0.1, size=128).load()

    passed(load(sys.argv[1]))  # libraries and buffers
    before = anonymous()
    watcher = threading.Thread(target=watch)
    watcher.start()
    data = load(sys.argv[2])
    passed(data)
    over.set()
    watcher.join()
    print(peak - before, sum(part.images.nbytes for part in data.splits().values()))
    """
)


def test_memory_does_not_grow_with_the_data_set(tmp_path):
    """Reads, decodes and iterates over 66 MB encoded and 118 MB decoded, each several times the allowed memory."""
    status = Path("/proc/self/status")
    if not status.exists() or "RssAnon" not in status.read_text():
        pytest.skip("the system does not say how much memory of a process is anonymous")
    rng = np.random.default_rng(0)
    for name, count in (("few", 120), ("many", 2400)):
        place = tmp_path / f"{name}.parquet"
        write_bitmaps(place, (rng.integers(0, 255, (96, 96, 3), dtype=np.uint8) for _ in range(count)))
    # Allocators must return freed memory: they keep a bounded amount, but it exceeds what this test measures.
    env = {**environment(), "MALLOC_MMAP_THRESHOLD_": "65536", "ARROW_DEFAULT_MEMORY_POOL": "system"}
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "few.parquet"), str(tmp_path / "many.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    grown, decoded = map(int, done.stdout.split())
    assert decoded > 110e6
    assert grown < 24e6


def write_bitmaps(path, images) -> None:
    """Uncompressed: large encoded images that are fast to write; row groups of 100, as on the Hub."""
    import datasets
    import pyarrow
    import pyarrow.parquet

    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    schema = datasets.Features(kinds).arrow_schema
    with pyarrow.parquet.ParquetWriter(path, schema, compression="none") as writer:
        while some := list(itertools.islice(images, 100)):
            rows = []
            for number, array in enumerate(some):
                buffer = io.BytesIO()
                Image.fromarray(array).save(buffer, "BMP")
                rows.append({"image": {"bytes": buffer.getvalue(), "path": None}, "label": number % 3})
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))


def test_opening_is_cheap(tmp_path, monkeypatch):
    """Reads no image, neither for the statistics nor for the plan."""
    write_parquet(tmp_path / "train.parquet", [(picture(i), i % 3) for i in range(60)])
    data = ImageData(path=tmp_path / "train.parquet", test=0.5, validation=0.5)
    first = data.load()
    monkeypatch.setattr(cache, "count_values", None)
    monkeypatch.setattr(datasets_base, "count_values", None)
    assert torch.equal(data.load().std, first.std)


def test_a_file_larger_than_memory_is_mapped(tmp_path):
    size = 2 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with open(tmp_path / "images", "wb+") as file:
        file.truncate(size)  # takes no room
        assert cache._mapped(file, [size])[-1] == 0


def test_a_link_where_a_lock_or_an_unfinished_file_belongs_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.setenv("ABLATION_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "cache" / "key.lock").symlink_to(precious)
    with pytest.raises(StorageError, match="ABLATION_CACHE must be a folder"), cache.locked("key"):
        pass
    (tmp_path / "cache" / "key.u8.partial").symlink_to(precious)
    with cache.Writer("key", 1, "noise") as writer:
        writer.put(0, np.zeros((3, 4, 4), np.uint8))
    os.mkfifo(tmp_path / "cache" / "other.json")
    assert cache.recall("other")[0] is None
    assert precious.read_text() == "precious"
