"""The benchmarks measure what they say; how fast that is, is not tested."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from helpers import small_training
from PIL import Image

from ablation.datasets import ImageData, cache
from ablation.operators import ColorDrop, Crop, CropFlip, Cutout, Flip, Solarize
from benchmarks import per_image, stream
from benchmarks.measure import peak_extra_memory, rows
from benchmarks.step import Stepper, random_data


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


def test_a_step_of_the_benchmark_trains():
    training = small_training()
    stepper = Stepper(training, random_data(32, 16, "cpu"))
    before = [p.clone() for p in stepper.learner.parameters()]
    stepper.both()
    assert any(not torch.equal(p, q) for p, q in zip(before, stepper.learner.parameters(), strict=True))
    assert stepper.flops() > 1e6


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
