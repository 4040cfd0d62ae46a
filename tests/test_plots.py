"""Figures: drawn from any suitable table, and explicit about missing parts."""

import itertools
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import seaborn as sns
import torch
from helpers import SMALL, small_run, small_training
from matplotlib.colors import to_rgba
from matplotlib.text import Text
from PIL import Image
from trainings import TRAININGS

from ablation.analysis.statistics import pooled_sd, seeds_needed, summary
from ablation.analysis.tables import digest, read_table
from ablation.cli import main
from ablation.commands.run import noted
from ablation.data.dataset import Split
from ablation.evaluate import KNN, Linear, Probe
from ablation.methods import SimCLR, VICReg
from ablation.methods.patches import patchify
from ablation.operators import Blur, Crop, Flip
from ablation.plots import (
    Bars,
    Curves,
    Differences,
    Effects,
    Heatmap,
    History,
    Interaction,
    Lines,
    Profile,
    Rungs,
    Slice,
    draw_all,
    rehearse,
    save,
)
from ablation.plots.bars import BEST
from ablation.plots.columns import scale_of
from ablation.plots.file_names import Artifact, table_beside
from ablation.plots.heatmap import rank_difference
from ablation.plots.samples import Shown, Strip, hatched, in_line, samples, save_strips, strips
from ablation.spec import Experiment, InvalidSpec, sweep

VALUE = "linear_test_top1_recalibrated"


@pytest.fixture(autouse=True)
def _closed():
    """Closes figures that a test leaves open."""
    yield
    plt.close("all")


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
    assert "n = 3 seeds" in drawn.get_supxlabel()


def test_numbers_rise_along_a_heatmap():
    """Also if the first row lacks the smallest; labels stay in the order of the table."""
    rates = table("ba", (0.3, 1.0, 0.1))
    rates = rates[(rates["row"] != "b") | (rates["column"] != 0.1)]
    drawn = Heatmap(rows="row", columns="column", values=(VALUE,), average=False).draw(rates)
    assert [tick.get_text() for tick in drawn.axes[0].get_xticklabels()] == ["0.1", "0.3", "1"]
    assert [tick.get_text() for tick in drawn.axes[0].get_yticklabels()] == ["b", "a"]


def test_missing_cells_are_missing():
    partly = table("ab", "xy")
    partly.loc[(partly["row"] == "b") & (partly["column"] == "y"), VALUE] = np.nan
    figure = Heatmap(rows="row", columns="column", values=(VALUE,))
    drawn = figure.draw(partly)
    shown = [t.get_text() for t in drawn.axes[0].texts]
    assert shown.count("–") == 2  # the cell, and the average of its row
    assert len(shown) == 6
    for words in (said(drawn), figure.full_caption(partly)):
        assert "3 of 12 runs are missing. 1 of 4 cells of the grid is missing." in words
    assert "-" in figure.text(partly)


def said(figure) -> str:
    """The text below a picture, in one line."""
    return " ".join(figure.get_supxlabel().split())


def test_rows_that_are_absent_altogether_are_missing():
    whole = table("abc", "xy")
    absent = whole[(whole["row"] != "b") | (whole["column"] != "y")]
    figure = Heatmap(rows="row", columns="column", values=(VALUE,))
    assert "missing" not in figure.text(whole)
    for words in (figure.text(absent), figure.full_caption(absent), said(figure.draw(absent))):
        assert "1 of 6 cells of the grid is missing." in words
        assert "runs are missing" not in words
    lines = Lines(x="column", lines="row", values=(VALUE,))
    assert "not in the table" not in lines.text(whole)
    for words in (lines.text(absent), lines.full_caption(absent), said(lines.draw(absent))):
        assert "1 of 6 combinations of column and row is not in the table." in words


def test_bars_say_what_is_missing_before_a_rate_is_chosen():
    rows = table("ab", (1, 3)).rename(columns={"row": "loss", "column": "rate"})
    rows["linear_validation_top1_recalibrated"] = rows[VALUE]
    rows.loc[(rows["loss"] == "b") & (rows["rate"] == 3), [VALUE, "linear_validation_top1_recalibrated"]] = np.nan
    rows.loc[rows["loss"] == "a", VALUE] = np.nan  # no bar, but the label stays
    figure = Bars(bars="loss", best_of="rate", values=(VALUE,))
    drawn = figure.draw(rows)
    assert "9 of 12 runs are missing." in said(drawn)
    assert [t.get_text() for t in drawn.axes[0].get_yticklabels()] == ["a", "b"]
    assert "a     " in figure.text(rows)
    partly = rows[(rows["loss"] != "b") | (rows["rate"] != 3)]
    assert "1 of 4 combinations of loss and rate is not in the table." in figure.text(partly)


@pytest.mark.parametrize(
    "figure",
    [
        Heatmap(rows="row", columns="column", values=(VALUE,)),
        Lines(x="column", lines="row", values=(VALUE,)),
        Bars(bars="row", values=(VALUE,), where={"column": 0}),
        Profile(rows="row", columns={"a probe": VALUE}, unit="%", where={"column": 0}),
        Effects(factors=("row", "column"), values=(VALUE,)),
        Interaction(rows="row", columns="column", values=(VALUE,)),
    ],
    ids=lambda figure: type(figure).__name__,
)
def test_a_figure_of_nothing_is_refused(figure):
    """Also if a baseline, which is in no cell, has a value."""
    rows = table((0, 1), (0, 1), 2)
    baseline = pd.DataFrame({"baseline": "initialization", "seed": range(2), VALUE: 1.0, **FACTS})
    with pytest.raises(InvalidSpec, match=r"all [48] runs (are missing|lack)|no finished row has it"):
        figure.draw(pd.concat([rows.assign(**{VALUE: np.nan}), baseline]))
    assert figure.draw(rows).axes


@pytest.mark.parametrize(
    "figure",
    [
        Heatmap(rows="row", columns="column", values=(VALUE,)),
        Lines(x="column", lines="row", values=(VALUE,)),
        Bars(bars="row", values=(VALUE,)),
        Effects(factors=("row", "column"), values=(VALUE,)),
    ],
    ids=lambda figure: type(figure).__name__,
)
def test_one_seed_has_no_spread(figure):
    """Draws and mentions no interval, frame or hatch; with two seeds it does."""
    rows = table((0, 1), (0, 1), 2)
    if isinstance(figure, Bars):
        rows = rows[rows["column"] == 0]
    marks = {}
    for seeds in (1, 2):
        one = rows[rows["seed"] < seeds]
        drawn = figure.draw(one)
        axis = drawn.axes[0]
        bars = sum(len(c.get_segments()) for c in axis.collections if hasattr(c, "get_segments"))
        caps = [line for line in axis.lines if line.get_marker() in ("|", "_")]
        frames = [p for p in axis.patches if p.get_gid() == "framed" or p.get_facecolor() == to_rgba(BEST)]
        marks[seeds] = bool(bars or caps or frames)
        for words in (figure.text(one), figure.full_caption(one), said(drawn)):
            spoken = [w for w in ("95 %", "nterval", "ramed", "dark", "low", "deviation", "\u00b11") if w in words]
            assert bool(spoken) == (seeds == 2), spoken
            assert ("one seed" in words) == (seeds == 1)
    assert marks == {1: False, 2: True}


def test_baselines_are_in_the_caption():
    rows = table("ab", "xy")
    baseline = pd.DataFrame({"baseline": "initialization", "seed": range(3), VALUE: [1.0, 2.0, 3.0], **FACTS})
    text = Heatmap(rows="row", columns="column", values=(VALUE,)).text(pd.concat([rows, baseline]))
    assert "Initialization: linear accuracy 2.0 \u00b1 1.0." in text


def test_the_reference_is_beside_ours():
    figure = Heatmap(rows="first", columns="second", values=(VALUE,), reference="simclr_figure5_pairs")
    ours = table(("crop", "color"), ("crop", "color")).rename(columns={"row": "first", "column": "second"})
    drawn = figure.draw(ours)
    assert [t.get_text() for t in drawn.axes[2].texts][:2] == ["33.1", "56.3"]  # after the color bar of ours
    assert "compare ranks, not levels" in figure.full_caption(ours)


@pytest.mark.parametrize("places", [(0.0, 0.5, 1.0), ("weak", "strong")])
def test_lines(places, tmp_path):
    rows = table("ab", places)
    figure = Lines(x="column", lines="row", values=(VALUE,), chance=10.0)
    drawn = figure.draw(rows)
    assert [t.get_text() for t in drawn.axes[0].get_xticklabels()] == [f"{p:g}" if p != str(p) else p for p in places]
    paths = save(drawn, tmp_path / "lines")
    assert [path.suffix for path in paths] == [".png", ".pdf"]
    assert all(path.stat().st_size > 1000 for path in paths)
    assert "11.0 \u00b11.0" in figure.text(rows)


def test_a_column_that_is_not_there():
    with pytest.raises(InvalidSpec, match="Heatmap must find 'nothing' in its table"):
        Heatmap(rows="row", columns="column", values=("nothing",)).draw(table("ab", "xy"))


@pytest.mark.parametrize("kind", [Heatmap(rows="row", columns="column"), Bars(bars="row", where={"column": "x"})])
@pytest.mark.parametrize(
    ("column", "marked"),
    [(VALUE, True), ("loss", False), ("linear_seconds", False), ("training_seconds", False), ("mine", False)],
)
def test_only_of_accuracies_the_highest_is_marked_as_the_best(kind, column, marked):
    """Of a loss or a time the lowest is; of a user's number nobody knows, unless the figure says so."""
    rows = table("ab", "xy").rename(columns={VALUE: column})
    figure = kind.replace(values=(column,))
    assert ("significantly different from the best" in figure.full_caption(rows)) == marked
    stated = figure.replace(highest_is_best=not marked)
    assert ("significantly different from the best" in stated.full_caption(rows)) == (not marked)


def test_what_is_not_told_from_the_best_is_framed():
    """Cells of 1, 2 / 11, 12 with spread 1 at n = 3: 8 degrees of freedom, so 11 is within reach of 12, 2 is not."""
    figure = Heatmap(rows="row", columns="column", values=(VALUE,))
    drawn = figure.draw(table("ab", "xy"))
    assert framed(drawn) == [(0, 1), (1, 1)]
    assert "Framed: not significantly different from the best" in said(drawn)
    assert re.search("Framed: .* at 95 % .*Hsu", figure.full_caption(table("ab", "xy")))
    assert not framed(figure.draw(table("ab", "xy", seeds=1)))


def framed(figure) -> list[tuple[int, int]]:
    """Column and row of the framed cells of the first panel."""
    frames = [patch for patch in figure.axes[0].patches if patch.get_gid() == "framed"]
    return sorted((int(patch.get_x()), int(patch.get_y())) for patch in frames)


def test_rank_difference():
    ours = pd.DataFrame([[1.0, 4.0], [3.0, np.nan]], index=list("ab"), columns=list("ab"))
    theirs = pd.DataFrame([[9.0, 7.0], [8.0, 1.0]], index=list("ab"), columns=list("ab"))
    found = rank_difference(ours, theirs)  # ours 1, 3, 2; theirs 3, 1, 2
    assert found.loc["a"].tolist() == [-2, 2]
    assert found.loc["b", "a"] == 0
    assert np.isnan(found.loc["b", "b"])


def test_a_reference_with_other_labels_names_both_lists():
    figure = Heatmap(rows="first", columns="second", values=(VALUE,), reference="simclr_figure5_pairs")
    ours = table("ab", "ab").rename(columns={"row": "first", "column": "second"})
    with pytest.raises(InvalidSpec, match=r"the table has a, b; simclr_figure5_pairs has blur, color"):
        figure.draw(ours)


def test_where_chooses_rows():
    both = pd.concat([table("ab", "xy").assign(method=m) for m in ("one", "two")])
    both.loc[both["method"] == "two", VALUE] += 100
    text = Heatmap(rows="row", columns="column", values=(VALUE,), where={"method": "two"}).text(both)
    assert "101.0" in text
    assert " 1.0 " not in text
    with pytest.raises(InvalidSpec, match="no method is 'three'; there are one, two"):
        Heatmap(rows="row", columns="column", values=(VALUE,), where={"method": "three"}).draw(both)


def test_lines_with_a_reference():
    """Dashed, for the common lines, in the panel of its protocol."""
    ours = table(["SimCLR", "other"], ["1/8", "1/2"]).rename(columns={"row": "method_", "column": "strength"})
    ours = ours.assign(method=ours["method_"], knn_test_top1_recalibrated=ours[VALUE])
    figure = Lines(x="strength", lines="method", reference="simclr_table1_color_strength")
    drawn = figure.draw(ours)
    dashed = [line for line in drawn.axes[0].lines if line.get_linestyle() == "--"]
    assert [list(line.get_ydata()) for line in dashed] == [[59.6, 62.6]]
    assert not [line for line in drawn.axes[1].lines if line.get_linestyle() == "--"]
    assert "Table 1" in figure.full_caption(ours)


def test_intervals_of_lines_are_of_the_pooled_spread():
    """Spread 1, n = 3, 8 degrees of freedom: 2.306 / sqrt(3) = 1.331 each way."""
    drawn = Lines(x="column", lines="row", values=(VALUE,)).draw(table("ab", "xy"))
    (bar,) = [c for c in drawn.axes[0].collections if len(c.get_segments()) == 2][:1]
    low, high = bar.get_segments()[0][:, 1]
    assert high - low == pytest.approx(2 * 1.331, abs=0.002)


def test_bars_take_the_rate_that_validation_images_choose():
    """b's best rate on validation images is 3, where its test accuracy is lower."""
    rows = table("ab", (1, 3)).rename(columns={"row": "loss", "column": "rate"})
    rows["linear_validation_top1_recalibrated"] = rows[VALUE]
    rows.loc[(rows["loss"] == "b") & (rows["rate"] == 3), VALUE] -= 9
    figure = Bars(bars="loss", best_of="rate", values=(VALUE,))
    text = figure.text(rows)
    assert "Rate with the best mean on validation images: a 3, b 3" in text
    assert "3.0 ± 1.0" in text
    drawn = figure.draw(rows)
    assert sorted(patch.get_width() for patch in drawn.axes[0].patches) == pytest.approx([2, 3])


def test_bars_with_two_versions_of_a_reference():
    names = ["baseline", "crop only"]
    rows = table(names, ["x"]).rename(columns={"row": "cell"})
    drawn = Bars(bars="cell", values=(VALUE,), reference="byol_table17_augmentation_removal").draw(rows)
    shown = {line.get_label(): list(line.get_xdata()) for line in drawn.axes[0].lines if "BYOL" in line.get_label()}
    assert shown == {"BYOL, Table 17: SimCLR": [67.9, 40.3], "BYOL, Table 17: BYOL": [72.5, 59.4]}


def test_effects():
    rows = table((0, 1), (0, 1)).rename(columns={"row": "crop", "column": "color"})
    figure = Effects(factors=("crop", "color"), values=(VALUE,))
    text = figure.text(rows)
    assert " ".join(text.splitlines()[2].split()[:3]) == "main crop 10.0"
    assert "All 4 subsets of crop, color" in text
    assert len(figure.draw(rows).axes[0].get_yticklabels()) == 5


def test_interaction_with_and_without_collapsed_runs():
    """Rows differ by 10 points, columns by 1; one cell of row c has collapsed."""
    rows = table("abc", "xy").assign(z_deviation=1.0)
    fallen = (rows["row"] == "c") & (rows["column"] == "y")
    rows.loc[fallen, [VALUE, "z_deviation"]] = 10.0, 0.01
    whole = Interaction(rows="row", columns="column", values=(VALUE,))
    text = whole.text(rows)
    assert "z has collapsed in 3 of 18 runs, which count: c + y (3)." in text
    assert re.search(r"Interactions other than 0, .*c with x \+", text)
    without = whole.replace(with_collapsed=False)
    assert "labels of row and 2 of column" in without.text(rows)
    assert "Effects of these 2 labels" in without.text(rows)
    assert "has collapsed, and without c, which lack two others in a cell." in without.text(rows)
    assert not {"c"} & texts(without.draw(rows))
    whole_row = rows.assign(z_deviation=rows["z_deviation"].mask(rows["row"] == "c", 0.01))
    assert "has collapsed, and without c, which lack" in without.text(whole_row)
    with pytest.raises(InvalidSpec, match=r"only 0 of the row .*with_collapsed=True"):
        without.draw(rows.assign(z_deviation=0.0))


def test_cells_with_collapsed_runs_are_marked():
    rows = table("ab", "xy").assign(z_deviation=1.0)
    rows.loc[(rows["row"] == "b") & (rows["column"] == "x") & (rows["seed"] == 0), "z_deviation"] = 0.02
    heatmap = Heatmap(rows="row", columns="column", values=(VALUE,))
    drawn = heatmap.draw(rows)
    assert sum("†" in text.get_text() for text in drawn.axes[0].texts) == 1
    assert "z has collapsed in 1 of 12 runs, which count: b + x (1). †: a cell with such a run." in said(drawn)
    assert heatmap.text(rows).count("†") == 2
    crosses = [line for line in Lines(x="column", lines="row", values=(VALUE,)).draw(rows).axes[0].lines
               if line.get_marker() == "x" and len(line.get_xdata())]  # fmt: skip
    assert len(crosses) == 1
    assert "collapsed" not in heatmap.text(rows.drop(columns="z_deviation"))


def test_profile_shows_what_is_missing():
    rows = table("ab", ["x"]).rename(columns={"row": "cell"}).assign(probe=60.0)
    figure = Profile(rows="cell", columns={"color, h": "probe", "color, z": "nothing"}, unit="%")
    text = figure.text(rows)
    assert "60.0 ±0.0" in text
    assert "missing" in text
    reference = Profile(rows="cell", columns={"color, h": "probe"}, unit="%", reference="simclr_table3_probes")
    assert "99.3" in reference.text(rows)
    assert len(reference.draw(rows).axes[0].texts) == 3


@pytest.mark.parametrize("figure", [Heatmap(rows="row", columns="column", values=(VALUE,))])
def test_the_same_table_gives_the_same_files(figure, tmp_path):
    one, two = (save(figure.draw(table("ab", "xy")), tmp_path / name, "digest") for name in ("one", "two"))
    for a, b in zip(one, two, strict=True):
        assert a.read_bytes() == b.read_bytes()
        assert b"digest" in a.read_bytes()


def test_learning_curves():
    rows = pd.DataFrame(
        {"rate": r, "method": "m", "seed": s, "epoch": e, "loss": r / e + s, "validation_knn": 10.0 * e}
        for r, s, e in itertools.product((1.0, 3.0), (0, 1), (1, 2, 3))
    )
    figure = Curves(lines="rate", where={"method": "m"})
    drawn = figure.draw(rows)
    bold = [line for line in drawn.axes[0].lines if line.get_linewidth() > 1]
    assert [list(line.get_ydata()) for line in bold] == [[1.5, 1.0, pytest.approx(1 / 3 + 0.5)], [3.5, 2.0, 1.5]]
    assert "n = 2 seeds" in said(drawn)
    assert "at epoch 3" in figure.text(rows)
    encoded = figure.replace(x="encoded_images").draw(rows.assign(encoded_images=rows["epoch"] * 1000 * rows["rate"]))
    bold = [line for line in encoded.axes[0].lines if line.get_linewidth() > 1]
    assert [list(line.get_xdata()) for line in bold] == [[1000, 2000, 3000], [3000, 6000, 9000]]
    assert encoded.axes[0].get_xlabel() == "encoded views of images"


def test_a_reference_of_which_nothing_is_drawn_is_said():
    rows = table((10, 20), (128, 256)).drop(columns="epochs").rename(columns={"row": "epochs", "column": "batch"})
    figure = Lines(x="batch", lines="epochs", values=(VALUE,), reference="simclr_tableB1_batch_epochs")
    where = figure.replace(where={"rule": "linear"})
    rows["rule"] = "linear"
    assert "None of its values of batch and epochs are among ours" in where.text(rows)
    assert not [line for line in where.draw(rows).axes[0].lines if line.get_linestyle() == "--"]
    shared = where.text(rows.assign(epochs=rows["epochs"] * 10))
    assert "Table B.1" in shared
    assert "None of its values" not in shared
    with pytest.raises(InvalidSpec, match=r"epochs: 10, 20; simclr_tableB1\S+ has batch: 256, .*; epochs: 100, 200"):
        where.draw(rows.assign(batch=rows["batch"] / 8))


PROBES = {"a probe": VALUE}
LOSSES = "simclr_table4_losses"
HUANG = "huang_color_strength"


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        (Lines(x="column", lines="row", reference=LOSSES), "the columns column, row, but .* has objective, value"),
        (Bars(bars="row", reference=LOSSES), "the columns row, but .* has objective, value"),
        (Bars(bars="objective", reference=LOSSES), "has objective: a, b; .* has objective: margin, NT-L"),
        (Profile(rows="row", columns=PROBES, unit="%", reference=LOSSES), "'column'.* has objective, value"),
        (Profile(rows="row", columns=PROBES, unit="%", reference="simclr_table3_probes"), "a probe; .* has color, h; "),
        (
            Lines(x="strength", lines="version", where={"method": "m"}, reference=HUANG),
            "rows with the method 'm' .* has SimCLR, Barlow Twins",
        ),
    ],
)
def test_a_reference_that_does_not_belong_is_refused(figure, words):
    rows = table("ab", "x").assign(objective=lambda t: t["row"], strength="1/8", version=lambda t: t["row"])
    rows["knn_test_top1_recalibrated"] = rows[VALUE]
    for make in (figure.draw, figure.text):
        with pytest.raises(InvalidSpec, match=words):
            make(rows)


def test_a_reference_of_another_evaluation_is_refused():
    rows = table(["margin", "NT-Logistic"], "x").rename(columns={"row": "objective", VALUE: "knn_test_top1_running"})
    figure = Bars(bars="objective", values=("knn_test_top1_running",), reference="simclr_table4_losses")
    with pytest.raises(InvalidSpec, match="fit a panel, but simclr_table4_losses is a linear evaluation"):
        figure.draw(rows)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Effects(factors=("a", "b"), reference="simclr_table4_losses"),
        lambda: Curves(lines="a", reference="simclr_table4_losses"),
        lambda: Lines(x="a", lines="b", best_of="rate"),
        lambda: Profile(rows="a", columns=PROBES, unit="%", best_of="rate"),
    ],
)
def test_what_a_figure_cannot_draw_it_does_not_take(make):
    with pytest.raises(InvalidSpec, match=r"must be None, since this figure draws none, but got '.+'. Remove it"):
        make()


def test_whole_numbers_stay_whole_beside_a_row_without_them():
    """Pandas turns 32 into 32.0 if a baseline has none."""
    ours = table(("linear", "nonlinear"), (32, 64)).rename(columns={"row": "head", "column": "z"})
    baseline = pd.DataFrame({"baseline": "initialization", "seed": range(3), VALUE: [1.0, 2.0, 3.0], **FACTS})
    rows = pd.concat([ours, baseline], ignore_index=True)
    assert rows["z"].dtype == float
    figure = Lines(x="z", lines="head", values=(VALUE,), reference="simclr_figure8_heads_digitised")
    drawn = figure.draw(rows)
    assert [t.get_text() for t in drawn.axes[0].get_xticklabels()] == ["32", "64"]
    dashed = [line for line in drawn.axes[0].lines if line.get_linestyle() == "--"]
    assert [list(line.get_ydata()) for line in dashed] == [[59.8, 61.2], [63.4, 64.1]]
    assert figure.text(rows).splitlines()[1].split() == ["z", "32", "64"]
    one = Bars(bars="head", values=(VALUE,), where={"z": 32})
    assert one.text(rows) == one.text(ours)
    for each in (
        Heatmap(rows="head", columns="z", values=(VALUE,)),
        Bars(bars="z", values=(VALUE,), where={"head": "linear"}),
    ):
        text = each.text(rows)
        assert "32" in text
        assert "32.0" not in text


def test_names_of_coordinates_need_not_be_python():
    rows = table((0, 1), (0, 1)).rename(columns={"row": "my row", "column": "class"})
    for figure in (
        Heatmap(rows="my row", columns="class", values=(VALUE,)),
        Lines(x="my row", lines="class", values=(VALUE,)),
        Bars(bars="my row", values=(VALUE,), where={"class": 0}),
        Effects(factors=("my row", "class"), values=(VALUE,)),
    ):
        assert "11.0" in figure.text(rows) or "10.0" in figure.text(rows)
        drawn = figure.draw(rows)
    assert "interaction: my row x class" in [t.get_text() for t in drawn.axes[0].get_yticklabels()]
    with pytest.raises(InvalidSpec, match=r"all 4 subsets of my row, class, but 1 lack .* \{'my row': 1, 'class': 1\}"):
        figure.draw(rows[(rows["my row"] == 0) | (rows["class"] == 0)])
    with pytest.raises(InvalidSpec, match=r"must be coordinates that are 0 or 1, but there is my row 2"):
        figure.draw(rows.replace({"my row": {1: 2}}))


@pytest.mark.parametrize("name", ["seed", "mean", "sd", "n", "error", "reach", "among_best"])
def test_names_that_the_statistics_use_are_refused(name):
    rows = table("ab", "xy").assign(**{name: lambda t: t["row"]})
    with pytest.raises(InvalidSpec, match=rf"'{name}' is one of seed, mean, .* Rename the column"):
        Bars(bars=name, values=(VALUE,)).draw(rows)


def test_one_column_does_not_stand_for_two():
    for figure in (
        Heatmap(rows="row", columns="row"),
        Heatmap(rows="row", columns=VALUE),
        Bars(bars="row", values=("seed",)),
    ):
        with pytest.raises(InvalidSpec, match=r"different column for each .* (row|seed|linear_test_top1_\w+) twice"):
            figure.draw(table("ab", "xy"))


def test_facts_in_a_caption_are_used_only_where_they_are_numbers():
    figure = Heatmap(rows="row", columns="column", values=(VALUE,))
    whole = "d (5,000 train + 500 validation + 3,000 test images), m, e, 3 epochs, last epoch; n = 3"
    assert whole in figure.text(table("ab", "xy"))
    for changed, words in (
        ({"epochs": "a few"}, "test images), m, e; n = 3"),
        ({"train_images": np.nan}, "d (500 validation + 3,000 test images), m, e, 3 epochs"),
        ({"test_images": "many", "train_images": np.inf}, "d (500 validation images), m, e"),
        (
            {"dataset": None, "shared": None},
            "5,000 train + 500 validation + 3,000 test images, m, e, 3 epochs, last epoch; n = 3",
        ),
    ):
        rows = table("ab", "xy").assign(**changed)
        assert words in figure.text(rows)
        assert words in figure.full_caption(rows)


def test_labels_are_drawn_as_they_are(tmp_path):
    r"""A $ does not start mathematics: $\frac$ would be an error there."""
    label = r"$\frac$"
    rows = table((label, "b"), (label, "y"))
    for figure, where in (
        (Heatmap(rows="row", columns="column", values=(VALUE,), note=label), "yticklabels"),
        (Lines(x="column", lines="row", values=(VALUE,)), "xticklabels"),
        (Bars(bars="row", values=(VALUE,), where={"column": "y"}), "yticklabels"),
        (Profile(rows="row", columns={label: VALUE}, unit=label, where={"column": "y"}), "xticklabels"),
    ):
        drawn = figure.draw(rows)
        assert label in [t.get_text() for t in getattr(drawn.axes[0], f"get_{where}")()]
        save(drawn, tmp_path / "figure")


def test_a_column_named_average_is_refused():
    figure = Heatmap(rows="row", columns="column", values=(VALUE,))
    with pytest.raises(InvalidSpec, match=r"no column named 'average', which is the figure's own column .* Rename it"):
        figure.draw(table("ab", ["x", "average"]))
    assert figure.draw(table(["a", "average"], "xy")).axes


def test_the_versions_of_a_reference_are_told_apart_by_their_dashes():
    rows = table(("SimCLR", "Barlow Twins"), ("1/8", "1")).drop(columns="method")
    rows = rows.rename(columns={"row": "method", "column": "strength", VALUE: "knn_test_top1_recalibrated"})
    figure = Lines(
        x="strength", lines="method", values=("knn_test_top1_recalibrated",), reference="huang_color_strength"
    ).draw(rows)
    styles = {line.get_label().split(", ")[-1]: line.get_linestyle() for line in figure.axes[0].lines}
    assert {styles["first version"], styles["second version"]} == {"--", ":"}
    methods = [line for line in figure.axes[0].lines if "first version" in line.get_label()]
    assert [line.get_linestyle() for line in methods] == ["--", "--"]


KINDS = {
    "one heatmap": Heatmap(rows="row", columns="column", values=(VALUE,)),
    "two heatmaps": Heatmap(rows="row", columns="column", values=(VALUE, "other")),
    "a reference": Heatmap(rows="row", columns="column", values=(VALUE, "other"), reference="simclr_figure5_pairs"),
    "one line": Lines(x="column", lines="row", values=(VALUE,)),
    "two lines": Lines(x="column", lines="row", values=(VALUE, "other")),
    "four lines": Lines(x="column", lines="row", values=(VALUE, "other", "third", "fourth")),
    "one bar": Bars(bars="row", values=(VALUE,), where={"column": "crop"}),
    "three bars": Bars(bars="row", values=(VALUE, "other", "third"), where={"column": "crop"}),
    "effects": Effects(factors=("one", "two"), values=(VALUE, "other")),
    "interaction": Interaction(rows="row", columns="column", values=(VALUE, "other")),
    "profile": Profile(rows="row", columns={VALUE: VALUE, "other": "other"}, unit="%", where={"column": "crop"}),
    "curves": Curves(lines="row", values=(VALUE, "other"), where={"column": "crop"}),
}


def test_axis_titles_of_narrow_panels_do_not_meet():
    operators = ["crop", "sobel"]
    rows = table(operators, operators).rename(columns={"row": "first", "column": "second"})
    figure = Heatmap(rows="first", columns="second", values=(VALUE, "other")).draw(rows.assign(other=rows[VALUE]))
    renderer = figure.canvas.get_renderer()
    figure.draw_without_rendering()
    titles = [axis.xaxis.label for axis in figure.axes if axis.get_xlabel()]
    assert {" ".join(title.get_text().split()) for title in titles} == {"second operator (diagonal: alone)"}
    left, right = (title.get_window_extent(renderer) for title in titles)
    assert left.x1 < right.x0
    assert figure.get_tightbbox(renderer).x1 <= figure.get_figwidth()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("last", ["rotate", "a label of an operator that is far too long for any figure to have"])
def test_figures_fit_a_paper(kind, last, tmp_path):
    """One or two columns wide, text of 6 to 8 points, nothing beyond the edges or over other text."""
    labels = ["crop", "cutout", "color", "sobel", last]
    rows = pd.concat([table(labels, labels).assign(epoch=epoch) for epoch in (1, 2)])
    rows = rows.assign(other=rows[VALUE], third=rows[VALUE], fourth=rows[VALUE])
    rows = rows.assign(one=(rows["row"] == "crop").astype(int), two=(rows["column"] == "crop").astype(int))
    if kind == "effects":
        rows = rows.drop_duplicates(["one", "two", "seed"])
    elif kind != "curves":
        rows = rows[rows["epoch"] == 1]
    figure = KINDS[kind].draw(rows)
    width, height = figure.get_size_inches()
    assert width in ((3.4, 7.0) if kind == "profile" else (3.4,) if kind.startswith("one ") else (7.0,))
    figure.set_dpi(240)
    renderer = figure.canvas.get_renderer()
    figure.draw_without_rendering()
    beyond = {  # labels of ticks outside the axis, which are not drawn
        tick.label1
        for axis in (a for axes in figure.axes for a in (axes.xaxis, axes.yaxis))
        for tick in axis.get_major_ticks()
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and t not in beyond]
    texts = [t for t in texts if t.get_window_extent(renderer).width > 0]
    assert {6 <= t.get_fontsize() <= 8 for t in texts} == {True}
    box = figure.get_tightbbox(renderer)
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= width
    assert box.y1 <= height
    level = [t for t in texts if t.get_rotation() in (0, 90)]
    boxes = [t.get_window_extent(renderer).shrunk(0.9, 0.9) for t in level]
    for i, j in itertools.combinations(range(len(level)), 2):
        assert not boxes[i].overlaps(boxes[j]), (level[i].get_text(), level[j].get_text())
    png, pdf = save(figure, tmp_path / "figure", "digest")
    assert png.stat().st_size < 400_000
    with Image.open(png) as picture:
        assert picture.width == round(240 * width)
    assert b"/FontFile2" in pdf.read_bytes()  # TrueType, embedded


def test_a_figure_that_fails_does_not_stop_the_others(tmp_path):
    """Also if a user's own figure raises any exception; names omitted figures with the cause."""

    class Broken(Heatmap):
        def draw(self, table):
            raise KeyError("mine")

    axes = {"rows": "row", "columns": "column"}
    table("ab", "xy").to_csv(tmp_path / "my.csv", index=False)
    figures = {
        "none": Heatmap(values=("nothing",), **axes), "broken": Broken(values=(VALUE,), **axes),
        "curves-of": Curves(lines="row"), "good": Heatmap(values=(VALUE,), **axes),
    }  # fmt: skip
    paths, text, wrong = draw_all(figures, tmp_path / "my.csv")
    assert [path.name for path in paths] == ["my-good.png", "my-good.pdf", "my-good.txt"]
    assert "linear accuracy" in text
    causes = {"none": "'nothing'", "broken": "KeyError: 'mine'", "curves-of": "my-curves.csv does not exist"}
    for sentence, (name, cause) in zip(wrong, causes.items(), strict=True):
        assert f"the figure '{name}' of {tmp_path}/my.csv is not drawn: " in sentence
        assert cause in sentence
    assert not plt.get_fignums()


def test_a_picture_is_not_written_through_a_link(tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("precious")
    for ending in (".png", ".pdf"):
        (tmp_path / f"figure{ending}").symlink_to(other)
    paths = save(Heatmap(rows="row", columns="column", values=(VALUE,)).draw(table("ab", "xy")), tmp_path / "figure")
    assert other.read_text() == "precious"
    assert not any(path.is_symlink() for path in paths)


class Mine(KNN):
    """A user's evaluation, with metrics unknown in advance."""

    name = "mine"


class MyMethod(SimCLR):
    """A user's method, with arbitrary metrics."""


class Stating(SimCLR):
    """A user's method that states its metrics."""

    metrics = ("mine",)


Mine.__module__ = MyMethod.__module__ = Stating.__module__ = "question"


def test_the_metrics_that_a_users_method_states_are_all_it_has():
    experiment(Curves(lines="row", values=("mine", "loss"), where={"column": 1}), method=Stating(hidden=8))
    with pytest.raises(InvalidSpec, match="'train_loss'"):
        experiment(Curves(lines="row", values=("train_loss",), where={"column": 1}), method=Stating(hidden=8))
    experiment(Curves(lines="row", values=("train_loss",), where={"column": 1}), method=MyMethod(hidden=8))


def experiment(figure, name="figure", method=None, **axes) -> Experiment:
    """Cells of two axes whose runs have kNN, linear, probe and a user's evaluation."""
    run = small_run(**({"method": method} if method else {}))
    evaluations = (KNN(k=(10,)), Linear(), Mine(), Probe(task="rotation", versions=((), (Flip(),))))
    axes = {"row": "ab", "column": (1, 2)} | axes
    cells = sweep(lambda **_: run.replace(evaluations=evaluations), seeds=range(2), **axes)
    return Experiment(cells=cells, figures={name: figure})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Bars(bars="row", values=VALUE), r"Bars.values must be a tuple .* but got 'linear_test.*values=\('lin"),
        (lambda: Effects(factors="row"), "Effects.factors must be a tuple"),
        (lambda: Bars(bars=("row",)), "Bars must have names of coordinates"),
        (lambda: Bars(bars="row", where="column"), "Bars.where must be a mapping"),
        (lambda: Bars(bars="row", values=("linear_test_top1",)), "Did you mean .* 'linear_test_top1_recalibrated'"),
        (lambda: Bars(bars="row", values=("linear_z_test_top1_recalibrated",)), "values of Experiment.figures"),
        (lambda: Bars(bars="row", values=("knn_tset_top1_running",)), "Did you mean 'knn_test_top1_running'"),
        (lambda: Bars(bars="row", where={"colum": 1}), "where of .* Did you mean 'column'"),
        (lambda: Bars(bars="row", where={"column": 3}), "but got 3.* There will be 1, 2"),
        (lambda: Bars(bars="row", best_of="rate"), "uses 'rate'.* Use one of"),
        (lambda: Bars(bars="rows"), "uses 'rows'.* Use one of"),
        (lambda: Bars(bars="row", reference="simclr"), "Bars.reference must be one of"),
        (lambda: Bars(bars="row"), r"Bars.where must choose one 'column', .*\(1, 2\).* Write where={'column': 1}"),
        (lambda: Curves(lines="column"), r"Curves.where must choose one 'row', .*\(a, b\)"),
        (lambda: Profile(rows="row", columns={"x": VALUE}, unit="%"), r"Profile.where must choose one 'column'"),
        (lambda: Heatmap(rows="row", columns="column", source="images", values=("accuracy",)), "'evaluation', .*knn"),
        (lambda: Curves(lines="row", values=("validation_kn",)), "Did you mean 'validation_knn'"),
        (lambda: Profile(rows="row", columns={"x": "probe_rotatoin_test_top1_running"}, unit="%"), "columns of"),
    ],
)
def test_a_figure_is_checked_when_its_experiment_is_built(make, words):
    with pytest.raises(InvalidSpec, match=words):
        experiment(make())


@pytest.mark.parametrize(
    "value",
    [VALUE, "knn_validation_top5_running", "mine_anything", "probe_rotation_test_top1_running", "training_seconds",
     "linear_seconds", "loss", "linear_penalty_running", "test_images"],
)  # fmt: skip
def test_a_figure_of_what_will_be_measured_is_taken(value):
    assert experiment(Bars(bars="row", values=(value,), where={"column": "1"}, best_of=None))


def test_a_users_method_may_measure_anything_but_not_in_the_name_of_ours():
    mine = MyMethod(hidden=16, dimension=8)
    assert experiment(Bars(bars="row", values=("my_loss",), where={"column": 1}), method=mine)
    with pytest.raises(InvalidSpec, match="linear_test_top1"):
        experiment(Bars(bars="row", values=("linear_test_top1",)), method=mine)
    with pytest.raises(InvalidSpec, match="my_loss"):
        experiment(Bars(bars="row", values=("my_loss",)))


@pytest.mark.parametrize("figure", [3, Bars, [Bars(bars="row")], "heatmap", None])
def test_what_is_no_figure_is_refused(figure):
    with pytest.raises(InvalidSpec, match=r"Experiment.figures\['figure'\] must be a figure, but got .*Write Heatmap"):
        experiment(figure)


@pytest.mark.parametrize("name", ["curves", "images", "views", "test", "importance", "a/b", "../b", "", " a"])
def test_a_figure_has_no_name_of_another_file(name):
    with pytest.raises(InvalidSpec, match=r"Experiment.figures: .* is not a valid name.* Rename"):
        experiment(Bars(bars="row"), name=name)


@pytest.mark.parametrize(
    ("figure", "axes", "words"),
    [
        (Effects(factors=("row", "column")), {}, "coordinates that are 0 or 1, but there is row a"),
        (Heatmap(rows="row", columns="column"), {"column": ("x", "average")}, "no column named 'average'"),
        (Bars(bars="row", where={"column": 1}, reference="simclr_table4_losses"), {}, "must have the columns row"),
    ],
)
def test_what_cannot_be_drawn_is_known_before_anything_is_computed(figure, axes, words):
    built = experiment(figure, **axes)
    with pytest.raises(InvalidSpec, match=rf"Experiment.figures\['figure'\] could not be drawn: .*{words}"):
        rehearse(built.figures, built.cells)


def test_what_can_be_drawn_is_rehearsed():
    for figure in (
        Heatmap(rows="row", columns="column"), Lines(x="column", lines="row"), Curves(lines="row", where={"column": 1}),
        Bars(bars="row", best_of="column"), Bars(bars="row", source="images", values=("accuracy",),
                                                 where={"evaluation": "knn", "column": 1}),
    ):  # fmt: skip
        built = experiment(figure)
        rehearse(built.figures, built.cells)


def test_seeds_may_differ_between_cells():
    """As for a grid with other seeds than its baselines."""
    cells = sweep(lambda row: small_run(), row=("a",), seeds=(1, 2)) + sweep(
        lambda row: small_run(), row=("b",), seeds=(0, 1)
    )
    rehearse({"f": Bars(bars="row", where={"row": "a"})}, cells)


def test_nothing_is_chosen_on_validation_images_that_were_trained_on():
    """The caption says so too, and refuses a table from elsewhere."""
    figure, training = Bars(bars="row", best_of="column", values=(VALUE,)), small_training()
    run = small_run().replace(
        training=training.replace(optimization=training.optimization.replace(with_validation=True)),
        evaluations=(Linear(penalties=(1e-3,)),),
    )
    cells = sweep(lambda row, column: run, row="ab", column=(1, 2), seeds=range(2))
    with pytest.raises(InvalidSpec, match=r"'f'.*'column' on validation images.*with_validation is True. Remove"):
        Experiment(cells=cells, figures={"f": figure})
    kept = table("ab", (1, 2), trained_on="train + validation", linear_validation_top1_recalibrated=1.0)
    with pytest.raises(InvalidSpec, match="validation images, which must not be trained on"):
        figure.text(kept)
    assert "validation trained on too" in figure.replace(best_of=None).text(kept[kept["column"] == 1])


def test_a_class_that_is_no_figure_is_refused_when_it_is_built():
    class Drawing:
        def draw(self, table):
            return None

    with pytest.raises(InvalidSpec, match=r"figures\['f'\] must be a figure, but got .*inherit FigureSpec"):
        Experiment(cells=sweep(lambda row: small_run(), row="ab", seeds=[0]), figures={"f": Drawing()})


def test_a_caption_says_which_operators_change_nothing():
    """A blur's kernel is a tenth of the side: one pixel below 20. Also operators that a user turned off."""
    views = {"a": (Crop(size=19), Blur()), "b": (Blur(), Crop()), "c": (Flip(p=0),)}
    assert not Blur().is_identity(20)

    def built(size):
        dataset = SMALL.replace(size=size)
        cells = sweep(lambda v: small_run(dataset=dataset, views=(views[v], views[v])), v=tuple(views), seeds=[0])
        return Experiment(cells=cells, figures={"f": Bars(bars="v", note="Mine.")})

    said = " Change nothing at the size of these images: "
    assert noted(built(19))["f"].note == f"Mine.{said}blur (19 px), flip (19 px)."
    assert noted(built(32))["f"].note == f"Mine.{said}blur (19 px), flip (32 px)."


@pytest.mark.parametrize(
    ("labels", "places"),
    [
        (("1", "0.5", "32"), [1, 0.5, 32]),
        (("1.0", "1e-05"), [1, 1e-5]),
        (("1.9", "1.10"), None),
        (("1", "1.0"), None),
        (("007", "8"), None),
        (("1/8", "1"), None),
    ],
)
def test_a_scale_is_of_numbers_in_their_usual_spelling(labels, places):
    assert scale_of(labels) == places


def test_labels_that_look_like_numbers_are_drawn_as_they_are_written(tmp_path):
    """Versions are not numbers: 1.10 is neither 1.1 nor smaller than 1.9."""
    (tmp_path / "my.csv").write_text("version,k,seed,v\n" + "".join(
        f"{version},{k},{seed},{10 * i + seed}\n"
        for i, version in enumerate(("1.9", "1.10", "1.1")) for k in "xy" for seed in (0, 1)
    ))  # fmt: skip
    rows = read_table(tmp_path / "my.csv")
    lines = Lines(x="version", lines="k", values=("v",)).draw(rows)
    assert [t.get_text() for t in lines.axes[0].get_xticklabels()] == ["1.9", "1.10", "1.1"]
    heatmap = Heatmap(rows="version", columns="k", values=("v",))
    assert [t.get_text() for t in heatmap.draw(rows).axes[0].get_yticklabels()] == ["1.9", "1.10", "1.1"]
    chosen = Bars(bars="k", values=("v",), where={"version": "1.10"}).text(rows)
    assert "10.50 ± 0.71" in chosen
    with pytest.raises(InvalidSpec, match=r"no version is 1\.11; there are 1\.9, 1\.10, 1\.1"):
        Bars(bars="k", values=("v",), where={"version": 1.11}).draw(rows)


def own(folder, capsys, rows: pd.DataFrame, *options: str, code: int = 0) -> str:
    """The output of `ablation figures my.csv`: standard output or, on failure, standard error."""
    rows.to_csv(folder / "my.csv", index=False)
    assert main(["figures", str(folder / "my.csv"), *options]) == code
    return capsys.readouterr().err if code else capsys.readouterr().out


AXES = ("--rows", "row", "--columns", "column")


def test_what_the_seeds_of_your_own_table_say(tmp_path, capsys):
    """Seeds 0, 1, 2 in each cell: sd 1, every cell the same effect of the seed."""
    rows = table("abc", "xy")
    text = own(tmp_path, capsys, rows, *AXES)
    assert "spread over seeds 1, pooled over 6 cell(s) with several; equal in all of them: p 1 (12 degrees" in text
    assert "a seed's effect on all cells" not in text  # nothing else varies, so there is no test
    low, needed, high = seeds_needed(1, 1.0, 12.0)
    assert f"seeds per cell to resolve a difference of 1: {needed} (95 %: {low} to {high})" in text
    assert "seeds per cell to resolve a difference of 2: " in text
    noisy = rows.assign(**{VALUE: rows[VALUE] + np.random.default_rng(0).normal(0, 0.1, len(rows))})
    assert "a seed's effect on all cells: correlation 0.9" in own(tmp_path, capsys, noisy, *AXES)
    one = own(tmp_path, capsys, rows[rows["seed"] == 0], *AXES)
    assert "one seed in each cell, so the spread is not known: run another seed" in one
    assert "seeds per cell" not in one
    assert "over a million" in own(tmp_path, capsys, rows.assign(**{VALUE: rows[VALUE] * 1e6}), *AXES)


@pytest.mark.usefixtures("no_pictures")
def test_a_setting_that_differs_within_a_cell_of_your_own_table_is_named(tmp_path, capsys):
    """A second row of a cell with another rate would be averaged like a seed; metrics differ everywhere."""
    rows = table("abc", "xy").assign(rate=0.5, other=lambda t: np.arange(len(t)) / 7)
    more = rows.iloc[:1].assign(seed=7, rate=1.0)

    def said(table):
        table.to_csv(tmp_path / "my.csv", index=False)
        assert main(["figures", str(tmp_path / "my.csv"), *AXES, "--value", VALUE]) == 0
        return capsys.readouterr().err

    found = said(pd.concat([rows, more]))
    assert "'rate' differs between the seeds of 1 of 6 cells, the first a, x (0.5, 1.0)" in found
    assert "--where rate=LABEL" in found
    assert "other" not in found
    assert "differs" not in said(rows)
    assert "differs" not in said(rows.assign(seconds=np.arange(len(rows)) / 9))  # in every cell, so it is a measurement


@pytest.mark.usefixtures("no_pictures")
def test_a_setting_that_is_mixed_in_every_cell_is_named_by_its_name(tmp_path, capsys):
    rows = table("abc", "xy").assign(batch_size=lambda t: [32, 32, 128, *[64, 64, 128] * (len(t) // 3 - 1)])
    rows.to_csv(tmp_path / "my.csv", index=False)
    assert main(["figures", str(tmp_path / "my.csv"), *AXES, "--value", VALUE]) == 0
    assert "'batch_size' differs between the seeds of 6 of 6 cells" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    ["errors", "ErrorRate", "logloss", "wer", "ppl", "EER", "top1_errors", "val_losses", "cross_entropy_loss", "FPR",
     "fpr95", "FPR@95", "FPRat95", "fdr", "test_fnr", "miss_rate", "1-acc", "100 - top1", "1\u2212accuracy", "EPE",
     "misclassification", "n_misclassified", "wrong", "kl", "bpd", "bits_per_dim", "val_nll", "failure_rate"],
)  # fmt: skip
def test_a_value_whose_lowest_is_the_best_is_refused(name, tmp_path, capsys):
    rows = table("ab", "xy").rename(columns={VALUE: name})
    assert f"{name!r} of" in own(tmp_path, capsys, rows, *AXES, "--value", name, code=2)


@pytest.mark.usefixtures("no_files")
@pytest.mark.parametrize(
    "name",
    ["transfer", "mean", "layer", "terror", "closs", "accuracy", "mae_top1", "acc_at_lowest_loss", "MAE linear",
     "top-1-acc", "missing", "wrongful", "timeline", "acc_per_seconds"],
)  # fmt: skip
def test_a_value_whose_highest_is_the_best_says_so(name, tmp_path, capsys):
    rows = table("ab", "xy").rename(columns={VALUE: name})  # "MAE linear" belongs to a method, and a line asks
    assert "The highest value is taken as the best." in own(tmp_path, capsys, rows, *AXES, "--value", name)


@pytest.mark.usefixtures("no_files")
@pytest.mark.parametrize(
    ("name", "asked"),
    [
        *((name, True) for name in ("MAE", "divergence", "dissimilarity", "hamming", "latency_ms", "training_time")),
        *((name, True) for name in ("seconds", "generalization_gap", "params", "acc_std", "variance")),
        *((name, False) for name in ("accuracy", "top1_time", "score", "knn", "similarity")),
    ],
)
def test_a_value_whose_lowest_may_be_the_best_is_asked_about(name, asked, tmp_path, capsys):
    rows = table("ab", "xy").assign(**{VALUE: lambda t: 40 + t[VALUE]}).rename(columns={VALUE: name})
    rows.to_csv(tmp_path / "my.csv", index=False)
    assert main(["figures", str(tmp_path / "my.csv"), *AXES, "--value", name]) == 0
    said = capsys.readouterr().err
    assert bool(re.search(rf"the highest {name} of .*my.csv is taken as the best.*lowest.*negative", said)) == asked


def test_every_where_and_every_value_counts(tmp_path, capsys):
    rows = pd.concat([table("ab", "xy").assign(data=d, epoch=e, other=1.5) for d in ("one", "two") for e in (3, 9)])
    rows[VALUE] = np.where((rows["data"] == "one") & (rows["epoch"] == 9), 50.0, 99.0)
    rows.to_csv(tmp_path / "my.csv", index=False)
    options = ["--where", "data=one", "--where", "epoch=9", "--value", VALUE, "--value", "other"]
    assert main(["figures", str(tmp_path / "my.csv"), *AXES, *options]) == 0
    said = capsys.readouterr().out.replace(str(tmp_path), "")
    assert "99" not in said
    assert "50" in said
    assert "other" in said


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: values.where(values.index != 3, -1.0), "-1 in line 5 is no accuracy in percent"),
        (lambda values: values.where(values.index != 3, 4898.0), "4898 in line 5 is no accuracy in percent"),
        (lambda values: values.where(values.index != 3, 0.45), "0.45 in line 5 reads like a share of one, not percent"),
        (lambda values: values.where(values.index % 4 > 0, 0.0), "0 in line 2, and 2 more, is far below the others"),
        (lambda values: values.where(values.index != 3, 0.0) / 100, "0 in line 5 is far below the others"),
        (lambda values: (values - 40) / 5, None),  # many classes, near chance
        (lambda values: values, None),
    ],
)
@pytest.mark.parametrize(
    "name", ["accuracy", "valAcc", "top_1", "linear", "knn", "linear_z", "test kNN", "linear probe"]
)
def test_an_accuracy_that_can_be_none_is_named(change, said, name, tmp_path, capsys):
    rows = table("ab", "xy")
    rows = rows.assign(**{name: change(40 + rows[VALUE])}).drop(columns=VALUE)
    rows.to_csv(tmp_path / "my.csv", index=False)
    fractions = ["--fractions"] * bool(rows[name].max() <= 1)
    assert main(["figures", str(tmp_path / "my.csv"), *AXES, "--value", name, *fractions]) == 0
    found = capsys.readouterr().err
    assert bool(found) == (said is not None)
    assert (said or "") in found


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("name", ["linear_penalty", "linear_seconds", "knn_k", "line", "accent", "stop 1", "linearity"])
def test_what_is_no_accuracy_may_be_any_number(name, tmp_path, capsys):
    rows = table("ab", "xy").assign(**{VALUE: lambda t: t[VALUE].where(t.index != 3, 4898.0)})
    rows.rename(columns={VALUE: name}).to_csv(tmp_path / "my.csv", index=False)
    assert main(["figures", str(tmp_path / "my.csv"), *AXES, "--value", name]) == 0
    assert "no accuracy" not in capsys.readouterr().err


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("name", ["linear", "knn_z", "acc"])
def test_shares_of_one_under_the_name_of_a_protocol_are_asked_about(name, tmp_path, capsys):
    rows = table("ab", "xy").assign(**{VALUE: lambda t: t[VALUE] / 100}).rename(columns={VALUE: name})
    rows.to_csv(tmp_path / "my.csv", index=False)
    assert main(["figures", str(tmp_path / "my.csv"), *AXES, "--value", name]) == 0
    assert "if it is a share of one, add --fractions" in capsys.readouterr().err


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("more", [{"n": 3}, {"count": 3}, {"acc_std": 0.5, "num_seeds": 3}, {"std": 0.5}])
def test_means_in_the_place_of_seeds_are_named(more, tmp_path, capsys):
    """With one row per seed, such a column is another quantity."""
    rows = table("ab", "xy").assign(**more)
    for table_of, named in ((rows[rows["seed"] == 0], True), (rows, False)):
        table_of.to_csv(tmp_path / "my.csv", index=False)
        assert main(["figures", str(tmp_path / "my.csv"), *AXES, "--value", VALUE]) == 0
        said = capsys.readouterr().err
        assert ("each row counts as one seed" in said) == named
        assert all(repr(name) in said for name in more) == named


@pytest.mark.usefixtures("no_pictures")
def test_runs_that_did_not_end_are_named(tmp_path, capsys):
    """A column of states, as trackers export it; --where excludes rows."""
    rows = table("ab", "xy").assign(State="finished")
    rows.loc[rows["row"].eq("a") & rows["column"].eq("y"), "State"] = "crashed"
    rows.to_csv(tmp_path / "my.csv", index=False)
    assert main(["figures", str(tmp_path / "my.csv"), *AXES, "--value", VALUE]) == 0
    said = capsys.readouterr().err
    assert all(word in said for word in ("'State'", "'crashed'", "--where State=finished", "more like it"))
    assert main(["figures", str(tmp_path / "my.csv"), *AXES, "--value", VALUE, "--where", "State=finished"]) == 0
    assert "crashed" not in capsys.readouterr().err


@pytest.mark.parametrize("label", ["{}", "seed{}", "seed_{}", "Run {}"])
def test_a_table_with_a_column_for_each_seed_leads_to_the_cure(label, tmp_path, capsys):
    rows = table("ab", "xy")
    wide = rows.assign(seed=rows["seed"].map(label.format)).pivot(index=["row", "column"], columns="seed", values=VALUE)
    said = own(tmp_path, capsys, wide.reset_index(), *AXES, code=2)
    call = re.search(r"must have a column 'seed', .*labels, as whole numbers, .*(table\.melt\(.*\))\.", said)
    long = eval(call[1], {"table": wide.reset_index()})
    long["seed"] = long["seed"].str.extract(r"(\d+)")[0]
    assert "n = 3" in own(tmp_path, capsys, long, *AXES)


def test_a_table_with_a_column_for_each_label_leads_to_the_cure(tmp_path, capsys):
    wide = table("ab", "xy").pivot(index=["row", "seed"], columns="column", values=VALUE).reset_index()
    said = own(tmp_path, capsys, wide, *AXES, code=2)
    call = re.search(r"must have a column 'column', .*(table\.melt\(.*'accuracy'\))", said)
    assert "n = 3" in own(tmp_path, capsys, eval(call[1], {"table": wide}), *AXES)


def test_seeds_that_repeat_each_other_are_no_spread(tmp_path, capsys):
    rows = table("ab", "ab").assign(**{VALUE: lambda t: 45.07 + 0.1 * (t["row"] == "a")})
    rows = rows.rename(columns={"row": "first", "column": "second"})
    text = own(tmp_path, capsys, rows)
    assert "all seeds of a cell have the same value, so the spread is not known" in text
    assert "order is not compared" in text


def test_cells_whose_seeds_repeat_each_other_are_counted(tmp_path, capsys):
    rows = table("abc", "xy").assign(**{VALUE: lambda t: 45.07 + (t["row"] == "a") * t["seed"]})
    rows.to_csv(tmp_path / "my.csv", index=False)
    assert main(["figures", str(tmp_path / "my.csv"), *AXES]) == 0
    assert "is the same for all seeds of 4 cells" in capsys.readouterr().err


@pytest.mark.usefixtures("no_pictures")
def test_names_that_differ_in_capitals_are_named(tmp_path, capsys):
    rows = table("ab", "xy")
    said = own(tmp_path, capsys, rows.rename(columns={"seed": "Seed"}), *AXES, code=2)
    assert "must have a column 'seed', but has 'Seed'. Rename it." in said
    rows.replace({"column": {"x": "Y"}}).to_csv(tmp_path / "my.csv", index=False)
    assert main(["figures", str(tmp_path / "my.csv"), *AXES]) == 0
    assert "'Y', 'y' in 'column' differ only in capitals" in capsys.readouterr().err


def test_measured_columns_of_the_suites_own_tables_are_no_settings(tmp_path, capsys):
    rows = table("abc", "xy").assign(training="a", commit="b", linear_penalty_running=[0.1, 0.2, *[0.1] * 16])
    rows.to_csv(tmp_path / "my.csv", index=False)
    assert main(["figures", str(tmp_path / "my.csv"), *AXES, "--value", VALUE]) == 0
    assert "penalty" not in capsys.readouterr().err


def test_a_baseline_inside_the_grid_is_refused(tmp_path, capsys):
    rows = table("ab", "xy").assign(baseline=33.0)
    assert "line 2 has '33.0' and a label in row and column" in own(tmp_path, capsys, rows, *AXES, code=2)


def test_two_baselines_in_your_own_table_are_no_cell_twice(tmp_path, capsys):
    baselines = [pd.DataFrame({"baseline": b, "seed": range(3), VALUE: 1.0, **FACTS}) for b in ("one", "two")]
    text = own(tmp_path, capsys, pd.concat([table("ab", "xy"), *baselines]), *AXES)
    assert "One: linear accuracy 1.0 \u00b1 0.0. Two: linear accuracy 1.0" in text


def test_what_your_own_table_may_not_hold(tmp_path, capsys):
    rows = table("ab", "xy")
    infinite = rows.assign(**{VALUE: rows[VALUE].replace(12.0, np.inf)})
    assert "must hold finite numbers, but line 10 holds 'inf'" in own(tmp_path, capsys, infinite, *AXES, code=2)
    truth = rows.assign(**{VALUE: rows[VALUE] > 3})
    assert "must hold finite numbers, but line 2 holds 'False'" in own(tmp_path, capsys, truth, *AXES, code=2)
    for name in ("n", "mean", "error", "sd"):
        named = rows.rename(columns={"row": name})
        words = own(tmp_path, capsys, named, "--rows", name, "--columns", "column", code=2)
        assert f"{name!r} is one of seed, mean, sd, n" in words
        if name != "error":  # whose lowest value is the best
            assert f"{name}:" in own(tmp_path, capsys, rows.rename(columns={VALUE: name}), *AXES, "--value", name)
    average = rows.replace({"column": {"x": "average"}})
    assert "Heatmap.columns must have no column named 'average'" in own(tmp_path, capsys, average, *AXES, code=2)
    facts = rows.assign(epochs="a few", train_images=[np.nan, *rows["train_images"][1:]])
    assert "5,000 train" in own(tmp_path, capsys, facts, *AXES)
    assert r"$\frac$" in own(tmp_path, capsys, rows.replace({"row": {"a": r"$\frac$"}}), *AXES)


def texts(figure) -> set[str]:
    """All texts in a picture, each in one line."""
    figure.draw_without_rendering()
    return {" ".join(text.get_text().split()) for text in figure.findobj(Text) if text.get_text().strip()}


PAPER = {
    "heatmap": Heatmap(rows="row", columns="column", values=(VALUE,)),
    "lines": Lines(x="column", lines="row", values=(VALUE,)),
    "bars": Bars(bars="row", values=(VALUE,), where={"column": 0}),
    "effects": Effects(factors=("row", "column"), values=(VALUE,)),
    "interaction": Interaction(rows="row", columns="column", values=(VALUE,)),
    "profile": Profile(rows="row", columns={"a probe": VALUE}, unit="%", where={"column": 0}),
}


@pytest.mark.parametrize("kind", PAPER)
def test_what_a_paper_says_is_on_the_picture(kind):
    rows = table((0, 1), (0, 1))
    names = {"row": "my rows", "column": "my columns", VALUE: "my accuracy", "a probe": "my probe", 1: "one"}
    figure = PAPER[kind].replace(labels=names, titles={VALUE: "(a) mine"}, width=5.5, caption="My own words.")
    drawn = figure.draw(rows)
    assert drawn.get_figwidth() == 5.5
    shown = texts(drawn)
    wanted = {
        "heatmap": {"my rows", "my columns", "one", "(a) mine"},
        "lines": {"my rows", "my columns", "one", "my accuracy"},
        "bars": {"my accuracy", "one", "(a) mine"}, "profile": {"my rows", "my probe", "one"},
        "interaction": {"spread of my rows", "one", "effect on my accuracy, or its spread (points)"},
        "effects": {"main effect: my rows", "interaction: my rows x my columns", "effect on my accuracy (points)"},
    }[kind]  # fmt: skip
    assert wanted | {"My own words."} <= shown
    assert not figure.replace(caption=False).draw(rows).get_supxlabel()
    assert "n = 3 seeds" in PAPER[kind].draw(rows).get_supxlabel()
    default = texts(PAPER[kind].draw(rows))
    assert not any(VALUE in each for each in default)
    assert kind == "profile" or any("linear accuracy" in each for each in default)


@pytest.mark.parametrize("kind", PAPER)
def test_the_caption_is_a_text_beside_the_picture(kind, tmp_path):
    """It names n, the spread and the method of intervals; the picture keeps its table's digest."""
    csv = tmp_path / "my.csv"
    table((0, 1), (0, 1)).to_csv(csv, index=False)
    paths, text, wrong = draw_all({"figure": PAPER[kind]}, csv)
    assert not wrong
    caption = (tmp_path / "my-figure.txt").read_text()
    assert tmp_path / "my-figure.txt" in paths
    assert "n = 3, mean ± sample standard deviation over seeds (pooled over cells: 1.0)" in caption
    assert caption.strip() in text
    assert kind == "profile" or "95 %" in caption
    assert kind not in ("heatmap", "bars") or "Hsu" in caption
    with Image.open(tmp_path / "my-figure.png") as picture:
        assert picture.text["Keywords"] == digest(csv)
        assert picture.text["Description"] == caption.strip()


def test_a_caption_that_is_no_longer_there_leaves_no_file(tmp_path):
    figure = PAPER["heatmap"]
    for caption, there in (("words", True), ("", False)):
        save(figure.draw(table("ab", "xy")), tmp_path / "f", "digest", caption)
        assert (tmp_path / "f.txt").is_file() == there


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"caption": 3}, "caption must be True, False or a text"),
        ({"labels": ["row"]}, "labels must be a mapping to texts"),
        ({"titles": {VALUE: 1}}, "titles must be a mapping to texts"),
        ({"cmap": "viridi"}, "cmap must be a color map .*viridi.*Try .*viridis"),
        ({"width": 0.2}, "width must lie in"),
        ({"within": "other"}, "within must be one of row and column"),
        ({"average": "no"}, "average must be True or False"),
    ],
)
def test_looks_that_make_no_sense_are_refused(fields, words):
    with pytest.raises(InvalidSpec, match=words):
        PAPER["heatmap"].replace(**fields)


@pytest.mark.parametrize("fields", [{"labels": {"rows": "x"}}, {"labels": {"c": "x"}}, {"titles": {"knn": "x"}}])
def test_a_name_for_what_is_not_drawn_is_refused(fields):
    with pytest.raises(InvalidSpec, match="must be in the experiment's table, but got"):
        experiment(Bars(bars="row", values=(VALUE,), where={"column": 1}, **fields))


@pytest.mark.parametrize("wrong", ["linear_acc", "linear", "linear_accuracy", "accuracy"])
def test_a_short_name_of_a_metric_leads_to_the_accuracies(wrong):
    """Not to the next name, such as linear_seconds."""
    with pytest.raises(
        InvalidSpec, match=rf"got '{wrong}'. The usual accuracies are linear_test_top1_recalibrated and"
    ):
        experiment(Bars(bars="row", values=(wrong,), where={"column": 1}))


def test_a_slip_in_the_name_of_a_metric_is_corrected():
    with pytest.raises(InvalidSpec, match="Did you mean 'linear_test_top1_recalibrated'"):
        experiment(Bars(bars="row", values=("linear_test_top1_recalibratd",), where={"column": 1}))


def test_a_figure_that_is_too_narrow_for_its_numbers_is_refused():
    with pytest.raises(InvalidSpec, match=r"Heatmap.width must be at least \d\.\d inches, but got 1.5"):
        PAPER["heatmap"].replace(width=1.5).draw(table("abcdef", "uvwxyz"))


def test_a_color_map_is_the_figures():
    one, other = (
        PAPER["heatmap"].replace(cmap=cmap).draw(table("ab", "xy")).axes[0].collections[0].get_cmap().name
        for cmap in (None, "cividis")
    )
    assert (one, other) == ("viridis", "cividis")
    colors = [line.get_color() for line in PAPER["lines"].replace(cmap="flare").draw(table("ab", "xy")).axes[0].lines]
    assert set(map(to_rgba, colors)) <= set(map(to_rgba, sns.color_palette("flare", 2)))


def test_mathematics_is_drawn_where_it_is_asked_for(tmp_path):
    """And a dollar elsewhere; a label with it stays in one line."""
    rows, names = table("ab", (1, 2)), {"column": r"temperature $\tau$ of the softmax, which is a long name"}
    figure = PAPER["lines"].replace(labels=names)
    for math in (True, False):
        drawn = figure.replace(math=math).draw(rows)
        label = drawn.axes[0].xaxis.label
        assert label.get_text() == names["column"]
        assert label.get_parse_math() == math
        save(drawn, tmp_path / "figure")


def test_one_line_needs_no_second_coordinate():
    rows = table("a", (1, 2, 3)).drop(columns="row")
    figure = Lines(x="column", values=(VALUE,))
    drawn = figure.draw(rows)
    assert not drawn.legends
    (line,) = [line for line in drawn.axes[0].lines if line.get_markersize() > 3 and line.get_marker() == "o"]
    assert list(line.get_ydata()) == [1, 2, 3]
    assert figure.text(rows).splitlines()[2].split() == ["1.0", "±1.0", "2.0", "±1.0", "3.0", "±1.0"]
    with pytest.raises(InvalidSpec, match=r"Lines.where must choose one 'row'"):
        figure.draw(table("ab", (1, 2, 3)))


@pytest.mark.parametrize(
    ("places", "log", "scale"),
    [((1, 2, 3), None, "linear"), ((1, 2, 16), None, "log"), ((1, 2, 16), False, "linear"), ((1, 2, 3), True, "log")],
)
def test_a_log_scale_is_asked_for_or_refused(places, log, scale):
    drawn = PAPER["lines"].replace(log=log).draw(table("ab", places))
    assert drawn.axes[0].get_xscale() == scale


@pytest.mark.parametrize("places", [(0, 1, 2), "xyz"])
def test_a_log_scale_of_what_has_no_logarithm_is_refused(places):
    with pytest.raises(InvalidSpec, match=r"Lines\.log must be None or False if 'column'"):
        PAPER["lines"].replace(log=True).draw(table("ab", places))


def test_the_best_is_framed_within_its_group():
    """Rows are 10 apart, seeds 1: over all cells only row b may be the best, within each row its own cells."""
    rows = table("ab", "xyz")
    figure = PAPER["heatmap"].replace(within="row", average=False)
    best = {row for _, row in framed(figure.draw(rows))}
    assert best == {0, 1}
    assert {row for _, row in framed(PAPER["heatmap"].draw(rows))} == {1}
    assert "the best with the same row" in figure.full_caption(rows)
    assert "the best with the same row." in said(figure.draw(rows))
    assert "average" not in texts(figure.draw(rows)) | set(figure.text(rows).split())
    assert "average" in texts(PAPER["heatmap"].draw(rows))


def test_bars_stand_and_are_compared_in_groups():
    rows = table("ab", "xyz")
    figure = Bars(bars="column", within="row", values=(VALUE,))
    drawn = figure.draw(rows)
    assert {"a", "b", "x", "y", "z"} <= texts(drawn)
    dark = {round(bar.get_width()) for bar in drawn.axes[0].patches if bar.get_facecolor() == to_rgba(BEST)}
    assert {3, 13} <= dark  # the best of a and of b: 1, 2, 3 and 11, 12, 13
    best = "not significantly different from the best with the same row"
    assert f"dark: {best} at 95 %" in figure.full_caption(rows)
    assert best in {" ".join(text.get_text().split()) for text in drawn.legends[0].get_texts()}
    assert len(figure.text(rows).split("\n\n")[0].splitlines()) == 1 + 6


def test_an_encoder_without_batch_norm_is_not_said_to_have_it():
    """Both kinds of statistics then give the same numbers in every run."""
    running = VALUE.replace("recalibrated", "running")
    rows = table("ab", "xy")
    for same, words in ((rows[VALUE] + 1, True), (rows[VALUE], False)):
        found = PAPER["heatmap"].full_caption(rows.assign(**{running: same}))
        assert ("Batch-norm statistics recalibrated" in found) == words


def test_recalibrated_statistics_are_said_of_the_values_that_have_them():
    others = {VALUE.replace("recalibrated", "running"): 1.0, "fine_tune_test_top1_tuned": 1.0, "loss": 1.0}
    rows = table("ab", "xy", **others)
    assert "Batch-norm statistics recalibrated on clean training images." in PAPER["heatmap"].full_caption(rows)
    for other in others:
        found = PAPER["heatmap"].replace(values=(VALUE, other)).full_caption(rows)
        assert "Batch-norm statistics of linear accuracy recalibrated on clean training images." in found


@pytest.mark.parametrize("kind", [Heatmap(rows="row", columns="column"), Bars(bars="row", where={"column": "x"})])
def test_of_an_error_the_lowest_is_marked_as_the_best(kind):
    """If its evaluation states it; of a rank without a best value none is."""
    value = "mine_test_error_recalibrated"
    rows = table("ab", "xy").rename(columns={VALUE: value})
    for stated, best in (("lowest", 0), ("highest", 1), ("", None)):
        figure = kind.replace(values=(value,), measures={"mine": {"test_error": ("%", stated)}})
        drawn = figure.draw(rows)
        dark = [patch.get_y() + 0.35 for patch in drawn.axes[0].patches if patch.get_facecolor() == to_rgba(BEST)]
        marked = {round(place) for place in dark} if isinstance(kind, Bars) else {row for _, row in framed(drawn)}
        assert marked == ({best} - {None})
        assert "mine error (%)" in texts(drawn)


def test_differences_are_in_points_only_of_percent():
    rows = table("ab", "x").assign(loss=1.0)
    for value, shown in ((VALUE, "linear accuracy minus that of a (points)"), ("loss", "loss minus that of a")):
        drawn = Differences(rows="row", against="a", values=(value,)).draw(rows)
        assert drawn.axes[0].get_xlabel().replace("\n", " ") == shown


def test_one_is_not_spoken_of_as_several():
    rows = table("ab", "xy", seeds=1).assign(epochs=1)
    caption = PAPER["heatmap"].full_caption(rows)
    assert "1 epoch, last epoch" in caption
    assert not re.search(r"\b1 (epochs|seeds|runs|cells)\b", caption)


def test_epochs_are_whole_numbers():
    rows = pd.DataFrame(
        {"trial": trial, "seed": 0, "epoch": epoch, "validation_knn": trial + epoch, "value": trial, "sampler": "tpe"}
        for trial in range(6) for epoch in (1, 2)
    )  # fmt: skip
    for epochs in ([1], [1, 2]):
        axis = Rungs().draw(rows[rows["epoch"].isin(epochs)]).axes[0]
        assert [each for each in axis.get_xticks() if axis.get_xlim()[0] <= each <= axis.get_xlim()[1]] == epochs


def test_the_axis_of_a_search_names_its_metric():
    rows = pd.DataFrame(
        {"trial": i, "sampler": "tpe", "state": "complete", "metric": "knn_validation_top1_running", "value": 10.0 + i,
         "sd": 1.0, "n": 1, "param_p": i / 10} for i in range(6)
    )  # fmt: skip
    for figure in (History(), Slice()):
        assert " ".join(figure.draw(rows).axes[0].get_ylabel().split()) == "kNN accuracy, validation, running BN (%)"
    assert "mean over 1 seed of" in History().full_caption(rows)


def test_sample_images_are_of_many_classes_and_always_the_same():
    images = torch.arange(40).reshape(40, 1, 1, 1)
    split = Split(images, torch.arange(40) // 10)  # sorted by class, as in a folder
    found = samples(split, 6)
    assert torch.equal(found, samples(split, 6))
    classes = (found.flatten() // 10).tolist()
    assert set(classes) == {0, 1, 2, 3}
    assert max(map(classes.count, classes)) == 2


def test_views_are_shown_under_a_title_with_what_their_cells_share(tmp_path):
    views = {"a": (Crop(),), "b": (Flip(),)}
    cells = sweep(lambda v, k: small_run(views=(views[v], views[v])), v=tuple(views), k=(1, 2), seeds=range(2))
    png, pdf = save_strips(Experiment(cells=cells, figures={}), tmp_path / "strips")
    with Image.open(png) as picture:
        labels, height = json.loads(picture.text["views"]), int(picture.text["height"])
        assert labels == [f"Views of {SMALL.label}", "crop", "flip"]
        assert (picture.height, height >= 64) == (3 * height, True)
    assert b"/FontFile2" in pdf.read_bytes()
    assert [strip.cells for strip in strips(Experiment(cells=cells, figures={}))] == ["v a, 2 cells", "v b, 2 cells"]


def test_a_strip_shows_each_different_view_once():
    """With the number of equal ones; methods with equal views share a strip, but not with other numbers of them."""
    names = ("SwAV", "DINO", "MSN", "SimCLR", "supervised", "EMP-SSL")
    cells = sweep(lambda method: small_run(**TRAININGS[method]), method=names, seeds=[0])
    found = {strip.cells: strip for strip in strips(Experiment(cells=cells, figures={}), draws=6)}
    counts = {name: [view.count for view in strip.views] for name, strip in found.items()}
    assert counts == {
        "methods SwAV, DINO": [2, 1], "method MSN": [1, 1, 2], "methods SimCLR, supervised": [1], "method EMP-SSL": [4],
    }  # fmt: skip
    assert [view.images.shape[::3] for view in found["methods SwAV, DINO"].views] == [(3, 16), (3, 8)]
    assert found["method MSN"].operators == "crop | crop + mask | crop"


def test_smaller_views_are_drawn_in_proportion():
    black = [Shown(torch.zeros(3, 3, side, side), "crop", count) for side, count in ((16, 2), (8, 6), (16, 1))]
    line, notes = in_line(Strip(tuple(black), ""), 4.0, 64)
    heights = (line == 0).all(0).sum(0)  # of the black part of each column
    assert [int((heights == height).sum()) for height in (64, 32)] == [2 * 3 * 64, 3 * 32]
    assert set(heights.tolist()) == {0, 32, 64}
    assert [text for _, text in notes] == ["x 2", "x 6"]
    assert all(heights[column : column + 20].sum() == 0 for column, _ in notes)  # a note is on white


def test_stripes_hide_masked_patches_and_no_other_pixels():
    images = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    mask = torch.rand(5, 16, generator=torch.Generator().manual_seed(1)) < 0.5
    shown, hidden = hatched(images, mask), mask.view(5, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert torch.equal(torch.where(hidden, images, shown), images)
    stripes = patchify(shown, 4)[mask]
    assert [round(value, 2) for value in stripes.unique().tolist()] == [0.35, 0.65]
    assert (stripes.amin(1) < stripes.amax(1)).all()  # in every masked patch
    runs = {"masked": small_run(**TRAININGS["MAE"])}
    runs["whole"] = small_run(views=(runs["masked"].training.views[0][:1], ()))
    cells = sweep(lambda x: x, x=runs, seeds=[0])
    [[masked], [whole]] = [strip.views for strip in strips(Experiment(cells=cells, figures={}))]
    assert (masked.images == whole.images).all(1).float().mean().item() == 0.25


@pytest.mark.parametrize(
    ("stem", "parts"),
    [
        ("grid-tiny", ("grid", "tiny", "")),
        ("pairwise-cifar10-small-heatmap", ("pairwise", "cifar10-small", "heatmap")),
        ("my-cifar10-curves", ("my", "cifar10", "curves")),
        ("my-tiny-study-tiny-one-rate", ("my-tiny-study", "tiny", "one-rate")),
        ("notes", None),
        ("tiny", None),
    ],
)
def test_a_file_of_a_figure_is_known_by_its_name(stem, parts):
    found = Artifact.of(stem)
    assert (found and (found.name, found.scale, found.kind)) == parts
    assert found is None or found.stem == stem


def test_a_picture_belongs_to_the_longest_table_that_begins_its_name():
    assert table_beside("a-tiny-b-tiny-lines", ["a-tiny", "a-tiny-b-tiny"]) == "a-tiny-b-tiny"
    assert table_beside("a-tinylines", ["a-tiny"]) is None


def test_a_figure_may_show_what_a_method_measures():
    """The suite's method names it; of a user's any name is possible."""

    class Own(SimCLR):
        pass

    views = ((Crop(),), (Crop(),))
    for method, value, good in ((VICReg(), "variance", True), (VICReg(), "varianec", False), (Own(), "mine", True)):
        cells = sweep(lambda x, m=method: small_run(method=m, views=views), x=("a", "b"), seeds=range(2))
        for figure in (Curves(lines="x", values=(value,)), Bars(bars="x", values=(value,))):
            if good:
                Experiment(cells=cells, figures={"figure": figure})
            else:
                with pytest.raises(InvalidSpec, match=f"{value}.*variance"):
                    Experiment(cells=cells, figures={"figure": figure})


def test_a_figure_may_need_coordinates_that_other_cells_lack():
    """As in an experiment of two factorials."""
    cells = sweep(lambda of, one: small_run(seed=of), of=(0,), one=(0, 1), seeds=range(2))
    cells += sweep(lambda of, one, two: small_run(), of=(1,), one=(0, 1), two=(0, 1), seeds=range(2))
    figures = {"one": Bars(bars="one", where={"of": 0}), "two": Effects(factors=("one", "two"), where={"of": 1})}
    assert Experiment(cells=cells, figures=figures)
