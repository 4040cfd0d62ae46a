"""`ablation list`: the named experiments, searches and scales."""

from __future__ import annotations

import argparse

from ablation.study.experiment_file import docstring, names
from ablation.study.scales import SCALES


def list_names(options: argparse.Namespace) -> int:
    for title, function in (
        ("experiments (ablation run NAME)", "experiment"),
        ("searches (ablation search NAME)", "search"),
    ):
        print(f"{title}:")
        for name, path in names(function).items():
            first = (docstring(path.read_bytes()).splitlines() or ["(cannot be read)"])[0]
            print(f"  {name:20} {first}")
    print("scales:")
    for name, make in SCALES.items():
        print(f"  {name:20} {(make.__doc__ or '').strip().splitlines()[0]}")
    return 0
