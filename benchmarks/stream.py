"""Training on more images than the memory holds: the cost of streaming, and whether memory grows with the images.

A child process may use LIMIT bytes (a Linux control group, which also counts the pages of files that it reads) and
trains ResNet-50 on images of 160 px; the larger data set has four times as many bytes as the limit. In turn: steps on
prepared views (the encoder alone), on images in memory, and on images from the file, which starts without a page in
memory. If no control group can be created there is no limit, and the rows say so.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import interpolate

from ablation import SimCLR
from ablation.data import Data, ImageData, Split, cache
from ablation.data import dataset as datasets_base
from ablation.execution.worker import keep_freed_memory
from ablation.study.scales import scale_named
from ablation.training.loop import build_learner, take_step
from ablation.training.views import training_views
from benchmarks.measure import ROUNDS, Row, row
from benchmarks.step import VIEW

SIZE = 160  # pixels
LIMIT = 6 * 2**28  # a quarter more than the training itself needs
FEW = LIMIT // (3 * SIZE**2)  # images that fill the limit once; the other data set has four times as many
DECODED = 1000  # images of the smaller data set that is decoded; the other has four times as many
CONTENDERS = ("encoder alone", "images in memory", "ours")


def run(device: str, quick: bool) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder, allowed(LIMIT) as group:
        os.environ["ABLATION_CACHE"] = folder
        said = f"{LIMIT / 1e9:.2g} GB allowed" if group else "no limit on memory"
        for count in (FEW, 4 * FEW):
            write(f"images-{count}", count)
            found = child(group, "train", f"images-{count}", device)
            case = f"ResNet-50, {SIZE} px, batch {found['batch']}, {3 * SIZE**2 * count / 1e9:.2g} GB of images, {said}"
            for name in CONTENDERS:
                seconds = found["seconds"][name]
                ratio = statistics.median(t / o for t, o in zip(seconds, found["seconds"]["ours"], strict=True))
                yield row("stream", case, name, "images/s", [found["images"] / s for s in seconds], ratio)
            yield row("stream", f"{case}: peak anonymous memory", "ours", "MB", [found["peak"] / 2**20])
            yield row("stream", f"{case}: reading alone", "ours", "images/s", found["reading"])
            for path in Path(folder).glob("images-*"):
                path.unlink()
        for count in (DECODED, 4 * DECODED):
            path = Path(folder) / f"{count}.parquet"
            write_parquet(path, count)
            found = child(group, "decode", str(path), device)
            case = f"decoding {count:,} JPEG images of {SIZE} px"
            yield row("stream", case, "ours", "images/s", [count / found["seconds"]])
            yield row("stream", f"{case}: peak anonymous memory", "ours", "MB", [found["peak"] / 2**20])


@contextmanager
def allowed(limit: int) -> Iterator[Path | None]:
    """A control group with a memory limit for all its processes, or None if none can be created."""
    name = f"ablation-benchmark-{os.getpid()}"
    for folder, setting in (("memory", "memory.limit_in_bytes"), (".", "memory.max")):
        group = Path("/sys/fs/cgroup") / folder / name
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / setting).exists():
                (group / setting).write_text(str(limit))
                yield group
                return
        finally:
            group.rmdir()
    yield None


def child(group: Path | None, *arguments: str) -> dict:
    """The output of a process that is in the group from its start."""
    join = f"echo $$ > {group / 'cgroup.procs'} && " if group else ""
    command = f'{join}exec "$0" -m benchmarks.stream "$@"'
    done = subprocess.run(["sh", "-c", command, sys.executable, *arguments], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


# --------------------------------------------------------------------------------------------------
# Images


def images(count: int) -> np.ndarray:
    """(count, 3, S, S) uint8: smooth fields and some noise, about as large as photographs when encoded."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 12, 12, generator=generator)
    smooth = interpolate(coarse, size=(SIZE, SIZE), mode="bicubic")
    noisy = smooth + 0.02 * torch.randn(smooth.shape, generator=generator)
    return noisy.clamp(0, 1).mul(255).byte().numpy()


def write(key: str, count: int) -> None:
    """A data set in the cache without a source: the same few images repeated, each with its own bytes."""
    some, splits = images(256), {"train": count - 20, "validation": 10, "test": 10}
    with cache.Writer(key, count, "generated images") as writer:
        for slot in range(count):
            writer.put(slot, some[slot % len(some)])
        facts = {"lengths": splits, "labels": [slot % 10 for slot in range(count)], "classes": list("0123456789")}
        cache.write_images(key, writer, facts, splits["train"])
    with open(cache.folder() / f"{key}.u8", "rb") as file:
        # Drops its pages from memory, which would count for this process and make the child's reads free.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def write_parquet(path: Path, count: int) -> None:
    """A parquet file with row groups of 100 images, as usual on the Hub."""
    import datasets
    from PIL import Image

    datasets.disable_progress_bars()
    some = images(256)

    def rows() -> Iterator[dict]:
        for number in range(count):
            buffer = io.BytesIO()
            Image.fromarray(some[number % len(some)].transpose(1, 2, 0)).save(buffer, "JPEG", quality=90)
            yield {"image": {"bytes": buffer.getvalue(), "path": None}, "label": number % 10}

    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list("0123456789"))}
    with tempfile.TemporaryDirectory() as made:
        whole = datasets.Dataset.from_generator(rows, features=datasets.Features(kinds), cache_dir=made)
        whole.to_parquet(path, batch_size=100)


# --------------------------------------------------------------------------------------------------
# In the child process


def train(key: str, device: str) -> dict:
    """Seconds of some steps of each contender in every round, and the peak of the process's anonymous memory."""
    datasets_base.room = lambda device: 0  # forces streaming on a GPU, which would have room for these images
    scale = scale_named("imagenet100-resnet50")
    batch = 8 if device == "cpu" else 256
    precision = scale_named("tiny").precision if device == "cpu" else scale.precision  # the CPU's faster one
    method = scale.method(SimCLR)
    optimization = scale.optimization(method, batch=batch, precision=precision)
    training = scale.run(method, views=(VIEW, VIEW), optimization=optimization).training
    streamed = ImageData.of(cache.open_images(key)).to(torch.device(device))
    count = 4 * batch
    few = {name: Split(part.images[:count].clone(), part.labels[:count]) for name, part in streamed.splits().items()}
    kept = Data(**few, classes=streamed.classes)
    learner = build_learner(training, kept).to(device, memory_format=torch.channels_last).train()
    optimizer = training.optimization.optimizer.build(learner)

    def views(data: Data) -> Iterator[list[torch.Tensor]]:
        """Endless batches in the order of a training."""
        for epoch in range(10**9):
            order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(epoch)).to(device)
            whole = order[: len(order) // batch * batch].split(batch)
            yield from training_views(data.train.images, whole, training, data, (epoch,))

    from_memory, from_file = views(kept), views(streamed)
    made = next(from_memory)
    sources = {"encoder alone": lambda: made, "images in memory": lambda: next(from_memory)}
    sources["ours"] = lambda: next(from_file)
    labels = kept.train.labels[:batch]
    steps = 3 if device == "cpu" else 20  # on a CPU as many as share one call for views

    def some_steps(source: Callable[[], list[torch.Tensor]]) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            loss = take_step(learner, optimizer, source(), labels, training)["loss"]
        loss.item()
        return time.perf_counter() - start

    for source in sources.values():
        some_steps(source)
    seconds: dict[str, list[float]] = {name: [] for name in sources}
    for _ in range(3 * ROUNDS):  # short and in quick turn, so that other load affects all contenders
        for name, source in sources.items():
            seconds[name].append(some_steps(source))
    return {"seconds": seconds, "images": steps * batch, "batch": batch, "reading": reading(streamed)}


def reading(data: Data) -> list[float]:
    """Images a second in random order, as fast as possible, in rounds of four batches of 256."""
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(1)).split(256)
    batches, rates = data.batches(data.train.images, order[: 4 * ROUNDS + 4]), []
    for count in (4, *[4] * ROUNDS):
        start = time.perf_counter()
        read = sum(len(next(batches)) for _ in range(count))
        rates.append(read / (time.perf_counter() - start))
    batches.close()
    return rates[1:]


def decode(path: str, device: str) -> dict:
    """Seconds of the whole way from the parquet file to the images in the cache."""
    data = ImageData(path=path, test=0.1, validation=0.1, size=SIZE)
    start = time.perf_counter()
    data.load()
    return {"seconds": time.perf_counter() - start}


def anonymous() -> int:
    """Bytes of this process that belong to no file, or all resident bytes if the system does not report them."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines.get("RssAnon", lines["VmRSS"]).split()[0])


def main(what: str, which: str, device: str) -> None:
    if device == "cpu":
        torch.set_num_threads(1)
        keep_freed_memory()
    peak, over = anonymous(), threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.01):
            peak = max(peak, anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        found = {"train": train, "decode": decode}[what](which, device)
    finally:
        over.set()
        watcher.join()
    print(json.dumps({**found, "peak": peak}))


if __name__ == "__main__":
    main(*sys.argv[1:])
