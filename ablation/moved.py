"""Modules under their earlier names, for users' experiment files. For one version."""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

MOVED = {
    "checkpoints": ("training.checkpoint",),
    "datasets": ("data", "spec"),
    "datasets.base": ("data.dataset", "spec"),
    "datasets.hub": ("data.images",),
    "datasets.shapes": ("data.shapes",),
    "distributed": ("system.distributed",),
    "encoders": ("models.resnet", "models.batch_norm"),
    "grids": ("spec.grid",),
    "loading": ("study.experiment_file",),
    "optimizers": ("training.optimizers",),
    "pretrain": ("training.loop",),
    "randomness": ("spec.randomness",),
    "references": ("analysis.references",),
    "results": ("execution.store", "analysis.results"),
    "scales": ("study.scales",),
    "specs": ("spec",),
    "statistics": ("analysis.statistics",),
    "tables": ("analysis.tables", "report.latex"),
    "views": ("operators.pipeline",),
}


class Moved(MetaPathFinder, Loader):
    """Finds an old name and fills its module with the objects of the new modules."""

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        parent, _, old = name.partition(".")
        return ModuleSpec(name, self, is_package=True) if parent == "ablation" and old in MOVED else None

    def exec_module(self, module: types.ModuleType) -> None:
        places = MOVED[module.__name__.removeprefix("ablation.")]
        warnings.warn(
            f"{module.__name__} is now ablation.{places[0]}; most of it can be imported from ablation itself.",
            DeprecationWarning,
            stacklevel=2,
        )
        for place in places:
            new = vars(importlib.import_module(f"ablation.{place}"))
            vars(module).update({name: value for name, value in new.items() if not name.startswith("__")})


def install() -> None:
    if not any(isinstance(finder, Moved) for finder in sys.meta_path):
        sys.meta_path.insert(0, Moved())  # first, since an old folder with a leftover __pycache__ is a package too
