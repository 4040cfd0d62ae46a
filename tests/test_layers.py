"""Which room may import which: specs below everything, plots without torch, the command line on top."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, environment

PACKAGE = ROOT / "ablation"
LAYERS = [
    {"specs", "randomness", "files", "machine"},
    {"distributed"},
    {"operators", "grids", "statistics", "references"},
    {"views", "methods", "optimizers", "encoders", "datasets", "plots", "settings", "tables"},
    {"appendix", "contracts", "evaluate", "markers", "own_table", "failures", "documents"},
    {"compiling", "checkpoints"},
    {"pretrain", "scales"},
    {"results", "loading", "preview"},
    {"compute", "engines", "progress", "report"},
    {"parts", "runner", "live", "cost", "record"},
    {"search"},
    {"commands"},
    {"cli"},
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Rooms of ours that a file imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ablation":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found


FILES = [p for p in sorted(PACKAGE.rglob("*.py")) if p.name != "__init__.py" or p.parent != PACKAGE]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    room = room_of(path)
    assert room in LEVEL, f"{room} has no layer yet"
    for other in imported_rooms(path) - {room}:
        assert LEVEL[other] <= LEVEL[room], f"{room} imports {other}, which lies above it"


def test_specs_import_neither_torch_nor_the_rest():
    tree = ast.parse((PACKAGE / "specs.py").read_text())
    modules = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    modules |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert {module.split(".")[0] for module in modules} <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("module", ["plots", "statistics", "specs", "grids", "tables"])
def test_drawn_without_torch(module):
    code = f"import sys, ablation.{module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())


def test_what_is_written_and_what_is_read_have_one_format():
    """Two constants of that name would drift apart: tables would be written that their own version refuses."""
    binding = [
        path.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name) and node.id == "FORMAT" and isinstance(node.ctx, ast.Store)
    ]
    assert binding == ["specs.py"]
