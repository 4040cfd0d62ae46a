"""Runs on disk: finished, repeated and shared ones."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import GRID, SMALL, resealed, small_run, small_training
from safetensors import safe_open

from ablation.analysis.results import curves, predictions, table, variances
from ablation.analysis.statistics import accuracy_by_class
from ablation.cli import main
from ablation.data import loaded
from ablation.evaluate import KNN, Linear
from ablation.evaluate.accuracy import accuracies
from ablation.evaluate.knn import nearest, vote
from ablation.execution.console import LineConsole
from ablation.execution.documents import MANIFEST, sealed
from ablation.execution.executor import JobOptions, Listener, Outcome, Part
from ablation.execution.inline import InlineExecutor
from ablation.execution.job import compute
from ablation.execution.owner import execute
from ablation.execution.plan import make_plan
from ablation.execution.status_file import StatusFile
from ablation.execution.store import Results, identified
from ablation.methods import Initialization, NTXent, SimCLR
from ablation.models.resnet import ResNet
from ablation.operators import Crop, Sobel
from ablation.spec import Cell, Experiment, InvalidSpec, StorageError, identity, sweep
from ablation.system.failures import Failure
from ablation.system.files import write_file

EVALUATIONS = (KNN(k=(10,)), Linear())


def experiment(*runs) -> Experiment:
    return Experiment(
        cells=tuple(Cell(coords={"cell": i, "seed": 0}, run=run) for i, run in enumerate(runs)), figures={}
    )


def jobs(asked: Experiment, results: Results):
    return make_plan(identified(asked), results).jobs


def run_all(asked: Experiment, results: Results) -> list:
    """Computes missing results; returns the needed jobs."""
    needed = jobs(asked, results)
    for outcome in InlineExecutor(JobOptions("cpu")).run(needed, Listener()):
        assert outcome.part.failure is None, outcome.part.failure.traceback
        results.write(outcome.job.training_id, outcome.part.files)
    return needed


def files_of(parts) -> dict[str, bytes]:
    return {name: content for files in parts for name, content in files.items()}


@pytest.fixture
def results(tmp_path) -> Results:
    return Results(tmp_path)


@pytest.mark.parametrize("axis", ["label", "image", "predicted", "evaluation", "epoch", "validation_linear", "loss"])
def test_no_axis_has_the_name_of_a_column_that_is_filled(axis):
    asked = Experiment(cells=(Cell(coords={axis: "a", "seed": 0}, run=small_run()),), figures={})
    with pytest.raises(InvalidSpec, match=rf"{axis}.*Rename"):
        identified(asked)


def test_cells_of_a_training_that_is_trained_again_are_evaluated_again(results):
    """Two cells share it; one is finished, the other lacks its evaluation, and the weights are damaged."""
    one, other = (small_run().replace(evaluations=(each,)) for each in EVALUATIONS)
    run_all(experiment(one), results)
    path = results.folder(identity(one.training)) / "encoder.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    asked = experiment(one, other)
    (job,) = run_all(asked, results)
    assert set(job.evaluation_ids) == {identity(each) for each in EVALUATIONS}
    assert list(table(asked, results)["state"]) == ["finished", "finished"]


def test_predictions_are_those_of_the_accuracies(results):
    """Overall and by class, against the metrics and a manual count; a missing run has none."""
    asked = experiment(small_run(), small_run(seed=1))
    run_all(experiment(small_run()), results)
    found = predictions(asked, results)
    assert list(found.columns) == ["cell", "seed", "evaluation", "image", "label", "predicted"]
    assert set(found["cell"]) == {0}
    row = table(asked, results).iloc[0]
    for evaluation, rows in found.groupby("evaluation"):
        assert list(rows["image"]) == list(range(60))
        right = rows["label"] == rows["predicted"]
        assert 100 * right.mean() == pytest.approx(row[f"{evaluation}_test_top1_recalibrated"])
        classes = accuracy_by_class(rows)
        assert len(classes) == 10
        assert classes["images"].sum() == 60
        for each in classes.itertuples():
            mine = rows["label"] == each.label
            assert each.accuracy == pytest.approx(100 * (right & mine).sum() / mine.sum())
    names = loaded(SMALL, "cpu").classes
    assert list(found[found["evaluation"] == "knn"]["label"]) == [names[i] for i in loaded(SMALL, "cpu").test.labels]
    of_validation = predictions(asked, results, split="validation", statistics="running")
    assert len(of_validation) == 2 * 40
    assert predictions(experiment(small_run(seed=5)), results).empty


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
        found = make_plan(identified(asked), results)
        assert len(found.jobs) == 1
        for path, content in good.items():
            write_file(path, content)
        assert jobs(asked, results) == []
        return " ".join(found.complaints)

    training, weights = folder / "training.json", folder / "encoder.safetensors"
    training.write_bytes(good[training][:100])
    assert "training.json is no JSON document" in complaint()
    weights.write_bytes(good[weights][:1000])
    assert "encoder.safetensors is missing, truncated" in complaint()
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
    assert ".npz is missing, truncated" in complaint()
    training.write_text(json.dumps({**json.loads(good[training]), "format": 1, "sha256": None}))
    assert "training.json holds no digest of itself" in complaint()


def test_a_damaged_encoder_is_not_evaluated(results):
    """Same size, other bits: the digest differs, and the run is trained again with a message."""
    asked = experiment(small_run())
    run_all(asked, results)
    weights = results.folder(identity(small_training())) / "encoder.safetensors"
    content = bytearray(weights.read_bytes())
    content[-10] ^= 255
    weights.write_bytes(bytes(content))
    more = experiment(small_run().replace(evaluations=(KNN(k=(2,)),)))
    found = make_plan(identified(more), results)
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
    with pytest.raises(InvalidSpec, match="must not use the name of a computed column, but got 'loss'"):
        table(Experiment(cells=(Cell(coords={"loss": 1}, run=small_run()),), figures={}), results)


def test_one_owner_at_a_time(results):
    with results.owned(), pytest.raises(StorageError, match="--results allows one writing process at a time"):  # noqa: SIM117
        with Results(results.root).owned():
            pass
    with results.owned():
        pass


def test_a_folder_that_cannot_be_locked(tmp_path, monkeypatch, capsys):
    """As on Lustre without `-o flock`: warns; runs and shards continue. A search needs its lock, so it is refused."""

    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    (tmp_path / "question.py").write_text(GRID)
    monkeypatch.chdir(tmp_path)
    assert main(["run", "question.py", "--only", "first=crop,second=crop,seed=0", "--workers", "1"]) == 0
    said = capsys.readouterr().err
    assert "cannot be locked (No locks available): make sure yourself that only one process at a time" in said
    assert len(list((tmp_path / "results").glob("*/training.json"))) == 1
    with Results(tmp_path / "results").owned_shard(0, 2):
        assert "or one per shard" in capsys.readouterr().err
    assert main(["search", "search_color", "--scale", "tiny"]) == 2
    assert "--storage must be on a disk with file locks, but" in capsys.readouterr().err


def test_shards_of_two_numbers_are_never_side_by_side(tmp_path):
    """They would compute the same runs. Those of one number are never refused, whatever others left."""
    inside, wrong, refused = Counter(), [], Counter()
    lock = threading.Lock()

    def shard(index: int, count: int) -> None:
        for _ in range(60):
            try:
                with Results(tmp_path).owned_shard(index, count):
                    with lock:
                        inside[count] += 1
                        wrong.extend([dict(inside)] * (len(+inside) > 1))
                    time.sleep(0.0005)
                    with lock:
                        inside[count] -= 1
            except InvalidSpec:
                refused[count] += 1

    def together(*shards: tuple[int, int]) -> None:
        threads = [threading.Thread(target=shard, args=each) for each in shards]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    together((0, 3), (1, 3), (2, 3), (2, 3))
    assert refused == {}
    together((0, 2), (1, 2), (0, 3), (1, 3))
    assert wrong == []
    assert refused.total()


def test_a_shard_of_another_number_is_refused_with_the_number(tmp_path):
    results = Results(tmp_path)
    with results.owned_shard(0, 2):
        with results.owned_shard(1, 2):
            pass
        with pytest.raises(InvalidSpec, match=r"--shard .* 2, but got 0/3"), results.owned_shard(0, 3):
            pass
        with pytest.raises(StorageError, match="--results"), results.owned():
            pass
    with results.owned(), pytest.raises(StorageError, match="--results"), results.owned_shard(0, 2):
        pass


def test_an_exported_encoder_is_used_elsewhere(results, tmp_path, capsys):
    """Loaded by torchvision's names into another network, with the file's normalization, it gives the same
    features and the run's kNN accuracy."""
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


# --------------------------------------------------------------------------------------------------
# Changed files do not count


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """An experiment of two runs, and a folder with their results."""
    asked, results = experiment(small_run(), small_run(seed=1)), Results(tmp_path_factory.mktemp("two") / "results")
    run_all(asked, results)
    results.write_manifest("question", "tiny", identified(asked), "question.py")
    return asked, results


@pytest.fixture
def copied(two, tmp_path):
    """A copy to damage: the experiment, its results, its first training id."""
    asked, results = two
    shutil.copytree(results.root, tmp_path / "results")
    return asked, Results(tmp_path / "results"), identified(asked)[0].training_id


def status(results: Results, capsys) -> tuple[str, str]:
    assert main(["status", "--cost", "--results", str(results.root)]) == 0
    return capsys.readouterr()


def test_runs_without_the_list_of_their_experiment_are_not_nothing(copied, capsys):
    """As after copying only the runs."""
    _, results, training_id = copied
    shutil.rmtree(results.root / "experiments")
    (results.folder(training_id) / "training.json").write_bytes(b"{")
    shutil.copytree(results.folder(training_id), results.root / f"{training_id}.bak")
    said = status(results, capsys)[0]
    assert "holds 2 runs, 1 trained, but no list of an experiment" in said
    assert "Repeat the command" in said
    assert "nothing has been run" not in said


def test_a_copy_beside_a_run_is_not_exported(copied, tmp_path, capsys):
    _, results, training_id = copied
    shutil.copytree(results.folder(training_id), results.root / f"{training_id}.bak")
    options = ["--results", str(results.root), "--to", str(tmp_path / "e.safetensors")]
    assert main(["export", training_id, *options]) == 0
    shutil.rmtree(results.folder(training_id))
    assert main(["export", training_id, *options]) == 2


def test_the_id_of_an_evaluation_that_cells_share_is_computed_once(monkeypatch):
    asked = []
    monkeypatch.setattr("ablation.execution.store.identity", lambda spec: asked.append(spec) or identity(spec))
    run = small_run()
    cells = identified(seeds_of(experiment(run, run.with_seed(1))))
    assert [each in run.evaluations for each in asked].count(True) == 2
    assert {cell.evaluation_ids for cell in cells} == {tuple(map(identity, run.evaluations))}


def flipped(path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def assert_found_out(asked, results: Results, path) -> None:
    """The file at `path` is named and does not count, and only its part is to be computed again."""
    (item, other), found = identified(asked), make_plan(identified(asked), results)
    assert [complaint for complaint in found.complaints if path.name in complaint]
    (job,) = found.jobs
    assert job.training_id == item.training_id
    of_an_evaluation = path.parent.name == "evaluations"
    assert (job.weights is not None) == of_an_evaluation
    assert job.evaluation_ids == ((path.stem,) if of_an_evaluation else item.evaluation_ids)
    assert results.state(other.training_id, other.evaluation_ids) == "finished"
    shown = table(asked, results)
    label = {e: evaluation.label for e, evaluation in zip(item.evaluation_ids, EVALUATIONS, strict=True)}
    if path.suffix == ".json" and of_an_evaluation:
        assert pd.isna(shown[f"{label[path.stem]}_test_top1_recalibrated"][0])
    elif not of_an_evaluation and path.suffix == ".json":
        assert pd.isna(shown["training_seconds"][0])
    assert shown["training_seconds"].notna()[1]
    if path.name == "history.csv":
        assert set(curves(asked, results)["cell"]) == {1}
    if path.suffix == ".npz":
        assert label[path.stem] not in set(variances(seeds_of(asked), results).get("evaluation", []))


def seeds_of(asked: Experiment) -> Experiment:
    """The two runs as two seeds of one cell."""
    cells = tuple(Cell(coords={"seed": i}, run=cell.run) for i, cell in enumerate(asked.cells))
    return Experiment(cells=cells, figures={})


def parts(results: Results, training_id: str) -> list:
    folder = results.folder(training_id)
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".safetensors"]


def test_one_flipped_bit_in_any_file_is_noticed(copied):
    asked, results, training_id = copied
    assert set(variances(seeds_of(asked), results)["evaluation"]) == {"knn", "linear"}
    files = parts(results, training_id)
    assert len(files) == 6  # training.json, history.csv, and two for each evaluation
    for path in files:
        content = path.read_bytes()
        for place in (0, len(content) // 2, -1):
            flipped(path, place)
            assert_found_out(asked, results, path)
            path.write_bytes(content)
    assert jobs(asked, results) == []


def test_a_digit_that_was_changed_is_not_shown(copied, capsys):
    """And the same command computes only that part again."""
    asked, results, training_id = copied
    evaluation = next((results.folder(training_id) / "evaluations").glob("*.json"))
    document = json.loads(evaluation.read_text())
    value = document["metrics"]["test_top1_recalibrated"]
    evaluation.write_text(evaluation.read_text().replace(f"{value}", f"{value + 1}"))
    out, err = status(results, capsys)
    assert evaluation.name in err
    assert "1 finished, 1 trained" in out
    before = {path: path.stat().st_mtime_ns for path in results.root.rglob("*") if path.is_file()}
    run_all(asked, results)
    after = {path: path.stat().st_mtime_ns for path in results.root.rglob("*") if path.is_file()}
    assert {path.stem for path in before if before[path] != after[path]} == {evaluation.stem}
    assert json.loads(evaluation.read_text())["metrics"]["test_top1_recalibrated"] == value


@pytest.mark.parametrize("kind", ["link", "FIFO", "folder", "another's", "nothing"])
def test_what_lies_in_a_files_place_is_named_and_healed(kind, copied, tmp_path, capsys):
    """Also a link to the correct file; targets of links stay unchanged."""
    asked, results, training_id = copied
    _, other = identified(asked)
    for path in parts(results, training_id):
        outside = tmp_path / path.name
        shutil.copy(path, outside)
        content = outside.read_bytes()
        path.unlink()
        if kind == "link":
            path.symlink_to(outside)
        elif kind == "FIFO":
            os.mkfifo(path)
        elif kind == "folder":
            (path / "inside").mkdir(parents=True)
        elif kind == "another's":
            of_another = results.folder(other.training_id) / path.relative_to(results.folder(training_id))
            path.write_bytes(of_another.read_bytes())
        found = make_plan(identified(asked), results)
        assert [job.training_id for job in found.jobs] == [training_id]
        assert kind == "nothing" or any(path.name in complaint for complaint in found.complaints)
        assert kind == "another's" or f"{1} finished" in status(results, capsys)[0]
        table(asked, results)
        curves(asked, results)
        variances(asked, results)
        files = {str(path.relative_to(results.folder(training_id))): content}
        if path.parent.name == "evaluations":  # replaced by the repeated part
            beside = path.with_suffix(".npz" if path.suffix == ".json" else ".json")
            results.write(training_id, files | {f"evaluations/{beside.name}": beside.read_bytes()})
            assert jobs(asked, results) == []
            assert outside.read_bytes() == content
        else:
            shutil.rmtree(path) if kind == "folder" else path.unlink(missing_ok=True)
            path.write_bytes(content)


@pytest.mark.parametrize("kind", ["link", "file", "FIFO"])
@pytest.mark.parametrize("which", ["run", "evaluations"])
def test_a_folder_of_a_run_that_is_none(kind, which, copied, tmp_path, capsys):
    asked, results, training_id = copied
    folder = results.folder(training_id) / ("" if which == "run" else "evaluations")
    outside = tmp_path / "outside"
    folder.rename(outside)
    before = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
    {"link": lambda: folder.symlink_to(outside), "file": folder.touch, "FIFO": lambda: os.mkfifo(folder)}[kind]()
    _, err = status(results, capsys)
    assert f"{folder} is a link or a file where a folder belongs" in err
    assert main(["export", training_id, "--results", str(results.root), "--to", str(tmp_path / "e.safetensors")]) == (
        2 if which == "run" else 0
    )
    run_all(asked, results)
    assert jobs(asked, results) == []
    assert folder.is_dir()
    assert not folder.is_symlink()
    assert {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()} == before


def test_results_may_themselves_be_a_link(copied, tmp_path):
    asked, results, _ = copied
    (tmp_path / "link").symlink_to(results.root)
    assert jobs(asked, Results(tmp_path / "link")) == []


def test_damaged_weights_are_neither_exported_nor_evaluated(copied, tmp_path, capsys):
    _, results, training_id = copied
    before = jobs(experiment(small_run().replace(evaluations=(KNN(k=(2,)),))), results)
    flipped(results.folder(training_id) / "encoder.safetensors", -1)
    assert main(["export", training_id, "--results", str(results.root), "--to", str(tmp_path / "e.safetensors")]) == 2
    assert "encoder.safetensors was changed" in capsys.readouterr().err
    assert not (tmp_path / "e.safetensors").exists()
    (outcome,) = InlineExecutor(JobOptions("cpu")).run(before, Listener())  # planned before the damage
    assert outcome.part.failure.kind == "data"
    assert "encoder.safetensors" in outcome.part.failure.message


def test_a_results_folder_of_an_earlier_version_is_named_and_computed_again(copied, capsys):
    asked, results, training_id = copied
    path = results.folder(training_id) / "training.json"
    document = json.loads(path.read_text())
    del document["sha256"]
    path.write_text(json.dumps(document | {"format": 1}))
    (job,) = jobs(asked, results)
    assert job.weights is None
    assert "since an earlier version wrote it" in status(results, capsys)[1]


@pytest.mark.parametrize("where", ["experiments", "running"])
def test_one_bad_file_hides_no_other(where, copied, capsys):
    _, results, _ = copied
    folder = results.root / where
    folder.mkdir(exist_ok=True)
    good = next((results.root / "experiments").iterdir()).read_bytes()
    bad = {
        "a-tiny": b"", "b-tiny": b"[" * 100_000, "c-tiny": b"{}", "d-tiny": good, "e-tiny": resealed(b'{"format": 2'),
        "f-tiny": resealed(b'{"format": 2, "name": [], "cells": {}, "scale": 1e999'), "g\x1b[2J-tiny": b"\xff",
    }  # fmt: skip
    for name, content in bad.items():
        (folder / f"{name}.json").write_bytes(content)
    os.mkfifo(folder / "h-tiny.json")
    (folder / "i-tiny.json").symlink_to("/etc/hostname")
    (folder / "j-tiny.json").mkdir()
    out, err = status(results, capsys)
    assert "question (tiny): 2 cells, 2 finished" in out
    for name in [*bad, "h-tiny", "i-tiny", "j-tiny"]:
        assert f"{name.encode('unicode_escape').decode()}.json" in err
    assert all(line.isprintable() for line in (out + err).splitlines())


def test_names_of_others_reach_no_terminal_raw(copied, capsys):
    _, results, training_id = copied
    evil = "\x1b]0;title\x07\u202e"
    cells = [{"coords": {f"axis{evil}": f"a{evil}"}, "training": training_id, "evaluations": ["0" * 12]}]
    content = sealed({"name": f"q{evil}", "scale": "tiny", "file": evil, "cells": cells}, MANIFEST)
    write_file(results.root / "experiments" / f"q{evil}-tiny.json", content)
    failure = Failure("error", f"no{evil}", f"/x/{evil}.py:3")
    results.write_failure(training_id, failure, f"cell{evil}", "0" * 12, f"knn{evil}")
    out, err = status(results, capsys)
    assert "failed: cell" in out
    assert all(line.isprintable() for line in (out + err).splitlines())


# --------------------------------------------------------------------------------------------------
# Parts


class Replay:
    """Delivers the parts of real runs, except failing ones. failures: by part and number of the attempt."""

    def __init__(self, source: Results, failures: dict, checkpoints: Path | None = None):
        self.source, self.failures, self.calls = source, failures, []
        self.options = JobOptions("cpu", checkpoints=checkpoints)

    def run(self, jobs, listener, *, alone=False):
        jobs = list(jobs)
        self.calls.append((alone, [job.parts for job in jobs]))
        for job in jobs:
            listener.progress("somebody", job, 0.0)
            for part in job.parts:
                left = self.failures.get(part, [])
                failure = left.pop(0) if left else None
                outcome = Outcome(job, 1.0, Part(part, None if failure else self.files(job, part), failure))
                yield outcome
                if outcome.last:
                    break

    def files(self, job, part):
        folder = self.source.folder(job.training_id)
        names = [f"evaluations/{part}.npz", f"evaluations/{part}.json"]
        if part is None:
            names = ["history.csv", "encoder.safetensors", "head.safetensors", "training.json"]
        return {name: (folder / name).read_bytes() for name in names}


MEMORY, LOST, BUG = (
    Failure("memory", "no room"),
    Failure("worker lost", "SIGKILL"),
    Failure("user code", "bug", "q.py:1"),
)


def executed(two, tmp_path, failures, capsys) -> tuple[Replay, Results, str, str]:
    """The first run with two evaluations, whose parts fail as given."""
    asked = Experiment(cells=two[0].cells[:1], figures={})
    results, executor = Results(tmp_path / "results"), Replay(two[1], failures)
    needed = jobs(asked, results)
    failed = execute(needed, results, executor, LineConsole(1))
    said = capsys.readouterr().err
    (item,) = identified(asked)
    found = results.look(item.training_id, item.evaluation_ids, whole=True)
    assert failed == bool(found.failures)
    assert found.wrong == []
    return executor, results, found, said


def test_a_training_is_kept_though_an_evaluation_fails(two, tmp_path, capsys):
    knn, linear = identified(two[0])[0].evaluation_ids
    executor, results, found, said = executed(two, tmp_path, {knn: [BUG]}, capsys)
    assert found.state == "failed"
    assert found.training
    assert found.evaluations[linear]
    assert found.failures[knn]["label"] == "knn"
    assert "linear " in said
    assert "knn FAILED (user code): bug (q.py:1)" in said
    # The next call computes the missing part and forgets the failure.
    asked = Experiment(cells=two[0].cells[:1], figures={})
    row = table(asked, results).iloc[0]
    assert row["state"] == "failed"
    assert row["linear_test_top1_recalibrated"] == table(asked, two[1])["linear_test_top1_recalibrated"][0]
    (job,) = jobs(asked, results)
    assert job.parts == (knn,)
    execute([job], results, executor, LineConsole(1))
    assert jobs(asked, results) == []
    assert not list(results.root.rglob("*failure*"))


def test_a_lack_of_memory_in_an_evaluation_is_tried_alone(two, tmp_path, capsys):
    knn, linear = identified(two[0])[0].evaluation_ids
    executor, _, found, said = executed(two, tmp_path, {knn: [MEMORY]}, capsys)
    assert executor.calls == [(False, [(None, knn, linear)]), (True, [(knn,)])]
    assert found.state == "finished"
    assert "no room; it will be retried alone" in said


def test_a_retry_names_the_failure_that_caused_it(two, tmp_path, capsys):
    """Not that of a later part."""
    knn, linear = identified(two[0])[0].evaluation_ids
    _, _, _, said = executed(two, tmp_path, {knn: [MEMORY], linear: [BUG]}, capsys)
    assert "no room; it will be retried alone" in said
    assert "bug; it will" not in said


def test_a_manifest_is_skipped_where_it_cannot_be_written(two, tmp_path):
    """A plan for a folder that another user owns still works."""
    results = Results(tmp_path / "results")
    results.root.mkdir()
    (results.root / "experiments").write_text("")  # a file in the folder's place
    results.keep_manifest("q", "tiny", identified(two[0]), str(tmp_path / "q.py"))
    assert results.manifests()[0] == []


def test_an_evaluation_that_ends_its_process_costs_no_other(two, tmp_path, capsys):
    """Twice, so it is recorded; later ones are computed."""
    knn, linear = identified(two[0])[0].evaluation_ids
    executor, _, found, _ = executed(two, tmp_path, {knn: [LOST, LOST]}, capsys)
    assert executor.calls == [(False, [(None, knn, linear)]), (True, [(knn, linear)]), (True, [(linear,)])]
    assert found.failures[knn]["kind"] == "worker lost"
    assert found.evaluations[linear]


def test_a_training_that_fails_twice_has_one_record(two, tmp_path, capsys):
    executor, _, found, said = executed(two, tmp_path, {None: [LOST, MEMORY]}, capsys)
    assert [alone for alone, _ in executor.calls] == [False, True]
    assert found.training is None
    assert found.failures[None]["kind"] == "memory"
    assert "[1/1]" in said


def test_a_divergence_forgets_its_checkpoint_and_nothing_else_does(two, tmp_path, capsys):
    training_id = identified(two[0])[0].training_id
    named = Failure("user code", "FloatingPointError: no")  # but is not one
    for failure, left in ((BUG, True), (named, True), (Failure("diverged", "the loss"), False)):
        checkpoint = tmp_path / "checkpoints" / f"{training_id}.checkpoint"
        write_file(checkpoint, b"-")
        asked = Experiment(cells=two[0].cells[:1], figures={})
        executor = Replay(two[1], {None: [failure]}, checkpoint.parent)
        results = Results(tmp_path / "results")
        execute(jobs(asked, results), results, executor, LineConsole(1))
        assert checkpoint.exists() == left


def test_status_and_run_count_alike(two, copied, tmp_path, capsys):
    """Two cells of one run, one of another; an evaluation of the first failed."""
    _, results, training_id = copied
    one, other = (cell.run for cell in two[0].cells)
    asked = experiment(one, one.replace(evaluations=one.evaluations[:1]), other)
    _, linear = identified(asked)[0].evaluation_ids
    results.write_failure(training_id, BUG, "cell=0", linear, "linear")
    results.write_manifest("question", "tiny", identified(asked), "question.py")
    planned = make_plan(identified(asked), results)
    assert str(planned.standing) == "3 cells of 2 runs, 1 failed, 2 finished, 1 evaluation failed"
    out, _ = status(results, capsys)
    assert f"question (tiny): {planned.standing}" in out
    assert out.count("  failed: ") == 1
    assert "cell=0: linear: user code: bug (q.py:1)" in out
    assert list(table(asked, results)["state"]) == ["failed", "finished", "finished"]


# --------------------------------------------------------------------------------------------------
# Other users' folders


@pytest.mark.parametrize("name", [".lock", ".locks/shards", ".locks/shard-0-of-2", "running/x.lock"])
def test_locks_follow_no_link(name, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    results = Results(tmp_path / "results")
    lock = results.root / name
    lock.parent.mkdir(parents=True)
    lock.symlink_to(precious)
    if name.startswith("running"):  # status is optional: a run continues without
        StatusFile(LineConsole(1), results, "x").close()
    else:
        with pytest.raises(StorageError, match=rf"--results .*{lock}.*Remove {lock}"), results.owned_shard(0, 2):
            pass
    assert precious.read_text() == "precious"
    assert lock.is_symlink()


def test_a_full_disk_is_a_sentence(copied, monkeypatch):
    _, results, training_id = copied

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left on device.*Make room; the same command continues"):
        results.write_failure(training_id, BUG, "cell=0")


TWO = (
    GRID.partition("def experiment")[0]
    + """
def experiment(scale):
    scale = small(scale)
    make = lambda view: scale.run(scale.method(SimCLR), views=((Crop(),), ()))
    return Experiment(cells=sweep(make, view=("crop",), seeds=range(2)), figures={})
"""
)


@pytest.fixture
def nobody():
    """A folder that anyone may read, and temporarily the user "nobody"; or ourselves if we cannot switch."""
    place = Path(tempfile.mkdtemp(prefix="ablation-"))
    place.chmod(0o755)
    (place / "mine").mkdir()
    if os.geteuid() == 0:
        os.chown(place / "mine", 65534, 65534)
    yield place
    subprocess.run(["chmod", "-R", "u+w", place], check=True)
    shutil.rmtree(place)


def test_a_finished_folder_of_somebody_else_is_read_and_drawn(nobody, monkeypatch, capsys):
    """Nothing in it is writable: no lock, no manifest, no status file."""
    (nobody / "question.py").write_text(TWO)
    monkeypatch.chdir(nobody)
    monkeypatch.setenv("ABLATION_CACHE", str(nobody / "cache"))
    assert main(["run", "question.py", "--workers", "1"]) == 0
    made = pd.read_csv("figures/question-tiny.csv")
    subprocess.run(["chmod", "-R", "a-w", "results"], check=True)
    capsys.readouterr()
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(OSError, match="Permission denied"):
            Path("results/x").touch()
        assert main(["status", "--cost"]) == 0
        assert "question (tiny): 2 cells, 2 finished" in capsys.readouterr().out
        assert main(["run", "question.py", "--figures", "mine/figures"]) == 0
        assert "all 2 cells are finished" in capsys.readouterr().err
        assert main(["export", made["training"][0], "--to", "mine/encoder.safetensors"]) == 0
        more = TWO.replace("range(2)", "range(3)")
        Path("mine/question.py").write_text(more)
        capsys.readouterr()
        assert main(["run", "mine/question.py", "--figures", "mine/figures2", "--workers", "1"]) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith("ablation: --results: ")
        assert not Path("mine/figures2").exists()
    finally:
        os.seteuid(user)
    pd.testing.assert_frame_equal(pd.read_csv("mine/figures/question-tiny.csv"), made)


@pytest.mark.parametrize("where", ["a-file", "a-file/inside", "/proc/nothing", "has-lock", "has-manifest", "has-locks"])
def test_a_folder_that_takes_no_results_is_refused_before_anything_is_computed(where, place, monkeypatch, capsys):
    monkeypatch.chdir(place(TWO))
    Path("a-file").touch()
    Path("has-lock/.lock").mkdir(parents=True)
    Path("has-manifest/experiments/question-tiny.json").mkdir(parents=True)
    Path("has-locks").mkdir()
    Path("has-locks/.locks").symlink_to("a-file")
    monkeypatch.setattr("ablation.execution.job.compute", lambda *_: pytest.fail("it computes"))
    shard = ["--shard", "0/2"] if where == "has-locks" else []
    assert main(["run", "question.py", "--results", where, "--workers", "1", *shard]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("ablation: --results must be ")
    assert where.removesuffix("/inside") in said
