"""Figures: drawn from any table of the kind, and honest about what it lacks."""

import itertools

import numpy as np
import pandas as pd
import pytest

from ablation.plots import Bars, Curves, Effects, Heatmap, Lines, Profile, save
from ablation.plots.heatmap import rank_difference
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


def test_what_is_not_told_from_the_best_is_framed():
    """Cells of 1, 2 / 11, 12 with spread 1 at n = 3: 8 degrees of freedom, so 11 is within reach of 12, 2 is not."""
    drawn = Heatmap(rows="row", columns="column", values=(VALUE,)).draw(table("ab", "xy"))
    frames = sorted(patch.get_xy() for patch in drawn.axes[0].patches if patch.get_linewidth() > 1)
    assert frames == [(0, 1), (1, 1)]
    assert "Framed: not told from the best at 95 %" in " ".join(drawn.get_supxlabel().split())
    single = Heatmap(rows="row", columns="column", values=(VALUE,)).draw(table("ab", "xy", seeds=1))
    assert not [patch for patch in single.axes[0].patches if patch.get_linewidth() > 1]


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
    """Dashed, for the lines that both have, in the panel of its protocol."""
    ours = table(["SimCLR", "other"], ["1/8", "1/2"]).rename(columns={"row": "method_", "column": "strength"})
    ours = ours.assign(method=ours["method_"], knn_test_top1_recalibrated=ours[VALUE])
    figure = Lines(x="strength", lines="method", reference="simclr_table1_color_strength")
    drawn = figure.draw(ours)
    dashed = [line for line in drawn.axes[0].lines if line.get_linestyle() == "--"]
    assert [list(line.get_ydata()) for line in dashed] == [[59.6, 62.6]]
    assert not [line for line in drawn.axes[1].lines if line.get_linestyle() == "--"]
    assert "Table 1" in " ".join(drawn.get_supxlabel().split())


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
    assert "rate with the best mean on validation images: a 3, b 3" in text
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
    assert "n = 2 seeds" in " ".join(drawn.get_supxlabel().split())
    assert "at epoch 3" in figure.text(rows)


def test_a_reference_of_which_nothing_is_drawn_is_said():
    rows = table((10, 20), (32, 64)).drop(columns="epochs").rename(columns={"row": "epochs", "column": "batch"})
    figure = Lines(x="batch", lines="epochs", values=(VALUE,), reference="simclr_tableB1_batch_epochs")
    assert "None of its values of batch and epochs are among ours" in figure.text(rows)
    shared = figure.text(rows.assign(epochs=rows["epochs"] * 10, batch=rows["batch"] * 8))
    assert "Table B.1" in shared
    assert "None of its values" not in shared


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
