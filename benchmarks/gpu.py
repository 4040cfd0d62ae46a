"""Measurements that need a GPU, in one command: `python -m benchmarks.gpu`, or `python benchmarks/gpu.py`.

Runs the parts in order of importance for at most `--budget` seconds. Every measurement is written at once as a row of
benchmarks/cuda.csv and a line of cuda.log. A part that fails or lacks time becomes a row with the reason, and the next
one begins. `--rehearse` does the same on the CPU with about a tenth of the work.

    operators  each operator against the CPU with the same draws
    views      whole views, eager and compiled, their draws, normalization, images in host memory
    losses     loss and gradient of every method against the CPU's float32
    step       a SimCLR step of ResNet-18: images a second, share of the matrix rate, share of augmentation; Kornia's
    large      SimCLR views of 224 px a second; Kornia's
    waits      how often a step waits for the device, and how long the device waits for the host
    threads    the host's time of a step with one thread and with one for each core
    cells      tiny cells an hour with several workers
    resume     a training that is stopped and resumed, against an uninterrupted one
    cifar10    SimCLR at the scale cifar10 for the remaining time, with its learning curve (needs --cifar)
    arrays     small networks trained as one array
    methods    BYOL, DINO, VICReg and SimCLR for 20 epochs of CIFAR-10 as the scale cifar10 trains them (needs --cifar)
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):  # started by its path
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import csv
import dataclasses
import faulthandler
import functools
import io
import math
import os
import signal
import statistics
import subprocess
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from ablation import BYOL, DINO, Shapes, SimCLR, VICReg
from ablation.data import Data, Split
from ablation.data.dataset import cut_validation
from ablation.evaluate import KNN, Linear
from ablation.evaluate.evaluator import evaluate
from ablation.execution.worker import configure_worker
from ablation.models.resnet import ResNet, SmallResNet
from ablation.operators import CropFlip
from ablation.spec import Training
from ablation.study import scales
from ablation.study.published_views import published_views
from ablation.study.scales import name_and_place, scale_named
from ablation.system.provenance import provenance
from ablation.training.compile import compiled_transform
from ablation.training.loop import pretrain
from benchmarks import arrays, cells, laws
from benchmarks.measure import Row, peak_extra_memory, row, rows, seconds
from benchmarks.step import KorniaStepper, Stepper, matrix_product, random_data
from benchmarks.views import VIEW, cases, ours, theirs

METHODS_EPOCHS = 20
BUDGET = 500  # seconds, for a machine that is available for nine minutes, including its start
LAST = 45  # seconds that the training of CIFAR-10 leaves for the rest
COLUMNS = [field.name for field in dataclasses.fields(Row)]
COLUMNS += ["device", "threads", "python", "torch", "kornia", "ablation", "commit"]
NO_CUDA = "needs CUDA: its instrument is CUDA's"


@dataclass(frozen=True)
class Sizes:
    """The amount of work of the parts."""

    encoder: Any = ResNet(depth=18, stem="cifar")
    batch: int = 512
    large: int = 256  # images of 224 px
    rounds: int = 5
    compiled: bool = True
    workers: tuple[int, ...] = (1, 4, 8, 16)
    cells: str = "epochs=2"  # the change to tiny cells, which have ten epochs
    window: float = 10.0  # seconds of counting cells
    networks: tuple[int, ...] = (1, 8, 32)
    images: int | None = None  # of CIFAR-10's training images
    most: int = 200  # epochs of CIFAR-10


TENTH = Sizes(
    encoder=SmallResNet(), batch=64, large=16, rounds=2, workers=(1, 2), window=3.0, networks=(1, 3),
    cells="epochs=1, dataset=Shapes(train=628, validation=100, test=100)", images=1000, most=2,
)  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """The context of the parts. write: takes a row; end: the time on `time.monotonic` when the budget is spent."""

    device: str
    sizes: Sizes
    end: float
    cifar: str | None = None
    write: Callable[[Row], None] = lambda row: None

    def left(self) -> float:
        return self.end - time.monotonic()

    def skip(self, part: str, case: str, reason: str) -> None:
        self.write(Row(f"gpu {part}", case, "", "skipped", math.nan, math.nan, math.nan, 0, note=reason))


class OutOfTime(BaseException):
    """A part exceeded its time. A BaseException, so that no `except Exception` catches it."""


@dataclass(frozen=True)
class Part:
    """least: seconds needed to begin; most: seconds after which it is stopped."""

    run: Callable[[Bench], None]
    least: float
    most: float


# --------------------------------------------------------------------------------------------------
# The parts


def operators(bench: Bench) -> None:
    for found in laws.operators(bench.device):
        bench.write(found)


def views(bench: Bench) -> None:
    for found in laws.views(bench.device, bench.sizes.batch, bench.sizes.compiled):
        bench.write(found)


def losses(bench: Bench) -> None:
    for found in laws.losses(bench.device):
        bench.write(found)


def resume(bench: Bench) -> None:
    encoders = tuple(dict.fromkeys([SmallResNet(), bench.sizes.encoder]))
    for found in laws.resume(bench.device, encoders, 64, bench.sizes.compiled):
        bench.write(found)


def training_of(bench: Bench, **changes: Any) -> Training:
    """SimCLR at the scale cifar10, with this bench's encoder and batch."""
    scale = scale_named("cifar10").replace(encoder=bench.sizes.encoder, batch=bench.sizes.batch)
    method = scale.method(SimCLR)
    optimization = scale.optimization(method, **changes)
    return scale.run(method, views=(VIEW, VIEW), optimization=optimization).training


@functools.cache
def steppers(device: str, training: Training, compiled: bool) -> dict[str, Stepper]:
    """The steppers by contender; the first is that of a long run."""
    batch = training.optimization.batch
    data = random_data(batch, 32, device)
    found = {}
    for through in (True, False) if compiled else (False,):
        way = "compiled" if through else "eager"
        found[f"ours, {way}"] = warm(Stepper(training, data, through, most=batch))
        found[f"Kornia's views, {way} step"] = warm(KorniaStepper(training, data, through, most=batch))
    return found


def warm(stepper: Stepper) -> Stepper:
    for _ in range(3):  # the first compiles, the second records a CUDA graph
        stepper.both()
    return stepper


def step(bench: Bench) -> None:
    training, rounds = training_of(bench), bench.sizes.rounds
    found = steppers(bench.device, training, bench.sizes.compiled)
    product, product_flops = matrix_product("bfloat16", bench.device)
    calls: dict[str, Callable[[], object]] = {name: each.both for name, each in found.items()}
    calls |= {f"{name}: alone": each.step for name, each in found.items()} | {"product": product}
    took, batch = seconds(calls, bench.device, rounds), training.optimization.batch
    case = f"{training.encoder.label}, batch {batch}, bfloat16"
    rates = [product_flops / s / 1e12 for s in took["product"]]
    bench.write(row("gpu step", "matrix product, bfloat16", "ours", "TFLOP/s", rates))
    flops = found["ours, eager"].flops()
    bench.write(row("gpu step", f"{case}: operations of a step", "ours", "TFLOP", [flops / 1e12]))
    first = next(iter(found))
    for name, each in found.items():
        ratio = statistics.median(t / o for t, o in zip(took[name], took[first], strict=True))
        memory = peak_extra_memory(each.both, bench.device) / 2**20
        bench.write(row("gpu step", case, name, "images/s", [batch / s for s in took[name]], ratio, memory))
    for name in found:
        alone = took[f"{name}: alone"]
        share = [100 * (1 - a / s) for a, s in zip(alone, took[name], strict=True)]
        bench.write(row("gpu step", f"{case}: augmentation's share", name, "%", share))
        used = [100 * flops / s / 1e12 / rate for s, rate in zip(took[name], rates, strict=True)]
        bench.write(row("gpu step", f"{case}: share of the matrix rate", name, "%", used))


def large(bench: Bench) -> None:
    images = random_data(bench.sizes.large, 224, bench.device).train.images
    view, module = cases(224)["SimCLR view"]
    contenders = {"ours, compiled": ours(images, view, compiled_transform())} if bench.sizes.compiled else {}
    contenders |= {"ours": ours(images, view), "Kornia": theirs(images, module.to(bench.device))}
    options = {"work": len(images), "unit": "views/s", "device": bench.device, "rounds": bench.sizes.rounds}
    for found in rows("gpu large", f"SimCLR view, 224 px, batch {len(images)}", contenders, **options, memory=True):
        bench.write(found)


def waits(bench: Bench) -> None:
    """The device's idle time: the time of an unprofiled step minus that of its kernels."""
    if bench.device == "cpu":
        return bench.skip("waits", "waits for the device, idle share of the device", NO_CUDA)
    steps = 10
    for name, stepper in steppers(bench.device, training_of(bench), bench.sizes.compiled).items():
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(steps):
            stepper.both()
        torch.cuda.synchronize()
        took = (time.perf_counter() - start) / steps
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                for _ in range(steps):
                    stepper.both()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        places = {f"{Path(w.filename).name}:{w.lineno}" for w in warned if "synchronizing" in str(w.message)}
        count = sum("synchronizing" in str(w.message) for w in warned)
        found = row("gpu waits", f"operations that wait for the device, in {steps} steps", name, "waits", [count])
        bench.write(dataclasses.replace(found, note=", ".join(sorted(places))))
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
            for _ in range(steps):
                stepper.both()
        events = recorded.events()
        calls = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaMemcpy", "cudaEventSynchronize")
        count = sum(event.name in calls for event in events)
        case = f"calls that wait for the device, in {steps} steps, with the profiler's own"
        bench.write(row("gpu waits", case, name, "waits", [count]))
        busy = busy_microseconds(
            (event.time_range.start, event.time_range.end)
            for event in events
            if event.device_type == DeviceType.CUDA and not getattr(event, "is_user_annotation", False)
        )
        bench.write(row("gpu waits", "a step", name, "ms", [1e3 * took]))
        bench.write(row("gpu waits", "the device idle", name, "%", [100 * (1 - busy / 1e6 / steps / took)]))
    return None


def threads(bench: Bench) -> None:
    """How long the host takes to make the views and to order the step, while the device computes."""
    stepper = next(iter(steppers(bench.device, training_of(bench), bench.sizes.compiled).values()))
    steps = 30 if bench.device != "cpu" else 3
    for count in sorted({1, len(os.sched_getaffinity(0))}, reverse=True):  # ends with one, as the other parts have
        torch.set_num_threads(count)
        warm(stepper)  # compiled code depends on the number of threads
        took = []
        for _ in range(bench.sizes.rounds):
            start = time.perf_counter()
            for _ in range(steps):
                stepper.both()
            took.append(1e3 * (time.perf_counter() - start) / steps)
            if bench.device != "cpu":
                torch.cuda.synchronize()
        name = "1 thread" if count == 1 else f"{count} threads"
        bench.write(row("gpu threads", "the host's time of a step", name, "ms", took))


def busy_microseconds(spans: Iterator[tuple[float, float]]) -> float:
    """The length of the union of intervals."""
    total, until = 0.0, -math.inf
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def tiny_cells(bench: Bench) -> None:
    sizes, one = bench.sizes, None
    for workers in sizes.workers:
        found = cells.rate(bench.device, workers, sizes.cells, sizes.window)
        one = one or found
        bench.write(
            row("gpu cells", f"tiny cells ({sizes.cells})", f"{workers} at once", "cells/h", [found], found / one)
        )


def cifar10(bench: Bench) -> None:
    """As many epochs as fit, planned from the time of a step, since the schedule of the rate needs their number."""
    if bench.cifar is None:
        return bench.skip("cifar10", "learning curve", "needs --cifar, a folder of CIFAR-10's parquet files")
    name, place = name_and_place(bench.cifar)
    data, case = parquet(Path(place), bench.sizes.images).to(torch.device(bench.device)), name or Path(place).name
    scale = scale_named("cifar10").replace(encoder=bench.sizes.encoder, batch=bench.sizes.batch)
    view = (CropFlip(), scale.color())  # no blur at this scale, as in Chen et al. 2020, App. B.9
    training = scale.run(scale.method(SimCLR), views=(view, view)).training
    stepper = warm(Stepper(training, data, bench.sizes.compiled, most=bench.sizes.batch))
    took = seconds({"step": stepper.both}, bench.device, rounds=3)["step"]
    steps = len(data.train) // training.optimization.batch
    # 1.2 and 25 s: the learning curve, loading batches, and the evaluation at the end.
    epochs = min(bench.sizes.most, int((bench.left() - LAST - 25) / (1.2 * steps * statistics.median(took))))
    if epochs < 1:
        return bench.skip("cifar10", "learning curve", f"an epoch takes longer than the {bench.left():.0f} s left")
    optimization = training.optimization.replace(epochs=epochs, curve_every=max(1, epochs // 10))
    what = f"{case}, {len(data.train)} images, {training.encoder.label}, SimCLR"
    start = time.perf_counter()

    def tell(found: dict[str, float]) -> None:
        where = (
            f"{case}, {len(data.train)} images, {training.encoder.label}, SimCLR, epoch {found['epoch']} of {epochs}"
        )
        for name, value in found.items():
            if name not in ("epoch", "learning_rate"):
                bench.write(row("gpu cifar10", where, name, "%" if name.startswith("validation") else "", [value]))
        bench.write(row("gpu cifar10", where, "since the start", "s", [time.perf_counter() - start]))

    training = training.replace(optimization=optimization)
    trained = pretrain(training, data, compiled=bench.sizes.compiled, on_epoch=tell)
    evaluations = (KNN(), Linear())
    found = evaluate(evaluations, trained.learner.encoder, data, optimization.precision)
    for evaluation, each in zip(evaluations, found, strict=True):
        for metric, value in each.metrics.items():
            if metric.startswith("test_top1"):
                name = f"{evaluation.label}_{metric}"
                bench.write(row("gpu cifar10", f"{what}: after {epochs} epochs", name, "%", [value]))
    return None


def methods(bench: Bench) -> None:
    """Methods with a momentum copy, prototypes and without either, as the scale cifar10 trains them: seconds an epoch,
    and kNN."""
    if bench.cifar is None:
        return bench.skip("methods", "learning curves", "needs --cifar, a folder of CIFAR-10's parquet files")
    name, place = name_and_place(bench.cifar)
    data, case = parquet(Path(place), bench.sizes.images).to(torch.device(bench.device)), name or Path(place).name
    epochs = min(METHODS_EPOCHS, bench.sizes.most)
    scale = scales.cifar10(bench.sizes.batch, epochs)
    for method in map(scale.method, (BYOL, DINO, VICReg, SimCLR)):
        label = f"{case}, {len(data.train)} images, ResNet-18, {method.label}"
        optimization = scale.optimization(method, curve_every=0)
        training = Training(
            dataset=Shapes(), views=published_views(method, 32), method=method, encoder=bench.sizes.encoder,
            optimization=optimization,
        )  # fmt: skip
        times, start = [], time.perf_counter()

        def tell(found: dict[str, float], label=label, times=times, start=start) -> None:
            times.append(time.perf_counter() - start)
            where = f"{label}, epoch {found['epoch']} of {METHODS_EPOCHS}"
            bench.write(row("gpu methods", where, "loss", "", [found["loss"]]))

        compiled = bench.sizes.compiled and bench.device != "cpu"
        learner = pretrain(training, data, compiled=compiled, on_epoch=tell).learner
        epoch = [later - earlier for earlier, later in pairwise(times)] or times
        bench.write(row("gpu methods", f"{label}: an epoch after the first", "ours", "s", epoch))
        [found] = evaluate((KNN(),), learner.evaluated()[0], data, "bfloat16")
        for statistics_ in ("running", "recalibrated"):
            value = found.metrics[f"test_top1_{statistics_}"]
            where = f"{label}: after {epochs} epochs"
            bench.write(row("gpu methods", where, f"knn_test_top1_{statistics_}", "%", [value]))
        del learner
        torch.compiler.reset()
    return None


def parquet(folder: Path, most: int | None = None) -> Data:
    """train-*.parquet and test-*.parquet of `folder`: encoded images of one size and `label`. Split as by
    `ImageData`, without the library `datasets`. most: the number of training images; the others get a tenth."""
    import pyarrow.parquet
    from PIL import Image

    parts = {}
    for split in ("train", "test"):
        table = pyarrow.parquet.read_table(sorted(folder.glob(f"{split}-*.parquet")))
        table = table.slice(0, most if most and split == "train" else most and most // 10)
        column = next(name for name in table.column_names if name != "label")
        pictures = (Image.open(io.BytesIO(each["bytes"])).convert("RGB") for each in table[column].to_pylist())
        images = torch.from_numpy(np.stack([np.asarray(each) for each in pictures])).permute(0, 3, 1, 2).contiguous()
        parts[split] = Split(images, torch.tensor(table["label"].to_pylist()))
    whole = parts["train"]
    rest, held_out = cut_validation(whole.labels, max(1, round(0.1 * len(whole))), seed=0)
    train, validation = (Split(whole.images[some], whole.labels[some]) for some in (rest, held_out))
    classes = tuple(map(str, range(int(whole.labels.max()) + 1)))
    return Data(train=train, validation=validation, test=parts["test"], classes=classes)


def small_networks(bench: Bench) -> None:
    for found in arrays.run(bench.device, bench.sizes.networks, "bfloat16", bench.sizes.rounds):
        bench.write(found)


PARTS = {
    "operators": Part(operators, 5, 40),
    "views": Part(views, 15, 75),
    "losses": Part(losses, 10, 60),
    "step": Part(step, 30, 120),
    "large": Part(large, 20, 60),
    "waits": Part(waits, 15, 75),
    "threads": Part(threads, 10, 45),
    "cells": Part(tiny_cells, 40, 150),
    "resume": Part(resume, 20, 70),
    "cifar10": Part(cifar10, 60, math.inf),
    "arrays": Part(small_networks, 15, 60),
    "methods": Part(methods, 60, math.inf),
}


# --------------------------------------------------------------------------------------------------
# The command


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds for everything (default: %(default)s)")
    parser.add_argument("--cifar", metavar="[NAME=]FOLDER", help="CIFAR-10 as parquet files, train-* and test-*")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="the folder of the table and the log")
    parser.add_argument("--commit", help="of the code, where it is a copy without its repository")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, a tenth of the work: rehearsal.csv")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.parts if name not in PARTS]
    if unknown:
        parser.error(f"unknown part {', '.join(unknown)}; known are {', '.join(PARTS)}")
    if not options.rehearse and not torch.cuda.is_available():
        parser.error("torch sees no GPU; --rehearse runs the same parts on the CPU")
    options.out.mkdir(parents=True, exist_ok=True)
    return measure(options, "cpu" if options.rehearse else "cuda", TENTH if options.rehearse else Sizes())


def measure(options: argparse.Namespace, device: str, sizes: Sizes) -> int:
    """Runs the parts; returns the number of failed ones."""
    end, failed = time.monotonic() + options.budget, 0
    names = options.parts or list(PARTS)
    path = options.out / ("rehearsal.csv" if device == "cpu" else "cuda.csv")
    configure_worker(device)
    where = provenance(device)
    where["commit"] = options.commit or where["commit"]
    warnings.filterwarnings("ignore")
    kept, rest = _others(path, names), []
    with open(path, "w", newline="") as table, open(path.with_suffix(".log"), "a") as log:
        faulthandler.dump_traceback_later(options.budget + 20, exit=True, file=log)  # in case a part cannot be stopped
        lines = csv.DictWriter(table, COLUMNS, extrasaction="ignore", restval="")
        lines.writeheader()
        lines.writerows(kept)

        def say(text: str) -> None:
            for file in (sys.stdout, log):
                print(text, file=file, flush=True)

        def write(found: Row) -> None:
            numbers = {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in dataclasses.asdict(found).items()}
            lines.writerow({**{k: "" if v in (None, "nan") else v for k, v in numbers.items()}, **where})
            table.flush()
            say(_line(found))

        bench = Bench(device, sizes, end, options.cifar, write)
        say(f"{where['device']}, torch {where['torch']}, Kornia {where['kornia']}, commit {where['commit'] or '?'}")
        for number, name in enumerate(names, start=1):
            part, start = PARTS[name], time.monotonic()
            if bench.left() < part.least:
                bench.skip(name, "", f"{max(0, bench.left()):.0f} s left, it needs {part.least:.0f}")
                continue
            try:
                with _at_most(min(part.most, bench.left()) if device != "cpu" else bench.left()):
                    part.run(bench)
            except (Exception, OutOfTime) as error:
                failed += 1
                log.write(traceback.format_exc())
                note = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
                write(Row(f"gpu {name}", "", "", "failed", math.nan, math.nan, math.nan, 0, note=note[:300]))
                if not _answers(device):
                    say("the device takes no more work from this process; another one goes on")
                    rest = names[number:]
                    break
            say(f"-- {name}: {time.monotonic() - start:.0f} s, {max(0, bench.left()):.0f} s left")
        faulthandler.cancel_dump_traceback_later()
    return failed + (_elsewhere(options, rest, bench.left()) if rest else 0)


def _answers(device: str) -> bool:
    """Whether CUDA is still usable after a failure; after an illegal access every further call of the process fails."""
    try:
        torch.ones(1, device=device).item()
    except RuntimeError:
        return False
    return True


def _elsewhere(options: argparse.Namespace, parts: list[str], budget: float) -> int:
    """Runs the same command in a new process for the remaining parts; returns the number of failed ones."""
    command = [sys.executable, __file__, *parts, f"--budget={budget:.0f}", f"--out={options.out}"]
    given = {"cifar": options.cifar, "commit": options.commit}
    command += [f"--{name}={value}" for name, value in given.items() if value] + ["--rehearse"] * options.rehearse
    return subprocess.call(command)


def _others(path: Path, names: list[str]) -> list[dict[str, str]]:
    """The rows of an earlier table that are not measured this time."""
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        return [each for each in csv.DictReader(file) if each["benchmark"].removeprefix("gpu ") not in names]


@contextmanager
def _at_most(limit: float) -> Iterator[None]:
    def late(*_: object) -> None:
        raise OutOfTime(f"stopped after {limit:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, max(1e-3, limit), 20)  # repeats, in case the first signal is lost
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _line(found: Row) -> str:
    ratio = "" if found.ratio is None else f"  x {found.ratio:.2f}"
    spread = f"[{found.low:.4g}, {found.high:.4g}] n {found.n}" if found.n > 1 else ""
    value = f"{found.value:12.4g} {found.unit:10} {spread}{ratio}" if found.n else found.unit
    return f"{found.benchmark:13} {found.case:70} {found.contender:30} {value} {found.note}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
