"""Whether a run that collapsed is noticed."""

import math

import pandas as pd
import pytest
import torch
from helpers import GRID, SMALL, ablation_here, numbers, small_training
from torch import nn

from ablation.data import loaded
from ablation.evaluate.collapse import spread, spread_of
from ablation.evaluate.curve import curve_points
from ablation.training.loop import build_learner, pretrain


def test_an_even_spread_has_deviation_1_and_full_rank():
    """4,000 points of a sphere in 16 dimensions; the deviation's own spread over samples is 0.3 %."""
    found = spread(7 * numbers(4000, 16))
    assert found["z_deviation"] == pytest.approx(1, abs=0.02)
    assert found["z_rank"] == pytest.approx(16, abs=0.2)


def test_one_point_has_neither():
    assert spread(numbers(1, 8).expand(50, 8)) == {"z_deviation": pytest.approx(0, abs=1e-6), "z_rank": 0.0}


def test_the_effective_rank_is_the_formula():
    z = torch.eye(3, dtype=torch.float64)[torch.tensor([0, 0, 0, 1, 1, 2])]
    values = torch.linalg.svdvals(z - z.mean(0))
    p = [v / sum(values.tolist()) for v in values.tolist() if v > 1e-9]
    assert len(p) == 2
    assert spread(5 * z)["z_rank"] == pytest.approx(math.exp(-sum(x * math.log(x) for x in p)), rel=1e-6)


def test_a_training_measures_the_spread_on_its_curve():
    training = small_training()
    data = loaded(SMALL, "cpu")
    history = pretrain(training, data, curve=lambda learner: curve_points(learner, data, "float32")).history
    assert history[-1]["z_deviation"] > 0.1
    assert 1 < history[-1]["z_rank"] <= 64
    learner = build_learner(training, data)
    nn.init.zeros_(learner.head[-1].weight)
    nn.init.ones_(learner.head[-1].bias)
    assert spread_of(learner, data, "float32")["z_deviation"] == pytest.approx(0, abs=1e-6)


def test_a_collapsed_run_is_noted_in_the_table(tmp_path, monkeypatch):
    (tmp_path / "question.py").write_text(GRID.replace("epochs=1", "epochs=1, curve_every=1"))
    monkeypatch.setattr("ablation.spec.metric.COLLAPSED", 99.0)
    monkeypatch.setattr("ablation.analysis.results.COLLAPSED", 99.0)
    ablation_here("run", "question.py", "--workers", "1", cwd=tmp_path)
    table = pd.read_csv(tmp_path / "figures" / "question-tiny.csv")
    assert table["notes"].str.contains("z has collapsed: its deviation is ").all()
    assert table["z_deviation"].between(0, 2).all()
