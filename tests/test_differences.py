"""Differences from a control with simultaneous intervals."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ablation.analysis.statistics import against_control
from ablation.analysis.statistics.comparisons import dunnett
from ablation.plots import Differences
from ablation.spec import InvalidSpec

VALUE = "linear_test_top1_recalibrated"


def table(cells: dict[str, list[float]]) -> pd.DataFrame:
    return pd.DataFrame(
        [{"operator": name, "seed": seed, VALUE: x} for name, xs in cells.items() for seed, x in enumerate(xs)]
    )


@pytest.mark.parametrize(
    ("others", "freedom", "expected"), [(1, 10, 2.23), (2, 10, 2.57), (5, 10, 2.99), (2, math.inf, 2.21)]
)
def test_dunnetts_two_sided_table(others, freedom, expected):
    """Dunnett 1964, Table II: 95 %, equal groups; of one comparison Student's t."""
    assert dunnett(np.full(others, math.sqrt(0.5)), freedom, 0.95, two_sided=True) == pytest.approx(expected, abs=0.02)


def test_intervals_are_scipys():
    """Unequal groups; pools the spread if Bartlett's test finds no difference."""
    generator = np.random.default_rng(3)
    groups = {name: list(generator.normal(mean, 1, n)) for name, mean, n in (("a", 50, 4), ("b", 52, 3), ("c", 49, 6))}
    theirs = stats.dunnett(groups["b"], groups["c"], control=groups["a"], rng=np.random.default_rng(0))
    ends = theirs.confidence_interval(0.95)
    found = against_control(table(groups), "operator", VALUE, "a")
    assert found["operator"].tolist() == ["b", "c"]
    np.testing.assert_allclose(found["low"], ends.low, atol=0.05)
    np.testing.assert_allclose(found["high"], ends.high, atol=0.05)
    np.testing.assert_allclose(found["difference"], [np.mean(groups[n]) - np.mean(groups["a"]) for n in "bc"])


def test_together_they_cover():
    """Ten cells equal to the control, three seeds: all intervals hold 0 in 95 % of 20,000 tables, within 4.5 errors."""
    values = np.random.default_rng(5).standard_normal((20_000, 11, 3))
    mean, sd = values.mean(2), np.sqrt(values.var(2, ddof=1).mean(1))
    q = dunnett(np.full(10, math.sqrt(0.5)), 22, 0.95, two_sided=True)
    covered = (np.abs(mean[:, 1:] - mean[:, :1]) <= q * sd[:, None] * math.sqrt(2 / 3)).all(1).mean()
    assert abs(covered - 0.95) < 4.5 * math.sqrt(0.95 * 0.05 / 20_000)


def test_one_seed_has_no_interval_and_an_unknown_control_is_named():
    found = against_control(table({"a": [50.0], "b": [52.0]}), "operator", VALUE, "a")
    assert found["difference"].tolist() == [2.0]
    assert found[["low", "high"]].isna().all(axis=None)
    with pytest.raises(InvalidSpec, match=r"'operator'.*'z'.*'a'"):
        against_control(table({"a": [50.0], "b": [52.0]}), "operator", VALUE, "z")


def test_the_figure_shows_the_largest_gain_first():
    data = table({"alone": [50.0, 50.2, 49.8], "noise": [40.0, 40.3, 39.7], "blur": [53.0, 53.2, 52.8]})
    figure = Differences(rows="operator", against="alone", values=(VALUE,))
    axis = figure.draw(data).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["blur", "noise"]
    points = [line for line in axis.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in points] == pytest.approx([3.0, -10.0])
    assert all(line.get_markerfacecolor() != "white" for line in points)
    assert "Difference to alone" in figure.text(data)
    assert figure.text(data).index("blur") < figure.text(data).index("noise")
