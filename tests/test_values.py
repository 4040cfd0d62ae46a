"""The values of a report, against numbers worked by hand."""

import pandas as pd
import pytest

from ablation.analysis.references import reference_table
from ablation.analysis.settings import Settings, path_of
from ablation.report import Table
from ablation.report.values import Figures
from ablation.spec import InvalidSpec


def table(folder, name="my", *cell):
    return Table(name, cell=cell, figures=Figures(folder))


def test_a_gap_is_of_cells_or_of_their_means(tmp_path):
    """By hand: four cells of two seeds one apart, so the pooled variance is a half on four degrees of freedom."""
    values = {("a", "x"): 10, ("a", "y"): 20, ("b", "x"): 13, ("b", "y"): 27}
    rows = [{"row": r, "column": c, "seed": s, "v": v + s} for (r, c), v in values.items() for s in (0, 1)]
    pd.DataFrame(rows).to_csv(tmp_path / "my.csv", index=False)
    my = table(tmp_path, "my", "row", "column")
    reach = 2.776 * (0.5 / 2 + 0.5 / 2) ** 0.5
    text = my.gap("v", {"row": "b", "column": "y"}, {"row": "a", "column": "y"}, digits=2)
    assert text == f"7.00 (95 %: {7 - reach:.2f} to {7 + reach:.2f})"
    assert my.where(column="y").gap("v", {"row": "b"}, {"row": "a"}, digits=2) == text
    text = my.gap("v", {"row": "b"}, {"row": "a"}, digits=2)
    assert text == f"5.00 (95 %: {5 - reach / 2**0.5:.2f} to {5 + reach / 2**0.5:.2f})"
    few = [{"row": "b", "column": "y"}, {"row": "a", "column": "x"}]
    assert my.gap("v", few, {"row": "a", "column": "y"}).startswith("-1.5 (")  # (27 + 10) / 2 - 20
    with pytest.raises(InvalidSpec, match="the columns row must identify the cells"):
        table(tmp_path, "my", "row").gap("v", {"row": "b"}, {"row": "a"})
    with pytest.raises(InvalidSpec, match=r'coordinates of a cell.*Table\("my", cell='):
        table(tmp_path).gap("v", {"row": "b"}, {"row": "a"})
    with pytest.raises(InvalidSpec, match="my has no column 'rwo'; its columns are row, column"):
        my.mean("v", rwo="b")
    with pytest.raises(InvalidSpec, match=r"my has no cell with .*'c'"):
        my.gap("v", {"row": "c"}, {"row": "a"})


def rates(folder):
    """Two losses at two rates; validation prefers another rate than test does."""
    linear = {("margin", 1): (30, 10), ("margin", 3): (20, 12), ("NT-Xent", 1): (40, 15), ("NT-Xent", 3): (41, 14)}
    rows = [
        {"loss": loss, "rate": rate, "seed": s, "linear_test_top1_recalibrated": test + s,
         "linear_validation_top1_recalibrated": validation + s}
        for (loss, rate), (test, validation) in linear.items()
        for s in (0, 1)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "losses.csv", index=False)
    return table(folder, "losses", "loss", "rate")


def test_the_envelope_is_chosen_on_validation_images(tmp_path):
    losses = rates(tmp_path)
    text = losses.gap("linear", {"loss": "NT-Xent"}, {"loss": "margin"}, best_of="rate")
    assert text.startswith("20.0 (95 %:")  # 40 at rate 1 and 20 at rate 3, not 41 and 30
    assert losses.best("linear", best_of="rate") == "NT-Xent"
    text = " ".join(losses.cells({"test": "linear"}, best_of="rate").markdown().split())
    assert "| margin | 3" in text
    assert "| NT-Xent | 1" in text


def test_a_table_says_over_how_many_seeds(tmp_path):
    """From the fewest to the most of any value, if they differ."""
    rows = [{"row": r, "seed": s, "v": 1.0 * s, "w": 2.0 * s} for r in "ab" for s in range(12)]
    rows[0]["w"] = rows[1]["w"] = None
    pd.DataFrame(rows).to_csv(tmp_path / "my.csv", index=False)
    shown = table(tmp_path, "my", "row").cells(["v", "w"])
    assert "| a | 12 / 10 |" in " ".join(shown.markdown().split())
    assert shown.seeds == (10, 12)
    assert shown.caption == f"my: mean ± sample standard deviation over n = 10 to 12 seeds; {shown.star}"


def test_a_table_of_one_seed_or_without_a_star_claims_neither(tmp_path):
    """One seed has no spread; no loss is marked."""
    rows = pd.DataFrame([{"row": r, "seed": s, "loss": i + 0.1 * s} for i, r in enumerate("ab") for s in (0, 1)])
    for name, part, caption in (
        ("one", rows[rows["seed"] == 0].rename(columns={"loss": "v"}), "one: one seed."),
        ("two", rows, "two: mean ± sample standard deviation over n = 2 seeds."),
    ):
        part.to_csv(tmp_path / f"{name}.csv", index=False)
        shown = table(tmp_path, name, "row").cells([part.columns[-1]])
        assert shown.caption == caption
        assert shown.markdown().endswith("|")


def test_the_best_of_an_error_is_the_lowest(tmp_path):
    """If the evaluation states it, in the settings beside the table."""
    value = "mine_test_error_recalibrated"
    rows = [{"first": f, "second": "x", "seed": s, "training": "t", value: v + s} for f, v in (("a", 10), ("b", 90))
            for s in (0, 1)]  # fmt: skip
    csv = tmp_path / "q-tiny.csv"
    pd.DataFrame(rows).to_csv(csv, index=False)
    path_of(csv).write_bytes(
        Settings(name="q", scale="tiny", measures={"mine": {"test_error": ("%", "lowest")}}).content(csv)
    )
    mine = table(tmp_path, "q-tiny", "first", "second")
    assert mine.best(value) == "a + x"
    assert mine.cells([value], by=["first"]).frame[value].str.endswith("*").tolist() == [True, False]
    assert mine.heatmap(value, "Errors").cells["best"].tolist() == [True, False]


def test_a_table_says_among_which_cells_a_star_marks_the_best(tmp_path):
    """Two rows far apart: within its row, the best of the low one has a star too; a lone cell has none, and
    without a star none is explained."""
    values = {("a", "x"): 10, ("a", "y"): 20, ("b", "x"): 110, ("b", "y"): 120}
    rows = [{"row": r, "my_column": c, "seed": s, "v": v + s} for (r, c), v in values.items() for s in (0, 1)]
    pd.DataFrame(rows).to_csv(tmp_path / "my.csv", index=False)
    my = table(tmp_path, "my", "row", "my_column")
    for within, starred, said in (
        (None, ["b"], "|\n\n\\* not significantly different from the best (Hsu, 95 %)."),
        (["row"], ["a", "b"], "|\n\n\\* not significantly different from the best with the same row (Hsu, 95 %)."),
        (["row", "my_column"], [], "|"),
    ):
        shown = my.cells(["v"], within=within)
        assert shown.frame["row"][shown.frame["v"].str.endswith("*")].tolist() == starred
        assert shown.markdown().endswith(said)


def test_rank_is_that_of_the_published_rows(tmp_path):
    """Table 4 itself, backwards, and with the first two exchanged: of ten pairs, nine are in order."""
    published = reference_table("simclr_table4_losses")
    values = published["value"].tolist()
    exchanged = [values[1], values[0], *values[2:]]
    for column, start in ((values, "Kendall 1.00"), (values[::-1], "Kendall -1.00"), (exchanged, "Kendall 0.80")):
        written = pd.concat(
            pd.DataFrame({"objective": published["objective"], "seed": s, "linear_test_top1_recalibrated": column})
            for s in (0, 1)
        )
        written.to_csv(tmp_path / "losses.csv", index=False)
        text = table(tmp_path, "losses").rank("linear", "objective", "simclr_table4_losses")
        assert text.startswith(f"{start} over 5 rows, one-sided p ")
    rest = table(tmp_path, "losses").rank(
        "linear", "objective", "simclr_table4_losses", leave_out=tuple(published["objective"][:1])
    )
    assert rest.startswith("Kendall 1.00 over 4 rows")  # the swapped pair has lost one of its two
    assert text.endswith("p 0.042")  # five of the 120 orders have at most one pair out of order


def test_a_trend_is_a_slope_in_steps(tmp_path):
    """A line of two points a step, on a log axis; seeds one apart: variance a half, three cells, slope error 0.354."""
    rows = [{"z": z, "seed": s, "v": 10 + 2 * i + s} for i, z in enumerate((32, 64, 128)) for s in (0, 1)]
    pd.DataFrame(rows).to_csv(tmp_path / "my.csv", index=False)
    reach = 3.182 * (0.5 / 2 / 2) ** 0.5
    text = table(tmp_path).trend("v", "z", [32, 64, 128], digits=2)
    assert text == f"2.00 (95 %: {2 - reach:.2f} to {2 + reach:.2f})"


def test_agreement_with_another_grid_of_the_table(tmp_path):
    """A grid agrees fully with itself, and not at all with its negative."""
    published = reference_table("simclr_figure5_pairs").rename(columns={"value": "v"})
    parts = {"same": published, "again": published, "turned": published.assign(v=-published["v"])}
    pd.concat(part.assign(method=name, seed=0) for name, part in parts.items()).to_csv(tmp_path / "my.csv", index=False)
    same = table(tmp_path).where(method="same")
    for other, expected in (("again", "1.00"), ("turned", "-1.00")):
        assert same.agreement("v", reference={"method": other})["spearman"] == expected
    assert table(tmp_path).agreement("v", method="turned")["spearman"] == "-1.00"


def test_two_cells_of_the_same_seeds(tmp_path):
    """By hand: differences 1, 2 and 6 over three seeds: mean 3, error sqrt(7 / 3), t 4.303."""
    values = {"best": [11, 12, 16], "default": [10, 10, 10]}
    rows = [{"settings": s, "seed": i, "v": v} for s, vs in values.items() for i, v in enumerate(vs)]
    pd.DataFrame(rows).to_csv(tmp_path / "my.csv", index=False)
    reach = 4.3027 * (7 / 3) ** 0.5
    text = table(tmp_path).paired("v", "settings", "best", "default", digits=2)
    assert text == f"3.00 (95 %: {3 - reach:.2f} to {3 + reach:.2f})"
    assert table(tmp_path).largest("v", settings="best") == "16.0"


def test_each_label_against_a_control(tmp_path):
    """By hand: three cells of three seeds, variance 1 on six degrees of freedom; Dunnett's two-sided t for two
    comparisons is 2.86."""
    means = {"control": 20, "better": 24, "worse": 15, "same": 20}
    rows = [{"o": o, "seed": s, "v": mean + s} for o, mean in means.items() for s in range(3) if o != "same"]
    pd.DataFrame(rows).to_csv(tmp_path / "my.csv", index=False)
    better, worse = table(tmp_path).against("v", "o", "control", digits=2)
    reach = 2.86 * (2 / 3) ** 0.5
    assert (better["label"], better["effect"]) == ("better", "gain")
    assert better["difference"] == f"4.00 (95 %: {4 - reach:.2f} to {4 + reach:.2f})"
    assert (worse["label"], worse["effect"]) == ("worse", "loss")
    rows += [{"o": "same", "seed": s, "v": 20 + s} for s in range(3)]
    pd.DataFrame(rows).to_csv(tmp_path / "my.csv", index=False)
    assert table(tmp_path).against("v", "o", "control")[1]["effect"] == "none"


def test_how_early_a_search_is_known(tmp_path):
    """Epoch 1 orders the ten trials backwards, epoch 2 as their values; only the first seed counts."""
    rows = [
        {
            "sampler": "tpe",
            "trial": t,
            "seed": s,
            "epoch": e,
            "value": t,
            "validation_knn": (-t, t)[e - 1] * (1 - 2 * s),
        }
        for t in range(10)
        for s in (0, 1)
        for e in (1, 2)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "my-curves.csv", index=False)
    pd.DataFrame({"trial": range(10), "seed": 0}).to_csv(tmp_path / "my.csv", index=False)
    assert table(tmp_path).early(1).startswith("-1.00 (")
    assert table(tmp_path).early(2) == "1.00 (95 %: 1.00 to 1.00)"


def test_two_crossed_coordinates(tmp_path):
    """By hand: effects of rows -2, 2 and columns -1, 1, so variances 8 and 2, with little noise. Four points in one
    corner move the interactions by 1, so their variance is 4 x 1 over one degree of freedom."""
    values = {("a", "x"): 10, ("a", "y"): 12, ("b", "x"): 14, ("b", "y"): 16}
    rows = [
        {"row": r, "column": c, "seed": s, "v": v + noise, "w": v + noise + 4 * (r == "b" and c == "y")}
        for (r, c), v in values.items()
        for s, noise in enumerate((0.001, 0.0, -0.001) if c == "x" else (-0.001, 0.002, -0.001))
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "my.csv", index=False)
    my = table(tmp_path)
    found = my.two_way("v", "row", "column")
    assert found["rows"].startswith("2.8 (95 %: 2.8 to 2.8")
    assert found["columns"].startswith("1.4 (95 %: 1.4 to 1.4")
    assert found["interaction"].startswith("0.0")
    assert (found["cells"], found["apart"]) == ("4", "0")
    found = my.two_way("w", "row", "column", digits=2)
    assert found["interaction"].startswith("2.00 (95 %: 2.00 to 2.00")
    assert found["apart"] == "4"


def test_correlations_of_grids(tmp_path):
    """Two methods whose cells rise together, and one whose cells fall; the noise is a tenth of the cells' spread."""
    noise = [0.1, -0.2, 0.1, 0.3, -0.3, 0.0, 0.2, -0.1, -0.1, 0.2]
    rows = [
        {"method": m, "cell": str(c), "seed": s, "v": slope * c + (-1) ** s * noise[(c + shift) % 10]}
        for m, slope, shift in (("one", 1, 0), ("two", 1, 3), ("falling", -1, 5))
        for c in range(10)
        for s in range(2)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "my.csv", index=False)
    same, other, _ = table(tmp_path).correlations("v", "method", ["cell"])
    assert (same["one"], same["other"], same["observed"]) == ("one", "two", "1.00")
    assert same["corrected"].startswith("1.00 (95 %: ")
    assert float(same["p"]) > 0.9
    assert other["observed"] == "-1.00"
    assert float(other["p"]) < 1e-6
