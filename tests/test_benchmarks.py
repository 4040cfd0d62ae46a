"""The benchmarks measure the right thing; their speed is not tested."""

import io
import os
import signal
import subprocess
import sys
import time
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import trainings
from helpers import ROOT, small_training
from PIL import Image

from ablation import operators
from ablation.data import ImageData, cache
from ablation.operators import (
    ColorDrop,
    Crop,
    CropFlip,
    Cutout,
    Flip,
    FromKornia,
    KorniaOperator,
    Operator,
    PatchMask,
    Solarize,
)
from benchmarks import arrays, gpu, laws, loops, methods, per_image, stream
from benchmarks.measure import Row, peak_extra_memory, rows
from benchmarks.step import KorniaStepper, Stepper, random_data


def test_ratios_are_against_ours():
    contenders = {"ours": lambda: time.sleep(0.002), "theirs": lambda: time.sleep(0.006)}
    ours, theirs = rows("x", "case", contenders, work=10, rounds=3)
    assert ours.ratio == 1
    assert theirs.ratio == pytest.approx(3, rel=0.3)
    assert theirs.value == pytest.approx(10 / 0.006, rel=0.3)
    assert theirs.n == 3


def test_peak_memory_counts_what_is_held_at_once():
    def call():
        a = torch.zeros(2**20, dtype=torch.uint8)
        b = torch.zeros(2**21, dtype=torch.uint8)
        del a, b
        return torch.zeros(2**19, dtype=torch.uint8)

    assert peak_extra_memory(call, "cpu") == pytest.approx(3 * 2**20, rel=0.01)


def picture(size: int = 16) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8))


@pytest.mark.parametrize("operator", [Crop(), CropFlip(), Flip(), ColorDrop(), Solarize()], ids=lambda o: o.label)
def test_the_pipeline_by_image_gives_a_batch(operator):
    images = [picture() for _ in range(5)]
    batch = per_image.pipeline((operator,), 16, images)()
    assert batch.shape == (5, 3, 16, 16)
    assert batch.dtype == torch.float32
    assert 0 <= batch.min() < batch.max() <= 1
    if isinstance(operator, ColorDrop):
        assert torch.equal(batch[:, 0], batch[:, 1])


def test_operators_without_a_counterpart_are_left_out():
    assert per_image.pipeline((Crop(), Cutout()), 16, [picture()]) is None


@pytest.mark.parametrize("kind", [Stepper, KorniaStepper])
def test_a_step_of_the_benchmark_trains(kind):
    training = small_training()
    stepper = kind(training, random_data(32, 16, "cpu"))
    before = [p.clone() for p in stepper.learner.parameters()]
    stepper.both()
    assert any(not torch.equal(p, q) for p, q in zip(before, stepper.learner.parameters(), strict=True))
    assert stepper.flops() > 1e6


TRAININGS = methods.trainings(methods.scale_named("cifar10-small"), "float32")


def test_every_method_is_measured():
    assert {training.method.label for training in TRAININGS.values()} == set(trainings.TRAININGS)


@pytest.mark.parametrize("name", TRAININGS)
def test_a_methods_passes_are_nearly_all_operations_of_its_step(name):
    """The rest is the loss: products of z with z, a queue, or groups."""
    training = TRAININGS[name]
    training = training.replace(optimization=training.optimization.replace(batch=32))
    data = random_data(32, 32, "cpu")
    step, passes = Stepper(training, data, most=32), methods.Passes(training, data)
    assert 0.85 * step.flops() < passes.flops() <= step.flops()


def test_the_streamed_images_are_a_data_set_that_is_read_in_random_order(tmp_path, monkeypatch):
    monkeypatch.setenv("ABLATION_CACHE", str(tmp_path))
    monkeypatch.setattr(stream, "SIZE", 8)
    stream.write("some", 7000)
    data = ImageData.of(cache.open_images("some"))
    assert data.streams
    assert [len(part) for part in data.splits().values()] == [6980, 10, 10]
    assert 0.3 < data.mean.min() < data.mean.max() < 0.7
    assert len(stream.reading(data)) == 5


def test_a_process_that_takes_more_than_it_is_allowed_is_ended():
    with stream.allowed(2**26) as group:
        if group is None:
            pytest.skip("no control group can be made here")
        take = f"echo $$ > {group / 'cgroup.procs'} && exec {sys.executable} -c 'bytearray(2**28)'"
        assert subprocess.run(["sh", "-c", take], capture_output=True).returncode == -signal.SIGKILL
    assert not group.exists()


@pytest.mark.parametrize("name", loops.CONTENDERS)
def test_every_loop_trains_on_two_normalized_views(name, monkeypatch):
    """Noise images: 8 of 3 x 32 x 32 have a mean of 0 and a deviation of 1, which augmentation lessens."""
    seen = []

    def keep(learner, batch, *others):
        seen.append(batch[0])
        return {"loss": torch.zeros(())}

    monkeypatch.setattr("benchmarks.loops.take_step", lambda learner, optimizer, *batch: keep(learner, *batch))
    monkeypatch.setattr("ablation.training.loop.compute_gradients", keep)
    monkeypatch.setattr("ablation.training.loop.update_weights", lambda *_: None)

    def step():
        if len(seen) == 3:
            raise loops._Over

    training = loops.training_of("float32")
    training = training.replace(optimization=training.optimization.replace(batch=8))
    with pytest.raises(loops._Over):
        loops.CONTENDERS[name](training, random_data(16, 32, "cpu"), step)
    for first, second in seen:
        assert first.shape == second.shape == (8, 3, 32, 32)
        assert not torch.equal(first, second)
        assert abs(first.mean()) < 1
        assert 0.1 < first.std() < 1.5


def test_a_loop_is_counted_from_when_all_are_warm(monkeypatch, capsys):
    """In whole groups of steps: 4 of 128 images."""
    now = iter([10.0, 12.0, 15.0, 15.0])
    monkeypatch.setattr("sys.stdin", io.StringIO("go\n"))
    monkeypatch.setattr(loops, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    clock = loops.Clock(4, 128)
    for _ in range(11):
        clock()
    with pytest.raises(loops._Over):
        clock()
    assert capsys.readouterr().out == "warm\n"
    assert clock.steps == 12
    assert clock.rate() == 8 * 128 / 5


# --------------------------------------------------------------------------------------------------
# On a GPU


@pytest.fixture
def rehearse(tmp_path, monkeypatch):
    """Runs the command in this process with fake parts; returns its table."""
    threads = torch.get_num_threads()
    with warnings.catch_warnings():

        def run(*arguments: str, **parts) -> tuple[int, pd.DataFrame]:
            for name, part in parts.items():
                monkeypatch.setitem(gpu.PARTS, name, gpu.Part(part, 1, 60))
            failed = gpu.main([*arguments, "--rehearse", "--out", str(tmp_path)])
            return failed, pd.read_csv(tmp_path / "rehearsal.csv", keep_default_na=False)

        yield run
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_every_law_of_the_gpu_holds_on_the_way_of_a_gpu(rehearse, monkeypatch):
    """Masked rows and a CPU's own way are two computations."""
    monkeypatch.setattr(laws, "BATCH", 16)
    failed, table = rehearse("operators", "losses")
    assert failed == 0
    assert set(table["benchmark"]) == {"gpu operators", "gpu losses"}
    limited = table[table["note"] != ""]
    assert limited["note"].str.startswith("within").all()
    assert 0 < limited.loc[limited["benchmark"] == "gpu operators", "value"].astype(float).max() < laws.NEAR
    assert (table["torch"] == torch.__version__).all()


def test_every_operator_is_compared():
    known = {getattr(operators, name) for name in operators.__all__} - {Operator, KorniaOperator, FromKornia, PatchMask}
    assert {type(operator) for operator in laws.OPERATORS} == known


def test_a_difference_beyond_its_limit_says_so(monkeypatch):
    monkeypatch.setattr(laws, "OPERATORS", (Solarize(),))
    monkeypatch.setattr(laws, "_way_of", lambda device: lambda operator, images, params: images)
    [found] = laws.operators("cpu", (8,))
    assert found.value == pytest.approx(1)
    assert found.note == f"NOT within {laws.NEAR:g}"
    assert laws.difference("x", "", "", torch.tensor([float("nan")]), torch.zeros(1), 1).note.startswith("NOT")


def test_a_part_that_fails_or_lacks_time_costs_the_others_nothing(rehearse, tmp_path):
    def fails(bench):
        bench.write(Row("gpu step", "before it failed", "ours", "s", 1.0, 1.0, 1.0, 1))
        raise ValueError("of the card")

    def writes(bench):
        bench.write(Row("gpu views", "case", "ours", "s", 2.0, 2.0, 2.0, 1))

    failed, table = rehearse("step", "views", step=fails, views=writes)
    assert failed == 1
    assert table["case"].tolist() == ["before it failed", "", "case"]
    assert table["unit"].tolist() == ["s", "failed", "s"]
    assert table["note"].tolist() == ["", "ValueError: of the card", ""]
    assert "in fails" in (tmp_path / "rehearsal.log").read_text()
    failed, table = rehearse("step", "--budget", "0.5", step=writes)
    assert failed == 0
    assert table["benchmark"].tolist() == ["gpu views", "gpu step"]  # keeps the other benchmark's rows
    assert table["unit"].tolist() == ["s", "skipped"]


def test_where_the_device_is_lost_the_rest_goes_on_in_a_new_process(rehearse, monkeypatch, tmp_path):
    def fails(bench):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    called = []
    monkeypatch.setattr(gpu, "_answers", lambda device: False)
    monkeypatch.setattr(gpu.subprocess, "call", lambda command: called.append(command) or 2)
    failed, table = rehearse("step", "views", "cells", "--budget", "90", "--commit", "abc", step=fails)
    assert failed == 1 + 2
    assert table["unit"].tolist() == ["failed"]
    [command] = called
    left = next(word for word in command if word.startswith("--budget="))
    assert 60 < float(left.removeprefix("--budget=")) <= 90
    assert command == [
        sys.executable,
        gpu.__file__,
        "views",
        "cells",
        left,
        f"--out={tmp_path}",
        "--commit=abc",
        "--rehearse",
    ]


def test_a_part_that_does_not_end_is_stopped(rehearse):
    def stubborn(bench):
        try:
            time.sleep(30)
        except Exception:
            pytest.fail("a library's own rescue kept it alive")

    start = time.monotonic()
    failed, table = rehearse("step", "--budget", "1.5", step=stubborn)
    assert time.monotonic() - start < 10
    assert failed == 1
    assert table["note"][0].startswith("OutOfTime: stopped after")


def test_intervals_are_united():
    assert gpu.busy_microseconds([(0, 4), (1, 2), (3, 6), (10, 11)]) == 7


def test_cifar_is_read_as_the_suite_reads_it(tmp_path, monkeypatch):
    """Without `datasets`: the same images in the same splits."""
    monkeypatch.setenv("ABLATION_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cifar"
    folder.mkdir()
    for split, count in (("train", 60), ("test", 20)):
        encoded = []
        for number in range(count):
            file = io.BytesIO()
            Image.fromarray(np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file, "PNG")
            encoded.append({"bytes": file.getvalue(), "path": f"{number}.png"})
        frame = pd.DataFrame({"img": encoded, "label": [number % 3 for number in range(count)]})
        frame.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    found = gpu.parquet(folder).splits()
    expected = ImageData(path=str(folder), image_column="img", label_column="label").load().splits()
    for name, split in expected.items():
        assert torch.equal(found[name].images, split.images)
        assert torch.equal(found[name].labels, split.labels)
    assert [len(each) for each in gpu.parquet(folder, 40).splits().values()] == [36, 4, 4]


@pytest.mark.parametrize("convolution", [arrays.Grouped, arrays.Unfolded])
def test_an_array_of_networks_is_those_networks(convolution):
    """z, and the loss of each method, in float64, which excludes rounding."""
    networks = [arrays.network(seed, "cpu").double() for seed in range(3)]
    views = torch.randn(2, 4, 9, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).flatten(0, 1)
    z = arrays.array(networks, convolution)(views).view(8, 3, -1).transpose(0, 1)
    alone = torch.stack([each(views[:, 3 * n : 3 * n + 3]) for n, each in enumerate(networks)])
    torch.testing.assert_close(z, alone, rtol=0, atol=1e-10)
    single = torch.cat([arrays.losses(each[None]) for each in alone])
    torch.testing.assert_close(arrays.losses(z).float(), single, rtol=1e-5, atol=0)


@pytest.mark.slow
def test_the_whole_rehearsal_ends_without_a_failure(tmp_path):
    """By its path, in its own folder, without libraries that a GPU machine may lack."""
    missing = "datasets optuna alembic sqlalchemy colorlog mako dill multiprocess"
    lacking = f"import sys; sys.modules.update(dict.fromkeys({missing!r}.split()))"
    (tmp_path / "sitecustomize.py").write_text(lacking)
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "gpu.py"),
        "--rehearse",
        "--out",
        str(tmp_path),
        "--budget",
        "1500",
    ]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    table = pd.read_csv(tmp_path / "rehearsal.csv")
    assert set(table["benchmark"]) == {f"gpu {name}" for name in gpu.PARTS}
    assert not table["note"].str.startswith("NOT", na=False).any()
    skipped = table[table["unit"] == "skipped"]
    assert set(skipped["benchmark"]) == {"gpu waits", "gpu cifar10", "gpu methods"}
