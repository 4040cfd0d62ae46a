"""Writes docs/speed.md from the measurements in benchmarks/*.csv: `python docs/speed.py`."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path

import pandas as pd

LARGEST = 1.15  # of a method's step over its passes
ROOT = Path(__file__).resolve().parent.parent


def bars(cpu: pd.DataFrame, cuda: pd.DataFrame | None) -> list[tuple[str, str, str, str]]:
    """Rows of the table of goals: the goal and the measured value."""
    view, sobel = "SimCLR view, 32 px", "sobel, 32 px"
    few, large = (f"ResNet-50, 160 px, batch 8, {gb} GB of images, 1.6 GB allowed" for gb in (1.6, 6.4))
    streamed, grown = one(cpu, large, "alone", "ratio"), one(cpu, f"{large}: peak") / one(cpu, f"{few}: peak")
    compiled = one(cpu, view, "ours, compiled", "ratio")  # compiled time over eager time
    memory = one(cpu, sobel, column="memory_mb") / one(cpu, sobel, "Kornia", "memory_mb")
    rows = [
        bar("SimCLR view, 32 px, against Kornia's modules, eager", 3, "times", one(cpu, view, "Kornia", "ratio")),
        bar("SimCLR view, 32 px, against the PIL pipeline", 12, "times", one(cpu, view, "PIL", "ratio")),
        bar("the same, operators compiled", 12, "times", one(cpu, view, "PIL", "ratio") / compiled),
        bar("Sobel, 32 px, against Kornia's", 6, "times", one(cpu, sobel, "Kornia", "ratio")),
        bar("Sobel's extra memory against Kornia's", -25, "%", 100 * memory),
        bar("augmentation's share of a step, mean of the 49 tiny cells", -12, "%", one(cpu, "augmentation's share, m")),
        bar("evaluation's share of a tiny cell", -8, "%", one(cpu, "evaluation's share")),
        bar("a linear point on the learning curve every few epochs, of training", -3, "%", one(cpu, "linear points")),
        bar("a cell outside training and evaluation", -0.3, "s", one(cpu, "a cell outside")),
        bar("`ablation status` on 10,000 runs", -2, "s", one(cpu, "ablation status, 10,000")),
        bar("`ablation --help`", -0.5, "s", one(cpu, "ablation --help")),
        bar("ResNet-50 on images from the file, against its steps alone", 0.95, "times", streamed),
        bar("memory for four times as many images", -1.05, "times", grown),
        bar(
            "4 workers against one, cells that sleep", 3.6, "times", one(cpu, "cells that sleep", "4 workers", "ratio")
        ),
        bar("the owner's time for a cell, of 1,000", -50, "ms", one(cpu, "the owner, 1,000")),
        bar("`make grid` after installation", -5, "min", one(cpu, "make grid") / 60),
        bar("a step of a method over its passes (see below), the largest", -LARGEST, "times", over_passes(cpu).max()),
    ]
    step, ours = "ResNet-18, batch 512, bfloat16", "ours, compiled"
    on_gpu = [
        ("augmentation's share of a ResNet-18 step", -15, "%", f"{step}: augmentation's share", ours, "value"),
        (
            "ResNet-18, batch 512, bfloat16, of the matrix rate",
            35,
            "%",
            f"{step}: share of the matrix rate",
            ours,
            "value",
        ),
        ("SimCLR views of 224 px", 25_000, "views/s", "SimCLR view, 224 px", ours, "value"),
        ("calls that wait, in ten steps", -1, "(the profiler's own)", "calls that wait for the device", ours, "value"),
        ("tiny cells an hour, 16 at once against one", 4, "times", "tiny cells", "16 at once", "ratio"),
    ]
    for what, limit, unit, case, contender, column in on_gpu:
        measured = None if cuda is None else one(cuda, case, contender, column)
        rows.append(bar(f"GPU: {what}", limit, unit, measured))
    return rows


def over_passes(frame: pd.DataFrame) -> pd.Series:
    """A step's time over that of its passes, by method and precision."""
    found = frame[(frame["benchmark"] == "methods") & frame["case"].str.endswith(OVER)]
    return found.set_index(found["case"].str.removesuffix(OVER))["value"]


def one(frame: pd.DataFrame, case: str, contender: str = "ours", column: str = "value") -> float:
    chosen = frame["case"].str.startswith(case) & frame["contender"].str.contains(contender, regex=False)
    values = frame.loc[chosen, column]
    return float(values.iloc[0]) if len(values) else math.nan


def bar(what: str, limit: float, unit: str, measured: float | None) -> tuple[str, str, str, str]:
    """A row; a negative limit is an upper bound."""
    goal = f"{'≤' if limit < 0 else '≥'} {abs(limit):g} {unit}"
    if measured is None or math.isnan(measured):
        return what, goal, "not measured: no GPU available" if measured is None else "not measured", ""
    reached = measured <= -limit if limit < 0 else measured >= limit
    return what, goal, f"{measured:.2g} {unit}", "yes" if reached else "**no**"


HEAD = """# Speed

Written by `python docs/speed.py` from `benchmarks/cpu.csv`, which `make benchmarks` measures in most of an hour, and
from `benchmarks/cuda.csv` (see below). Contenders run in turn, in five rounds; a ratio is the median of the rounds'
ratios. On a CPU everything uses one thread and keeps freed memory as a worker does. An augmentation's share is the
difference of a step with and without it, so noise can make a share near zero negative. If torchvision is not installed,
the same calls of PIL replace it.

On a GPU the images, the operators and the encoder live on the device, and the host waits for it once per epoch. Images
that take more than half of the free memory stay in a mapped file; their batches are read, pinned and copied in advance.
If a worker has at least 10,000 steps to take, it compiles them (`torch.compile`, CUDA graphs); its cells share the
compiled code until less than half of the device's memory is free. A small encoder leaves a GPU mostly idle: compute
several cells at once with `--workers 8`. With float32, torch lets a GPU compute convolutions in TF32, with a mantissa
of 10 bits; matrix products keep 23.

## On a GPU, in nine minutes

    python -m benchmarks.gpu --cifar NAME=FOLDER

compares operators, views, losses and a resumed training with the CPU's, measures steps, views, waits and workers, and
trains ResNet-18 on CIFAR-10 for the rest of the time. FOLDER holds CIFAR-10 as parquet files (`train-*`, `test-*`);
without it that part is skipped. Rows and log are written at once, so an interruption loses only later measurements. A
part that fails, or that exceeds the rest of `--budget` (500 s), has a row with the reason. `python -m benchmarks views
--device cuda` adds every operator by itself.

It needs torch, Kornia, numpy, pandas, pyarrow, scipy, matplotlib, seaborn, safetensors, rich and Pillow, but neither
`datasets` nor Optuna. On a machine without a network, install the missing wheels from a folder:

    pip download --no-deps --dest wheels kornia kornia_rs            # with a network and the same Python
    pip install --no-index --no-deps --target site wheels/*.whl      # on the machine
    PYTHONPATH=site python benchmarks/gpu.py --commit ID             # ID of the code, if its repository is not there

{state}
`python -m benchmarks.gpu --rehearse` runs all of it on a CPU with a tenth of the work, in about five minutes. It skips
measurements that need CUDA (waits, idle time) and gives the reason.
"""

UNSEEN = "No GPU was available: the command was rehearsed on a CPU only, and nothing here was measured on a GPU."
SEEN = "Its results are below, under GPU."

WHY = """
We do not reach twelve times the PIL pipeline. That goal was set where torchvision did 1,350 images/s; here it
does {pil} on one thread. The whole view takes {ours:.0f} us per image eager and {compiled:.0f} us compiled; twelve
times would be {asked:.0f} us. The rest is spread out: in the rows below a crop with flip takes {crop:.0f} us, color
{color:.0f} us ({fused:.0f} us compiled) and blur {blur:.0f} us. Compiling is faster on a CPU too, but we do not use it
there: it would take a worker many thousand steps to earn back the time, and a resumed run would differ in its last
digits.
"""

METHODS = """A method's passes are what its definition asks for, measured alone: the encoder on the views that get a
gradient, forward and backward; the momentum copy on the views that get none, forward; the heads on what both give; the
optimizer's step and the copy's. Their batch norms are torch's, and see one view or all as the method's do. What a step
takes beyond is the method's own: loss, queue, codes, clipping. Views "2 + 2" are two with a gradient and two without;
SMoG's step has its share of a k-means. Batch 128, 32 px, sizes of the scale cifar10-small (on a GPU of cifar10), views
made before; two views are crop with color, others the published ones. SimCLR's step has the same encoder, and as many
images with a gradient. On a CPU these are the processor's seconds, which other processes do not lengthen.
"""

# Why a method may take more than its passes.
BEYOND = {
    "MoCo v2": "MoCo's batch norms see eight groups of 16 images: eight small calls and a copy, forward and backward, "
    "where its passes have one call. A larger encoder has fewer calls for its arithmetic.",
    "VICRegL": "VICRegL's local loss is a tenth of its step's operations, and they are small: for two views 160 "
    "covariance matrices, of every matched place on each side, and the search for the matches.",
}

OVER = ": a step over its passes"
PARTS = {
    "views": "Operators and the whole SimCLR view: images per second",
    "step": "One training step",
    "methods": "Methods: a step",
    "loops": "A whole training on all cores, side by side",
    "curve": "The learning curve",
    "evaluate": "Evaluation",
    "suite": "The suite itself",
    "stream": "Images that do not lie in memory",
    "scaling": "Several workers, and their owner",
    "gpu step": "A SimCLR step of ResNet-18",
    "gpu large": "Views of 224 px",
    "gpu waits": "Waits of host and device",
    "gpu threads": "Threads of the host",
    "gpu cells": "Several workers on one GPU",
    "gpu cifar10": "SimCLR on CIFAR-10",
    "gpu arrays": "Small networks trained as one array",
    "gpu methods": "Methods on CIFAR-10",
}
LAWS = [f"gpu {part}" for part in ("operators", "views", "losses", "resume")]


def page() -> str:
    cpu = pd.read_csv(ROOT / "benchmarks" / "cpu.csv")
    path = ROOT / "benchmarks" / "cuda.csv"
    cuda = pd.read_csv(path, dtype={"commit": str}) if path.is_file() else None
    if cuda is not None:
        cuda = cuda.fillna({"case": "", "contender": "", "unit": "", "note": ""})
    lines = [
        HEAD.replace("{state}", UNSEEN if cuda is None else SEEN),
        "## Goals",
        "",
        *table(["quantity", "goal", "measured", "reached"], bars(cpu, cuda)),
        why(cpu),
    ]
    for name, frame in (("CPU", cpu), ("GPU", cuda)):
        if frame is None:
            continue
        facts = frame.iloc[0]
        lines += ["", f"## {name}", "", f"{facts['device']}; torch {facts['torch']}, Kornia {facts['kornia']}."]
        checks = frame[frame["benchmark"].isin(LAWS)]
        lines += laws(checks) if len(checks) else []
        for part, title in PARTS.items():
            rows = frame[frame["benchmark"] == part]
            if len(rows):
                elsewhere = sorted(set(rows["device"]) - {facts["device"]})
                title += f" (measured on {', '.join(elsewhere)})" if elsewhere else ""
                lines += ["", f"### {title}", "", *{"views": wide, "methods": methods}.get(part, long)(rows)]
    return "\n".join(lines) + "\n"


def why(cpu: pd.DataFrame) -> str:
    def micros(case: str, contender: str = "ours") -> float:
        chosen = cpu[(cpu["case"] == f"{case}, 32 px") & (cpu["contender"] == contender)]
        return 1e6 / float(chosen["value"].iloc[0])

    pil = one(cpu, "SimCLR view, 32 px", "PIL")
    return WHY.format(
        pil=number(pil), asked=1e6 / (12 * pil), ours=micros("SimCLR view"),
        compiled=micros("SimCLR view", "ours, compiled"), crop=micros("crop + flip"), color=micros("color"),
        fused=micros("color", "ours, compiled"), blur=micros("blur"),
    ).rstrip()  # fmt: skip


def wide(rows: pd.DataFrame) -> list[str]:
    """A row for each case: every contender's rate, and its peak extra memory."""
    rows = rows.assign(contender=rows["contender"].str.replace(r"^torchvision.*", "PIL", regex=True))
    contenders = list(dict.fromkeys(rows["contender"]))
    body = []
    for case, group in rows.groupby("case", sort=False):
        group = group.set_index("contender")
        cells = [
            f"{number(group.value[c])} ({group.memory_mb[c]:.0f} MB)" if c in group.index else "" for c in contenders
        ]
        ratio = f"{group.ratio['Kornia']:.1f}" if "Kornia" in group.index else ""
        body.append((case, *cells, ratio))
    return table(["", *contenders, "ours / Kornia"], body)


def methods(rows: pd.DataFrame) -> list[str]:
    """A row for each method and precision."""
    body = []
    for case in over_passes(rows).index:
        own, (passes, simclr) = (
            rows[rows["case"] == case],
            (rows[rows["case"] == f"{case}: a step over {what}"].iloc[0] for what in ("its passes", "SimCLR")),
        )
        times = [f"{number(value)} ms" for value in own["value"]]  # of the step, its passes and SimCLR's
        spread = f"{passes.value:.2f} ({passes.low:.2f} to {passes.high:.2f})"
        body.append((case, own["note"].iloc[0], *times, spread, f"{simclr.value:.2f}"))
    head = ["", "views", "a step", "its passes", "SimCLR's step", "over its passes (range)", "over SimCLR's"]
    over = over_passes(rows)
    above = [name for name in BEYOND if (over[over.index.str.startswith(f"{name},")] > LARGEST).any()]
    reasons = [line for name in above for line in (*textwrap.wrap(BEYOND[name], 120), "")]
    return [*METHODS.splitlines(), "", *reasons, *table(head, body)]


def laws(rows: pd.DataFrame) -> list[str]:
    """The number of comparisons with the CPU, and those outside their limits."""
    limited = rows[rows["note"] != ""]
    wrong = limited[~limited["note"].str.startswith("within")]
    parts = [(name.removeprefix("gpu "), each["value"]) for name, each in limited.groupby("benchmark", sort=False)]
    body = [(name, str(len(each)), number(each.max())) for name, each in parts]
    lines = ["", "### Against the CPU", "", *table(["", "comparisons", "largest difference"], body), ""]
    if wrong.empty:
        return [*lines, "All are within their limits."]
    outside = [(r.case, r.contender, number(r.value), r.note) for r in wrong.itertuples()]
    return [*lines, "These are not within their limits:", "", *table(["", "", "difference", ""], outside)]


def long(rows: pd.DataFrame) -> list[str]:
    epochs = rows["case"].str.extract(r"epoch (\d+) of (\d+)")
    rows = rows[epochs[0].isna() | (epochs[0] == epochs[1])]  # of a learning curve, its end
    body = [
        (
            row.case, row.contender, f"{number(row.value)} {row.unit}", f"{number(row.low)} to {number(row.high)}",
            str(row.n), "" if pd.isna(row.ratio) else f"{row.ratio:.2f}",
            "" if pd.isna(row.memory_mb) else f"{row.memory_mb:.0f} MB",
        )
        if row.n
        else (row.case, "", f"{row.unit}: {row.note}", "", "", "", "")
        for row in rows.itertuples()
    ]  # fmt: skip
    head = ["", "", "median", "range", "n", "time, ours = 1", "peak extra memory"]
    return table(head, body)


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(head: list[str], body: list[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body)]


if __name__ == "__main__":
    (ROOT / "docs" / "speed.md").write_text(page())
