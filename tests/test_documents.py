"""Documents and files in a results folder that someone changed, replaced or forged."""

import copy
import json
import os
import platform
import socket
import subprocess
import sys

import pytest
from helpers import resealed

from ablation.execution.documents import EVALUATION, FAILURE, MANIFEST, RUNNING, TRAINING, Refused, misfit, read, sealed
from ablation.spec import StorageError
from ablation.system.files import check_folder, open_lock, read_file, remove, write_file
from ablation.system.terminal import printable

ID, DIGEST = "0123456789ab", "0" * 64
FILE = {"bytes": 3, "sha256": DIGEST}
PROVENANCE = dict.fromkeys(("device", "torch", "kornia", "commit"), "-")
GOOD = {
    "training": (
        TRAINING,
        {
            "id": ID, "training": {}, "files": {"history.csv": FILE}, "last": {"loss": 1.0}, "diagnostics": {},
            "images": {"train": 3}, "seconds": 1.5, "peak_memory_bytes": 7, "energy_joules": None,
            "sittings": [{"seconds": 1.5, "processes": 2}], "classes": ["a"],
            "normalization": {"mean": [0.5], "std": [0.2]}, "provenance": PROVENANCE,
        },
    ),
    "evaluation": (
        EVALUATION,
        {
            "id": ID, "training_id": ID, "evaluation": {}, "label": "knn", "files": {f"{ID}.npz": FILE},
            "metrics": {"test_top1": 50.0, "unknown": float("nan")}, "notes": ["capped"], "seconds": 1.0,
            "classes": ["a"], "images": {"test": 3}, "energy_joules": 3.0, "provenance": PROVENANCE,
        },
    ),
    "failure": (
        FAILURE,
        {
            "training_id": ID, "evaluation_id": None, "label": None, "cell": "a=1", "kind": "memory", "message": "no",
            "place": None, "traceback": "",
        },
    ),
    "manifest": (
        MANIFEST,
        {
            "name": "q", "scale": "tiny", "file": "../q.py",
            "cells": [{"coords": {"a": 1, "b": "x"}, "training": ID, "evaluations": [ID]}],
        },
    ),
    "running": (
        RUNNING,
        {
            "host": "h", "process": 3, "updated": 1.0, "jobs": 2, "done": 1, "failed": 0, "left": None,
            "running": [
                {"training": ID, "name": "a=1", "worker": "w", "since": 1.0, "fraction": 0.5, "epochs": 3}
            ],
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", GOOD)
def test_a_document_is_read_as_it_was_written(kind, tmp_path):
    form, document = GOOD[kind]
    (tmp_path / "d.json").write_bytes(sealed(document, form))
    found = read(tmp_path / "d.json", form)
    assert {name: found[name] for name in document if name != "metrics"} == {
        name: value for name, value in document.items() if name != "metrics"
    }
    assert json.loads((tmp_path / "d.json").read_text())["sha256"]  # plain JSON for other readers


@pytest.mark.parametrize("kind", GOOD)
def test_one_changed_bit_anywhere_is_noticed(kind, tmp_path):
    form, document = GOOD[kind]
    content, path = sealed(document, form), tmp_path / "d.json"
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(Refused, match=r"d\.json"):
            read(path, form)
    for end in range(0, len(content), 7):
        path.write_bytes(content[:end])
        with pytest.raises(Refused, match=r"d\.json"):
            read(path, form)


NUMBERS = [-1, 10**30, 1e300, float("nan"), float("inf")]
WRONG = [None, True, *NUMBERS, "", "../x", "\x1b[31m", [], [[]], {}, {"": None}, [0]]


def places(value, path=()):
    """The path of every value in a document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def changed(document, path, value):
    if not path:
        return value
    document = copy.deepcopy(document)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return document


def refusal(path, form) -> str:
    try:
        read(path, form)
    except Refused as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", GOOD)
def test_whatever_is_in_a_document_it_is_read_or_refused_in_words(kind, tmp_path):
    """Replaces each value by each wrong one, with a correct digest; then removes each field."""
    form, document = GOOD[kind]
    path = tmp_path / "d.json"
    refused = []
    for place in places(document):
        for value in WRONG:
            body = json.dumps({"format": 2} | changed(document, place, value) if place else value)
            path.write_bytes(resealed(body.encode().removesuffix(b"}")))
            refused.append(refusal(path, form))
    assert len(list(filter(None, refused))) > 10 * len(document)
    assert all(str(path) in words for words in refused if words)
    for name in (name for name in document if f"{name}?" not in form):
        wrong = misfit({key: value for key, value in document.items() if key != name}, form)
        assert name in wrong


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        (("files",), {"../../x": FILE}, "'../../x'"),
        (("files",), {"/etc/passwd": FILE}, "'/etc/passwd'"),
        (("files",), {".hidden": FILE}, "'.hidden'"),
        (("files", "history.csv", "bytes"), -1, "files['history.csv'].bytes"),
        (("files", "history.csv", "sha256"), "00", "files['history.csv'].sha256"),
        (("images", "train"), 1e400, "images['train']"),
        (("sittings", 0, "seconds"), "1", "sittings[0].seconds"),
        (("id",), "0123456789AB", "id must be an id"),
        (("provenance", "torch"), None, "provenance.torch must be a text"),
    ],
)
def test_a_misfit_names_the_field(field, value, words):
    form, document = GOOD["training"]
    assert words in misfit(changed(document, field, value), form)
    with pytest.raises(ValueError, match="cannot be written"):
        sealed(changed(document, field, value), form)


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[]", b"{}", b"[" * 100_000, b'{"a":' * 50_000, b"1" * 10_000, b'{"format": 1}', b"null"]
)
def test_what_is_no_document_is_refused_in_words(content, tmp_path):
    (tmp_path / "d.json").write_bytes(content)
    for with_seal in (content, resealed(content)):
        (tmp_path / "d.json").write_bytes(with_seal)
        with pytest.raises(Refused, match=r"d\.json"):
            read(tmp_path / "d.json", TRAINING)


def test_names_reach_a_terminal_in_one_printable_line():
    assert printable("crop ± é 漢") == "crop ± é 漢"
    for text in ("\x1b]0;x\x07", "a\nb", "\x9b31m", "\u202e", "\u2028", "\udc80", "\x7f", "\r"):
        assert printable(f"x{text}y").isprintable()


# --------------------------------------------------------------------------------------------------
# Files


@pytest.fixture
def other(tmp_path):
    """Another program's file."""
    path = tmp_path / "other" / "precious"
    path.parent.mkdir()
    path.write_text("precious")
    yield path
    assert path.read_text() == "precious"


@pytest.mark.parametrize("kind", ["link", "dangling link", "FIFO", "folder", "socket", "device"])
def test_only_regular_files_are_opened_and_nothing_waits(kind, tmp_path, other):
    path = tmp_path / "x"
    held = None
    if kind in ("link", "dangling link"):
        path.symlink_to(other if kind == "link" else tmp_path / "made")
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        held = socket.socket(socket.AF_UNIX)
        held.bind(str(path))
    else:
        path = "/dev/zero"
    for call in (read_file, open_lock) if kind != "device" else (read_file,):
        with pytest.raises(OSError, match=r"x|zero"):
            call(path)
    assert not (tmp_path / "made").exists()
    if held:
        held.close()


def test_a_lock_keeps_what_a_file_holds(tmp_path):
    (tmp_path / "lock").write_text("content")
    with open_lock(tmp_path / "lock"):
        pass
    assert (tmp_path / "lock").read_text() == "content"
    with open_lock(tmp_path / "new" / "lock"):
        pass
    assert (tmp_path / "new" / "lock").read_bytes() == b""


def test_writing_replaces_a_link_and_leaves_its_target(tmp_path, other):
    path = tmp_path / "table.csv"
    path.symlink_to(other)
    temporary = tmp_path / f".table.csv.{platform.node()}.{os.getpid()}.part"
    temporary.symlink_to(other)
    write_file(path, b"new")
    assert not path.is_symlink()
    assert path.read_bytes() == b"new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "table.csv"]


def test_what_a_dead_process_left_unfinished_is_removed_and_nothing_else(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = platform.node()
    kept = [f".t.csv.{host}.{os.getppid()}.part", ".t.csv.elsewhere.7.part", f".u.csv.{host}.{dead.pid}.part"]
    for name in [f".t.csv.{host}.{dead.pid}.part", ".t.csv.old.elsewhere.7.part", *kept]:
        (tmp_path / name).touch()
    os.utime(tmp_path / ".t.csv.old.elsewhere.7.part", (0, 0))
    write_file(tmp_path / "t.csv", b"x")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["t.csv", *kept])
    remove(tmp_path / "t.csv")
    assert [p.name for p in tmp_path.iterdir()] == [kept[2]]


@pytest.mark.parametrize("name", ["file/inside", "file", "/proc/nothing"])
def test_a_folder_that_cannot_be_written_is_a_sentence(name, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=rf"--results must be a writable folder, but .*{name}"):
        check_folder("--results", tmp_path / name)
    check_folder("--results", tmp_path / "a" / "b")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_changed_ends_of_lines_are_named(tmp_path):
    form, document = GOOD["training"]
    path = tmp_path / "training.json"
    path.write_bytes(sealed(document, form).replace(b"\n", b"\r\n"))
    with pytest.raises(Refused, match=r"was changed: .*ends of lines"):
        read(path, form)
