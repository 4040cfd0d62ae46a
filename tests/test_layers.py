"""The tree in docs/architecture.md is the package's, and imports go down it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, environment

PACKAGE = ROOT / "ablation"
TREE = (ROOT / "docs" / "architecture.md").read_text().split("```")[3]
LEVEL = {package: level for level, package in enumerate(re.findall(r"^  (\w+)(?:/|\.py) ", TREE, re.MULTILINE))}
FACE = {"__init__", "experiments", "moved"}  # the package's names, the shipped experiments, earlier names


def package_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_packages(path: Path) -> set[str]:
    """Our packages that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ablation":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if package_of(path) not in FACE]


KINDS = {"InvalidSpec", "DataError", "StorageError", "WorkerError", "UserCodeError"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_docstrings_name_the_errors_that_are_raised(path):
    """A docstring that names a kind of error names every kind that its function raises itself."""
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef):
            named = KINDS & set(re.findall(r"\w+", ast.get_docstring(function) or ""))
            raised = [node.exc for node in ast.walk(function) if isinstance(node, ast.Raise)]
            raised = KINDS & {getattr(getattr(each, "func", None), "id", "") for each in raised}
            assert not named or raised <= named, f"{function.name} raises {raised - named}"


def test_a_package_lists_its_modules():
    """In its docstring, if it lists any."""
    for folder in {path.parent for path in FILES} - {PACKAGE}:
        text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
        modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
        modules |= {path.parent.name for path in folder.glob("*/__init__.py")}
        listed = set(re.findall(r"\w+", text))
        assert len(modules & listed) <= len(modules) / 2 or modules <= listed, f"{folder}: {modules - listed}"


def test_the_tree_is_the_packages():
    assert set(LEVEL) == {package_of(path) for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    package = package_of(path)
    for other in imported_packages(path):
        assert LEVEL[other] <= LEVEL[package], f"{package} imports {other}, which is above it"


@pytest.mark.parametrize("path", sorted((PACKAGE / "spec").glob("*.py")), ids=lambda p: p.name)
def test_specs_import_the_standard_library_and_each_other(path):
    if path.name == "randomness.py":  # it makes torch's generators
        return
    tree = ast.parse(path.read_text())
    modules = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    modules |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    outside = {module for module in modules if module.split(".")[0] not in sys.stdlib_module_names}
    assert all(module.startswith("ablation.spec") for module in outside)


def test_drawn_without_torch():
    """One after the other in one process; the error names the first that imports it."""
    code = "import sys\n" + "".join(
        f"import ablation{module}\nassert 'torch' not in sys.modules, 'ablation{module}'\n"
        for module in ("", ".spec", ".analysis.tables", ".analysis.statistics", ".plots")
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())


def test_every_name_of_the_public_face_is_there():
    """The names for editors are the importable ones."""
    import ablation

    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {(node.module, a.name) for node in block.body for a in node.names}
    assert {name for _, name in seen} == set(ablation.__all__)
    for module, name in seen:
        assert getattr(ablation, name) is getattr(sys.modules[module], name)


OLD_NAMES = {
    "specs": "Experiment", "grids": "pairwise", "operators": "Crop", "datasets": "ImageData",
    "encoders": "ResNet", "optimizers": "AdamW", "scales": "Scale",
}  # fmt: skip
EACH_ALONE = """
import os, warnings
import torch
warnings.simplefilter('ignore')
for code in {codes!r}:
    child = os.fork()  # so that each is the first import of the package
    if not child:
        try:
            exec(code)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0, code
"""


def test_old_names_of_modules_hold_the_same_objects():
    """Imports of experiment files of version 0.1."""
    codes = [
        f"import ablation\nfrom ablation.{old} import {name} as it\nassert it is ablation.{name}"
        for old, name in OLD_NAMES.items()
    ]
    subprocess.run([sys.executable, "-c", EACH_ALONE.format(codes=codes)], check=True, env=environment())


def test_what_is_written_and_what_is_read_have_one_format():
    """Two constants of that name would drift apart, and a version would refuse its own tables."""
    binding = [
        path.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name) and node.id == "FORMAT" and isinstance(node.ctx, ast.Store)
    ]
    assert len(binding) == 1
