"""Our losses beside lightly's: the committed table covers every method, and is of our present losses."""

import sys
from functools import partial

import pandas as pd
import pytest
from trainings import TRAININGS

from benchmarks import peer_losses
from benchmarks.peer_losses import COMPARISONS, FILE, NEAR, ours, traced

TABLE = pd.read_csv(FILE).fillna({"case": "", "why": ""})


def test_the_table_has_every_method_with_an_objective_of_its_own():
    assert set(TABLE["method"]) == set(TRAININGS) - {"supervised"}


@pytest.mark.parametrize("row", list(TABLE.itertuples()), ids=lambda row: f"{row.method} {row.case}".strip())
def test_every_row_agrees_or_names_a_deviation_that_explains_all_of_it(row):
    found = [row.difference, row.gradient]
    if row.why:
        assert max(pd.Series(found).dropna()) > NEAR
        found = [row.difference_then, row.gradient_then]
    assert max(pd.Series(found).dropna()) < NEAR


@pytest.mark.parametrize("asked", COMPARISONS, ids=lambda each: f"{each.method.label} {each.case}".strip())
def test_the_table_is_of_our_losses(asked):
    [row] = TABLE[(TABLE["method"] == asked.method.label) & (TABLE["case"] == asked.case)].itertuples()
    losses, gradient = traced(asked.method, asked.sizes, partial(ours, asked.method))
    assert losses[-1].item() == pytest.approx(row.ours, rel=1e-4)
    assert gradient.isfinite().all()
    assert gradient.norm() > 0
    assert row.why == asked.why


def test_without_lightly_the_command_names_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightly", None)
    with pytest.raises(SystemExit, match=r"lightly.*pip install --no-deps 'lightly=="):
        peer_losses.load()
