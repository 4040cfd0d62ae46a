"""Figures: drawn from any table of the kind, and honest about what it lacks."""

import itertools

import numpy as np
import pandas as pd
import pytest

from ablation.plots import Heatmap, Lines, save
from ablation.specs import InvalidSpec
from ablation.statistics import pooled_sd, summary

VALUE = "linear_test_top1_recalibrated"


def table(rows, columns, seeds=3, **more) -> pd.DataFrame:
    """Value = 10 * row number + column number + seed."""
    return pd.DataFrame(
        {"row": row, "column": column, "seed": seed, VALUE: 10.0 * i + j + seed, **FACTS, **more}
        for (i, row), (j, column), seed in itertools.product(enumerate(rows), enumerate(columns), range(seeds))
    )


FACTS = {
    "dataset": "d", "method": "m", "encoder": "e", "shared": "none", "epochs": 3, "train_images": 5000,
    "validation_images": 500, "test_images": 3000,
}  # fmt: skip


def test_summary_and_pooled_spread():
    found = summary(table("ab", "xy"), ["row", "column"], VALUE)
    assert found["mean"].tolist() == [1, 2, 11, 12]
    assert found["sd"].tolist() == [1, 1, 1, 1]
    assert found["n"].tolist() == [3, 3, 3, 3]
    uneven = pd.DataFrame({"cell": list("aabbb"), "v": [0.0, 2.0, 0.0, 3.0, 6.0]})
    assert pooled_sd(uneven, ["cell"], "v") == pytest.approx(((2 * 1 + 9 * 2) / 3) ** 0.5)
    assert np.isnan(pooled_sd(uneven.iloc[[0]], ["cell"], "v"))


def test_heatmap_numbers_and_averages():
    figure = Heatmap(rows="row", columns="column", values=(VALUE,))
    text = figure.text(table("ab", "xyz"))
    assert "1.0 \u00b11.0" in text
    assert "2.0 \u00b11.0" in text.splitlines()[3]  # the average of the row a: 1, 2, 3
    drawn = figure.draw(table("ab", "xyz"))
    shown = [t.get_text() for t in drawn.axes[0].texts]
    values = [1, 2, 3, 2, 11, 12, 13, 12]  # two rows of three cells and their average
    assert shown == [f"{value}.0\n\u00b11.0" for value in values]
    assert "n = 3" in drawn.get_supxlabel()


def test_missing_cells_are_missing():
    partly = table("ab", "xy")
    partly.loc[(partly["row"] == "b") & (partly["column"] == "y"), VALUE] = np.nan
    figure = Heatmap(rows="row", columns="column", values=(VALUE,))
    drawn = figure.draw(partly)
    assert len(drawn.axes[0].texts) == 4  # three cells and the average of the whole row
    assert "3 of 12 runs are missing" in " ".join(drawn.get_supxlabel().split())
    assert "-" in figure.text(partly)


def test_one_seed_has_no_spread():
    figure = Heatmap(rows="row", columns="column", values=(VALUE,))
    assert "\u00b1" not in figure.text(table("ab", "xy", seeds=1))
    assert "one seed, so no spread is known" in figure.text(table("ab", "xy", seeds=1))


def test_baselines_are_in_the_caption():
    rows = table("ab", "xy")
    baseline = pd.DataFrame({"baseline": "initialization", "seed": range(3), VALUE: [1.0, 2.0, 3.0], **FACTS})
    text = Heatmap(rows="row", columns="column", values=(VALUE,)).text(pd.concat([rows, baseline]))
    assert "Initialization: linear 2.0 \u00b1 1.0." in text


def test_the_reference_is_beside_ours():
    figure = Heatmap(rows="first", columns="second", values=(VALUE,), reference="simclr_figure5_pairs")
    ours = table(("crop", "color"), ("crop", "color")).rename(columns={"row": "first", "column": "second"})
    drawn = figure.draw(ours)
    assert [t.get_text() for t in drawn.axes[1].texts][:2] == ["33.1", "56.3"]
    assert "compare ranks, not levels" in " ".join(drawn.get_supxlabel().split())


@pytest.mark.parametrize("places", [(0.0, 0.5, 1.0), ("weak", "strong")])
def test_lines(places, tmp_path):
    rows = table("ab", places)
    figure = Lines(x="column", lines="row", values=(VALUE,), chance=10.0)
    drawn = figure.draw(rows)
    assert [t.get_text() for t in drawn.axes[0].get_xticklabels()] == [str(p) for p in places]
    paths = save(drawn, tmp_path / "lines")
    assert [path.suffix for path in paths] == [".png", ".pdf"]
    assert all(path.stat().st_size > 1000 for path in paths)
    assert "11.0 \u00b11.0" in figure.text(rows)


def test_a_column_that_is_not_there():
    with pytest.raises(InvalidSpec, match="Heatmap must find 'nothing' in its table"):
        Heatmap(rows="row", columns="column", values=("nothing",)).draw(table("ab", "xy"))
