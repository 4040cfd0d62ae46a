"""`python -m benchmarks [PART ...] [--device cuda] [--quick]`: one table, also as CSV.

Writes benchmarks/DEVICE.csv; other parts keep their rows. Uses one thread on a CPU. `python -m benchmarks.gpu` has the
measurements that need a GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
import warnings
from pathlib import Path

import pandas as pd
import torch

from ablation.execution.worker import keep_freed_memory
from ablation.system.provenance import provenance
from benchmarks import curve, evaluate, loops, methods, scaling, step, stream, suite, views

PARTS = {
    "views": views, "step": step, "methods": methods, "loops": loops, "curve": curve, "evaluate": evaluate,
    "suite": suite, "stream": stream, "scaling": scaling,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="without compiled contenders and 10,000 runs")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent, help="folder of the CSV file")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {', '.join(sorted(unknown))}; known are {', '.join(PARTS)}")
    warnings.filterwarnings("ignore")
    if options.device == "cpu":
        torch.set_num_threads(1)
        keep_freed_memory()  # as in a worker, for every contender
    path = options.folder / f"{options.device.partition(':')[0]}.csv"
    for name in options.parts or PARTS:
        start = time.perf_counter()
        found = []
        for row in PARTS[name].run(options.device, options.quick):
            print(line(row), flush=True)
            found.append(dataclasses.asdict(row))
        where = {k: v for k, v in provenance(options.device).items() if k != "finished"}
        new = pd.DataFrame(found).assign(**where)
        old = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=new.columns)
        whole = pd.concat([old[old["benchmark"] != name], new], ignore_index=True)
        whole.to_csv(path, index=False, float_format="%.5g")
        print(f"{name}: {time.perf_counter() - start:.0f} s, {path}", file=sys.stderr)


def line(row) -> str:
    ratio = "" if row.ratio is None else f"  ours is {row.ratio:.2f} times as fast"
    memory = "" if row.memory_mb is None else f"  {row.memory_mb:.1f} MB"
    return (
        f"{row.benchmark:9} {row.case:60} {row.contender:40} {row.value:12.4g} {row.unit:9} "
        f"[{row.low:.4g}, {row.high:.4g}] n {row.n}{ratio}{memory}"
    )


if __name__ == "__main__":
    main()
