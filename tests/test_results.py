"""Runs on disk: what counts as finished, what is computed again, what is shared."""

import errno
import fcntl
import hashlib
import json
import os

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import GRID, SMALL, small_run, small_training
from safetensors import safe_open

from ablation.cli import main
from ablation.compute import compute
from ablation.datasets import loaded
from ablation.documents import SEAL
from ablation.encoders import ResNet
from ablation.engines import Setup, in_this_process
from ablation.evaluate import KNN, Linear
from ablation.evaluate.knn import accuracies, nearest, vote
from ablation.failures import Failure
from ablation.files import write_file
from ablation.grids import sweep
from ablation.methods import Initialization, NTXent, SimCLR
from ablation.operators import Crop, Sobel
from ablation.results import Results, identified, table
from ablation.runner import plan
from ablation.specs import Cell, Experiment, InvalidSpec, identity

EVALUATIONS = (KNN(k=(10,)), Linear())


def experiment(*runs) -> Experiment:
    return Experiment(
        cells=tuple(Cell(coords={"cell": i, "seed": 0}, run=run) for i, run in enumerate(runs)), figures={}
    )


def jobs(asked: Experiment, results: Results):
    return plan(identified(asked), results).jobs


def run_all(asked: Experiment, results: Results) -> list:
    """Computes what is missing; returns the jobs that were needed."""
    needed = jobs(asked, results)
    for outcome in in_this_process(needed, lambda *_: None, 1, Setup("cpu")):
        assert outcome.part.failure is None, outcome.part.failure.traceback
        results.write(outcome.job.training_id, outcome.part.files)
    return needed


def files_of(parts) -> dict[str, bytes]:
    return {name: content for files in parts for name, content in files.items()}


def resealed(content: bytes) -> bytes:
    """A document with other content, and the digest of that."""
    body = content[: content.rindex(SEAL)]
    return body + SEAL + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'


@pytest.fixture
def results(tmp_path) -> Results:
    return Results(tmp_path)


def test_computed_once(results):
    asked = experiment(small_run(), small_run(seed=1))
    assert len(run_all(asked, results)) == 2
    assert jobs(asked, results) == []
    document, wrong = results.training(identity(small_training()))
    assert wrong is None
    assert document["seconds"] > 0
    assert document["peak_memory_bytes"] > 1e6
    assert document["images"] == {"train": 100, "validation": 40, "test": 60}
    assert {"device", "torch", "commit", "python"} <= set(document["provenance"])
    history = pd.read_csv(results.folder(identity(small_training())) / "history.csv")
    assert {"loss", "contrastive_accuracy", "validation_knn", "learning_rate"} <= set(history)


def test_two_experiments_share_identical_cells(results):
    run_all(experiment(small_run(), small_run(seed=1)), results)
    other = experiment(small_run(seed=1), small_run(seed=2))
    assert [job.work.training.seed for job in jobs(other, results)] == [2]


def test_identical_cells_of_one_experiment_run_once(results):
    twice = experiment(small_run(), small_run().replace(evaluations=(KNN(k=(3,)),)))
    (job,) = jobs(twice, results)
    assert len(job.evaluation_ids) == 3
    run_all(twice, results)
    assert jobs(twice, results) == []


def test_a_new_evaluation_does_not_train_again(results):
    run_all(experiment(small_run()), results)
    folder = results.folder(identity(small_training()))
    before = (folder / "training.json").stat().st_mtime_ns
    more = experiment(small_run().replace(evaluations=(KNN(k=(5,), temperature=(0.5,)), Linear())))
    (job,) = run_all(more, results)
    assert job.weights is not None
    assert (folder / "training.json").stat().st_mtime_ns == before
    assert len(list((folder / "evaluations").glob("*.json"))) == 3


def test_an_evaluation_of_the_stored_encoder_equals_the_first(results):
    run_all(experiment(small_run()), results)
    first = table(experiment(small_run()), results).iloc[0]
    for path in (results.folder(first["training"]) / "evaluations").iterdir():
        path.unlink()
    run_all(experiment(small_run()), results)
    second = table(experiment(small_run()), results).iloc[0]
    for column in first.index:
        if "top" in column:
            assert first[column] == second[column], column


def test_the_same_run_twice_gives_the_same_numbers():
    """Bit for bit on a CPU, in float32 and in bfloat16."""
    for precision in ("float32", "bfloat16"):
        training = small_training()
        training = training.replace(optimization=training.optimization.replace(precision=precision))
        one, two = (files_of(compute(training, EVALUATIONS, None, "cpu")) for _ in range(2))
        assert one["encoder.safetensors"] == two["encoder.safetensors"]
        assert one["history.csv"] == two["history.csv"]
        for name in one:
            if name.endswith(".npz"):
                assert one[name] == two[name]


def test_truncated_and_foreign_results_run_again(results):
    asked = experiment(small_run())
    run_all(asked, results)
    folder = results.folder(identity(small_training()))
    good = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    def complaint() -> str:
        found = plan(identified(asked), results)
        assert len(found.jobs) == 1
        for path, content in good.items():
            write_file(path, content)
        assert jobs(asked, results) == []
        return " ".join(found.complaints)

    training, weights = folder / "training.json", folder / "encoder.safetensors"
    training.write_bytes(good[training][:100])
    assert "training.json is no JSON document" in complaint()
    weights.write_bytes(good[weights][:1000])
    assert "encoder.safetensors is missing or truncated" in complaint()
    training.write_bytes(resealed(good[training].replace(b'"format": 2', b'"format": 3')))
    assert "not of format 2" in complaint()
    training.write_bytes(resealed(good[training].replace(b'"temperature": 0.5', b'"temperature": 0.7')))
    assert "describes another training" in complaint()
    training.write_bytes(resealed(good[training].replace(b'"files"', b'"other"')))
    assert "training.json is damaged: lacks files" in complaint()
    evaluation = next((folder / "evaluations").glob("*.json"))
    evaluation.write_bytes(b"")
    assert "is no JSON document" in complaint()
    predictions = next((folder / "evaluations").glob("*.npz"))
    predictions.write_bytes(good[predictions][:200])
    assert ".npz is missing or truncated" in complaint()
    training.write_text(json.dumps({**json.loads(good[training]), "format": 1, "sha256": None}))
    assert "training.json does not hold a digest of itself, as an earlier version wrote it" in complaint()


def test_a_damaged_encoder_is_not_evaluated(results):
    """Same size, other bits: the digest tells; the run is trained again and says so."""
    asked = experiment(small_run())
    run_all(asked, results)
    weights = results.folder(identity(small_training())) / "encoder.safetensors"
    content = bytearray(weights.read_bytes())
    content[-10] ^= 255
    weights.write_bytes(bytes(content))
    more = experiment(small_run().replace(evaluations=(KNN(k=(2,)),)))
    found = plan(identified(more), results)
    assert found.jobs[0].weights is None
    assert "missing or damaged" in found.complaints[0]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a" / "file.json"
    write_file(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_the_table(results):
    asked = Experiment(
        cells=sweep(lambda operator: small_run(views=((operator,), ())), operator=(Crop(), Sobel()), seeds=range(2)),
        figures={},
    )
    partly = Experiment(cells=asked.cells[:3], figures={})
    run_all(partly, results)
    found = table(asked, results)
    assert found[["operator", "seed"]].values.tolist() == [["crop", 0], ["crop", 1], ["sobel", 0], ["sobel", 1]]
    assert found["state"].tolist() == ["finished"] * 3 + ["missing"]
    for protocol, splits in {"knn": ("validation", "test"), "linear": ("train", "validation", "test")}.items():
        for split in splits:
            for statistics in ("running", "recalibrated"):
                for top in ("top1", "top5"):
                    values = found[f"{protocol}_{split}_{top}_{statistics}"]
                    assert values[:3].between(0, 100).all()
                    assert np.isnan(values[3])
    for column in ("alignment", "uniformity", "loss", "contrastive_accuracy", "training_seconds", "peak_memory_bytes"):
        assert found[column][:3].notna().all(), column


def test_an_axis_keeps_its_labels(results):
    """Axes named like a column of the table: method, encoder, batch, ..."""
    methods = {
        "cold": SimCLR(hidden=16, dimension=8, objective=NTXent(temperature=0.1)),
        "hot": SimCLR(hidden=16, dimension=8),
    }
    asked = Experiment(
        cells=sweep(lambda method, batch: small_run(method=method), method=methods, batch=("a", "b"), seeds=[0]),
        figures={},
    )
    found = table(asked, results)
    assert found["method"].tolist() == ["cold", "cold", "hot", "hot"]
    assert found["batch"].tolist() == ["a", "b", "a", "b"]
    with pytest.raises(InvalidSpec, match="must not use the name of what is measured or computed, but got 'loss'"):
        table(Experiment(cells=(Cell(coords={"loss": 1}, run=small_run()),), figures={}), results)


def test_one_owner_at_a_time(results):
    with results.owned(), pytest.raises(InvalidSpec, match="--results must be written by one process at a time"):  # noqa: SIM117
        with Results(results.root).owned():
            pass
    with results.owned():
        pass


def test_a_folder_that_cannot_be_locked(tmp_path, monkeypatch, capsys):
    """As on Lustre without `-o flock`: said, and a run and a shard go on. A search needs its gate, and is refused."""

    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    (tmp_path / "question.py").write_text(GRID)
    monkeypatch.chdir(tmp_path)
    assert main(["run", "question.py", "--only", "first=crop,second=crop,seed=0", "--workers", "1"]) == 0
    said = capsys.readouterr().err
    assert "cannot be locked (No locks available): see to it yourself that only one process at a time" in said
    assert len(list((tmp_path / "results").glob("*/training.json"))) == 1
    with Results(tmp_path / "results").owned_shard(0, 2):
        assert "or one of each shard" in capsys.readouterr().err
    assert main(["search", "search_color", "--scale", "tiny"]) == 2
    assert "--storage must lie where files can be locked, but" in capsys.readouterr().err


def test_an_exported_encoder_is_used_elsewhere(results, tmp_path, capsys):
    """Loaded by torchvision's names into another network, with the normalization that the file names, it gives the same
    features, whose kNN accuracy is the run's."""
    run = small_run(encoder=ResNet(depth=18))
    [item] = identified(experiment(run))
    assert run_all(experiment(run), results)
    path = tmp_path / "out" / "encoder.safetensors"
    assert main(["export", item.training_id[:8], "--to", str(path), "--results", str(results.root)]) == 0
    assert "torchvision: model = resnet18()" in capsys.readouterr().out

    with safe_open(path, "pt") as file:
        told = {name: json.loads(file.metadata()[name]) for name in ("training", "classes", "normalization")}
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    network = ResNet(depth=18).build()
    network.load_state_dict(weights)
    data = loaded(SMALL, "cpu")
    mean, std = (torch.tensor(told["normalization"][name])[:, None, None] for name in ("mean", "std"))
    assert told["classes"] == list(data.classes)

    def h(images):
        with torch.no_grad():
            return network.eval()((images / 255 - mean) / std)

    near, neighbours = nearest(h(data.test.images), h(data.train.images), 10)
    votes = vote(near, data.train.labels[neighbours], 0.1, len(data.classes))
    found = table(experiment(run), results).iloc[0]
    assert accuracies(votes, data.test.labels)["top1"] == pytest.approx(found["knn_test_top1_running"])


@pytest.mark.parametrize("asked", ["", "zz", "../secret", "0" * 12])
def test_what_cannot_be_exported(asked, results, capsys):
    assert main(["export", asked, "--results", str(results.root)]) == 2
    assert "RUN must be the beginning of one training id" in capsys.readouterr().err


def test_a_damaged_manifest_is_reported(results):
    results.write_manifest("good", "tiny", identified(experiment(small_run())), "good.py")
    write_file(results.root / "experiments" / "bad-tiny.json", b"{")
    found, wrong = results.manifests()
    assert [manifest["name"] for manifest in found] == ["good"]
    assert "bad-tiny.json is no JSON document" in wrong[0]


def test_notes_reach_the_table(results):
    asked = experiment(small_run().replace(evaluations=(KNN(k=(10_000,)),)))
    run_all(asked, results)
    assert table(asked, results)["notes"][0] == "k = 10000 is capped at 100, the size of the bank"


def test_predictions_are_kept_per_image(results):
    asked = experiment(small_run())
    run_all(asked, results)
    row = table(asked, results).iloc[0]
    evaluation = identified(asked)[0].evaluation_ids[1]
    kept = np.load(results.folder(row["training"]) / "evaluations" / f"{evaluation}.npz")
    accuracy = 100 * (kept["test_recalibrated"] == kept["test_labels"]).mean()
    assert accuracy == pytest.approx(row["linear_test_top1_recalibrated"])


def test_the_initialization_is_not_trained(results):
    asked = experiment(small_run(method=Initialization(), views=((),)))
    run_all(asked, results)
    files = files_of(compute(small_training(seed=0), (), None, "cpu"))
    untrained = results.folder(identified(asked)[0].training_id) / "encoder.safetensors"
    assert untrained.read_bytes() != files["encoder.safetensors"]
    assert json.loads((results.folder(identified(asked)[0].training_id) / "training.json").read_text())["last"] == {}


def test_a_failure_is_kept_until_the_run_succeeds(results):
    (item,) = identified(experiment(small_run(dataset=SMALL.replace(seed=3))))
    assert results.state(item.training_id, item.evaluation_ids) == "missing"
    results.write_failure(item.training_id, Failure("error", "ValueError: no"), item.cell.name)
    assert results.state(item.training_id, item.evaluation_ids) == "failed"
    run_all(experiment(item.cell.run), results)
    assert results.state(item.training_id, item.evaluation_ids) == "finished"
