"""An id is the same on every machine and in every environment, and committed results can be reproduced."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import produced
import pytest
from helpers import GRID, ROOT, environment, finished
from produced import first_losses, run_of

from ablation.analysis.results import table
from ablation.analysis.statistics import pooled_sd
from ablation.cli import main
from ablation.execution.devices import chosen_precision
from ablation.execution.store import identified
from ablation.spec import Cell, Experiment, InvalidSpec, identity
from ablation.study.experiment_file import load, read

IMAGES = ROOT.parent / "shared" / "data" / "cifar10-lossless-subset"

# A processor that multiplies bfloat16 and one that does not, as torch sees them; then what follows on the command line.
BELIEVE = """
import sys, torch
torch.cpu.get_capabilities = lambda: {"avx512_bf16": %s, "amx_bf16": %s}
torch.cpu._is_avx512_bf16_supported = lambda: %s
torch.cpu._is_amx_tile_supported = lambda: %s
"""
ALL_IDS = """
import json
from ablation.study.experiment_file import load, read
from ablation.execution.store import identified
cells = [c for name, scale in json.loads(sys.argv[1]) for c in identified(load(read(name, scale)))]
print(json.dumps([[c.training_id, *c.evaluation_ids] for c in cells]))
"""


def believing(fast: bool, script: str, *arguments: str, **options) -> subprocess.CompletedProcess:
    """A process on a processor with or without bfloat16 multiplication."""
    code = BELIEVE % ((fast,) * 4) + script
    flags = options.pop("flags", [])
    return subprocess.run([sys.executable, *flags, "-c", code, *arguments], capture_output=True, text=True, **options)


def test_ids_are_the_same_in_every_environment(tmp_path):
    """Two processes that differ in all a machine can: processor, hash seed, language, time zone, threads, working
    directory, optimization, case of the day."""
    own = tmp_path / "own.py"
    own.write_text(OWN)
    experiments = [("grid", "tiny"), ("pairwise", "cifar10-small"), ("probes", "cifar10-small"), (str(own), "tiny")]
    asked = json.dumps(
        [(str(ROOT / "experiments" / f"{n}.py") if "/" not in n else n, scale) for n, scale in experiments]
    )
    places = [tmp_path / "a", tmp_path / "b" / "ü"]
    for place in places:
        place.mkdir(parents=True)
    one = {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "Pacific/Auckland", "OMP_NUM_THREADS": "1", "PYTHONUTF8": "0"}
    two = {"PYTHONHASHSEED": "2", "LC_ALL": "tr_TR.UTF-8", "TZ": "America/New_York", "OMP_NUM_THREADS": "2",
           "ATEN_CPU_CAPABILITY": "default", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "20"}  # fmt: skip
    found = [
        believing(fast, ALL_IDS, asked, flags=flags, cwd=place, env={**environment(), **variables})
        for fast, variables, place, flags in ((True, one, places[0], []), (False, two, places[1], ["-O"]))
    ]
    assert all(done.returncode == 0 for done in found), found[0].stderr + found[1].stderr
    assert found[0].stdout == found[1].stdout
    here = [c for name, scale in experiments for c in identified(load(read(name, scale)))]
    assert json.loads(found[0].stdout) == [[c.training_id, *c.evaluation_ids] for c in here]


OWN = textwrap.dedent('''
    """A class of one's own, whose code is part of the id."""
    from dataclasses import dataclass
    from ablation import SimCLR, pairwise
    from ablation.operators import Operator
    from ablation import Experiment

    LIMITS = {0.25, 0.5, 0.75}

    @dataclass(frozen=True, kw_only=True)
    class Cut(Operator):
        """Cuts."""
        label = "cut"
        limits: tuple = tuple(sorted(LIMITS))
        def sample(self, batch, size, generator): return {}
        def apply(self, images, params): return images.clamp(max=max(LIMITS))

    def experiment(scale):
        cells = pairwise((Cut(),), lambda view: scale.run(scale.method(SimCLR), views=(view, ())), seeds=[0])
        return Experiment(cells=cells, figures={})
''')  # fmt: skip


@pytest.mark.parametrize("fast", [True, False])
def test_auto_is_what_this_machine_multiplies_and_for_one_machine_alone(fast, monkeypatch):
    monkeypatch.setattr("ablation.execution.devices.multiplies_bfloat16", lambda: fast)
    assert chosen_precision("auto", "cpu", {"--ray": None}) == ("bfloat16" if fast else "float32")
    assert chosen_precision(None, "cpu", {"--ray": "auto"}) is None
    assert chosen_precision("bfloat16", "cpu", {"--ray": "auto"}) == "bfloat16"
    for option in ("--ray", "--shard", "torchrun"):
        with pytest.raises(InvalidSpec, match=rf"--precision auto .*{option}.*--precision float32"):
            chosen_precision("auto", "cpu", {option: "yes"})


@pytest.mark.parametrize("arguments", [("--shard", "0/2"), ("--ray", "local"), ("--part", "1/2")])
def test_auto_is_refused_beside_several_machines(arguments, tmp_path, capsys):
    code = main(["run", "grid", "--precision", "auto", *arguments, "--results", str(tmp_path / "r"), "--dry-run"])
    assert code == 2
    assert arguments[0] in capsys.readouterr().err


def test_a_processor_that_multiplies_bfloat16_is_told_once(tmp_path, monkeypatch, capsys):
    """Unless the user has chosen."""
    (tmp_path / "question.py").write_text(GRID)
    monkeypatch.setattr("ablation.commands.run.multiplies_bfloat16", lambda: True)
    common = ["run", str(tmp_path / "question.py"), "--workers", "1", "--only", "first=crop,second=crop,seed=0"]
    common += ["--figures", str(tmp_path / "f"), "--results"]
    assert main([*common, str(tmp_path / "r")]) == 0
    assert capsys.readouterr().err.count("--precision bfloat16") == 1
    assert main([*common, str(tmp_path / "s"), "--precision", "float32"]) == 0
    assert "bfloat16" not in capsys.readouterr().err


@pytest.mark.slow
def test_shards_on_unlike_processors_compute_every_cell_once(tmp_path):
    """Three shards on one folder, one with another processor; then Ray, whose workers do not share
    their owner's processor, finds nothing to do, and computes the same alone."""
    (tmp_path / "question.py").write_text(GRID)

    def run(fast: bool, folder: Path, *arguments: str) -> None:
        cli = "from ablation.cli import main\nsys.exit(main(sys.argv[1:]))\n"
        done = believing(fast, cli, "run", "question.py", *arguments, cwd=folder, env=environment())
        assert done.returncode == 0, done.stderr

    for index, fast in enumerate((True, False, True)):
        run(fast, tmp_path, "--shard", f"{index}/3", "--workers", "1")
    once = finished(tmp_path)
    assert len(once) == 8
    run(True, tmp_path, "--ray", "local")
    assert finished(tmp_path) == once
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "question.py").write_text(GRID)
    run(False, tmp_path / "other", "--ray", "local")
    assert set(finished(tmp_path / "other")) == set(once)


# --------------------------------------------------------------------------------------------------
# Produced again


@pytest.fixture(params=["tiny", "cifar10-small"])
def scale_and_data(request):
    """With the location of its images, unless they are generated."""
    if request.param == "tiny":
        return "tiny", None
    if not IMAGES.is_dir():
        pytest.skip("the images of cifar10-small are not beside this checkout")
    return request.param, str(IMAGES)


@pytest.mark.slow
def test_the_first_losses_of_a_committed_cell_are_computed_again(scale_and_data):
    scale, _ = scale_and_data
    run, kept = run_of(*scale_and_data), json.loads(produced.FILE.read_bytes())[scale]
    assert identity(run.training) == kept["training"], "the cell is another: python tests/produced.py"
    table = pd.read_csv(ROOT / "figures" / f"pairwise-{scale}.csv")
    assert kept["training"] in table["training"].tolist()
    assert first_losses(run) == pytest.approx(kept["losses"], abs=1e-3)


@pytest.mark.slow
def test_the_accuracy_of_a_committed_cell_is_computed_again(scale_and_data, tmp_path):
    """Within four pooled standard deviations, since processors round differently."""
    scale, data = scale_and_data
    csv = ROOT / "figures" / f"pairwise-{scale}.csv"
    committed = pd.read_csv(csv)
    (row,) = committed[np.logical_and.reduce([committed[a] == v for a, v in produced.CELL.items()])].to_dict("records")
    only = ",".join(f"{axis}={value}" for axis, value in produced.CELL.items())
    arguments = ["run", "pairwise", "--scale", scale, "--only", only, "--precision", row["precision"], "--workers", "1"]
    arguments += ["--results", str(tmp_path / "results"), "--figures", str(tmp_path / "figures")]
    assert main([*arguments, *(["--data", data] if data else [])]) == 0
    run = run_of(scale, data, row["precision"])
    found = table(Experiment(cells=(Cell(coords=produced.CELL, run=run),), figures={}), tmp_path / "results").iloc[0]
    assert found["state"] == "finished"
    for value in ("linear_test_top1_recalibrated", "knn_test_top1_recalibrated"):
        spread = pooled_sd(committed.dropna(subset=["first"]), ["first", "second"], value)
        assert found[value] == pytest.approx(row[value], abs=4 * spread), value
