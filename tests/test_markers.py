"""What the markers of a report say, against numbers worked by hand."""

import pandas as pd
import pytest

from ablation.markers import Markers
from ablation.references import reference_table
from ablation.specs import InvalidSpec


def markers(folder):
    return Markers(folder / "report" / "report.md", folder)


def test_a_gap_is_of_cells_or_of_their_means(tmp_path):
    """By hand: four cells of two seeds one apart, so the pooled variance is a half on four degrees of freedom."""
    values = {("a", "x"): 10, ("a", "y"): 20, ("b", "x"): 13, ("b", "y"): 27}
    rows = [{"row": r, "column": c, "seed": s, "v": v + s} for (r, c), v in values.items() for s in (0, 1)]
    pd.DataFrame(rows).to_csv(tmp_path / "my.csv", index=False)
    report = markers(tmp_path)
    reach = 2.776 * (0.5 / 2 + 0.5 / 2) ** 0.5
    said = report.gap("my", "v", {"row": "b", "column": "y"}, {"row": "a", "column": "y"}, digits=2)
    assert said == f"7.00 (95 %: {7 - reach:.2f} to {7 + reach:.2f})"
    said = report.gap("my", "v", {"row": "b"}, {"row": "a"}, ["row", "column"], digits=2)
    assert said == f"5.00 (95 %: {5 - reach / 2**0.5:.2f} to {5 + reach / 2**0.5:.2f})"
    few = [{"row": "b", "column": "y"}, {"row": "a", "column": "x"}]
    said = report.gap("my", "v", few, {"row": "a", "column": "y"}, digits=1)
    assert said.startswith("-1.5 (")  # (27 + 10) / 2 - 20
    with pytest.raises(InvalidSpec, match="the columns row must tell the cells of the table apart"):
        report.gap("my", "v", {"row": "b"}, {"row": "a"})


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
    return markers(folder)


def test_the_envelope_is_chosen_on_validation_images(tmp_path):
    report = rates(tmp_path)
    said = report.gap("losses", "linear", {"loss": "NT-Xent"}, {"loss": "margin"}, best_of="rate")
    assert said.startswith("20.0 (95 %:")  # 40 at rate 1 and 20 at rate 3, not 41 and 30
    assert report.best("losses", "linear", ["loss"], best_of="rate") == "NT-Xent"
    shown = report.cells("losses", ["loss", "rate"], {"test": "linear"}, best_of="rate")
    assert "| margin | 3" in " ".join(shown.split())
    assert "| NT-Xent | 1" in " ".join(shown.split())


def test_a_table_says_over_how_many_seeds(tmp_path):
    """From the fewest to the most of any value, where they differ."""
    rows = [{"row": r, "seed": s, "v": 1.0 * s, "w": 2.0 * s} for r in "ab" for s in range(12)]
    rows[0]["w"] = rows[1]["w"] = None
    pd.DataFrame(rows).to_csv(tmp_path / "my.csv", index=False)
    report = markers(tmp_path)
    shown = report.cells("my", ["row"], {"v": "v", "w": "w"})
    assert "| a | 12 / 10 |" in " ".join(shown.split())
    assert [seeds for _, _, seeds in report.shown] == ["10 to 12"]


def test_rank_is_that_of_the_published_rows(tmp_path):
    """Table 4 itself, backwards, and with the first two exchanged: of ten pairs, nine are in order."""
    published = reference_table("simclr_table4_losses")
    values = published["value"].tolist()
    exchanged = [values[1], values[0], *values[2:]]
    for column, start in ((values, "Kendall 1.00"), (values[::-1], "Kendall -1.00"), (exchanged, "Kendall 0.80")):
        table = pd.concat(
            pd.DataFrame({"objective": published["objective"], "seed": s, "linear_test_top1_recalibrated": column})
            for s in (0, 1)
        )
        table.to_csv(tmp_path / "losses.csv", index=False)
        said = markers(tmp_path).rank("losses", "linear", "objective", "simclr_table4_losses")
        assert said.startswith(f"{start} over 5 rows, one-sided p ")
    rest = markers(tmp_path).rank(
        "losses", "linear", "objective", "simclr_table4_losses", leave_out=tuple(published["objective"][:1])
    )
    assert rest.startswith("Kendall 1.00 over 4 rows")  # the exchanged pair has lost one of its two
    assert said.endswith("p 0.042")  # five of the 120 orders have at most one pair out of order


def test_a_trend_is_a_slope_in_steps(tmp_path):
    """A line of two points a step, on a log axis; seeds one apart: variance a half, three cells, slope error 0.354."""
    rows = [{"z": z, "seed": s, "v": 10 + 2 * i + s} for i, z in enumerate((32, 64, 128)) for s in (0, 1)]
    pd.DataFrame(rows).to_csv(tmp_path / "my.csv", index=False)
    reach = 3.182 * (0.5 / 2 / 2) ** 0.5
    said = markers(tmp_path).trend("my", "v", "z", [32, 64, 128], digits=2)
    assert said == f"2.00 (95 %: {2 - reach:.2f} to {2 + reach:.2f})"


def test_agreement_with_another_grid_of_the_table(tmp_path):
    """A grid agrees with itself fully, and with its negative not at all."""
    published = reference_table("simclr_figure5_pairs").rename(columns={"value": "v"})
    parts = {"same": published, "again": published, "turned": published.assign(v=-published["v"])}
    pd.concat(part.assign(method=name, seed=0) for name, part in parts.items()).to_csv(tmp_path / "my.csv", index=False)
    report = markers(tmp_path)
    for other, expected in (("again", 1), ("turned", -1)):
        assert report.agreement("my", "v", {"method": other}, method="same").spearman == pytest.approx(expected)
    assert report.agreement("my", "v", method="turned").kendall == pytest.approx(-1)


def test_two_cells_of_the_same_seeds(tmp_path):
    """By hand: differences 1, 2 and 6 over three seeds: mean 3, error sqrt(7 / 3), t 4.303."""
    values = {"best": [11, 12, 16], "default": [10, 10, 10]}
    rows = [{"settings": s, "seed": i, "v": v} for s, vs in values.items() for i, v in enumerate(vs)]
    pd.DataFrame(rows).to_csv(tmp_path / "my.csv", index=False)
    reach = 4.3027 * (7 / 3) ** 0.5
    said = markers(tmp_path).paired("my", "v", "settings", "best", "default", digits=2)
    assert said == f"3.00 (95 %: {3 - reach:.2f} to {3 + reach:.2f})"
    assert markers(tmp_path).largest("my", "v", settings="best") == "16.0"


def test_how_early_a_search_is_known(tmp_path):
    """Epoch 1 orders the ten trials backwards, epoch 2 as their values; only the first seed is looked at."""
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
    assert markers(tmp_path).early("my", 1).startswith("-1.00 (")
    assert markers(tmp_path).early("my", 2) == "1.00 (95 %: 1.00 to 1.00)"
