"""Statistics against scipy, numbers worked by hand, and simulated data. Simulations are seeded; without a seed, each
would fail falsely with its stated probability."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ablation.analysis.references import reference_table
from ablation.analysis.statistics import (
    agreement,
    among_best,
    calibration,
    difference_of_groups,
    factorial,
    grid_correlations,
    interval,
    mcnemar,
    order_effects,
    seed_and_image_variance,
    seed_correlation,
    seeds_needed,
    spread,
    trend,
    two_way,
)
from ablation.analysis.statistics.agreement import composition, marginals
from ablation.analysis.statistics.comparisons import _seeds, difference, dunnett, holm
from ablation.analysis.statistics.spread import _prior
from ablation.analysis.tables import numbers, read_table
from ablation.spec import InvalidSpec

SIMULATIONS = 20_000
Z = 4.5  # two-sided, a false alarm with probability 7e-6


def rows(values: dict[str, list[float]]) -> pd.DataFrame:
    return pd.DataFrame({"cell": c, "seed": i, "v": x} for c, xs in values.items() for i, x in enumerate(xs))


def grid(labels, value, seeds=(0.0,)) -> pd.DataFrame:
    """A pairwise table with value(i, j) plus a number per seed."""
    return pd.DataFrame(
        {"first": labels[i], "second": labels[j], "seed": s, "v": value(i, j) + more}
        for i, j in itertools.product(range(len(labels)), repeat=2)
        for s, more in enumerate(seeds)
    )


# --------------------------------------------------------------------------------------------------
# Spread


def test_pooled_spread_by_hand():
    found = spread(rows({"a": [0, 2], "b": [0, 3, 6], "c": [5]}), ["cell"], "v")
    assert found.sd == pytest.approx(math.sqrt((2 * 1 + 9 * 2) / 3))
    assert found.freedom == 3
    assert found.cells["error"].tolist() == pytest.approx([found.sd / math.sqrt(n) for n in (2, 3, 1)])
    assert not found.moderated


def test_equality_is_bartletts():
    """With eight values a cell the simulated p is scipy's approximate one."""
    generator = np.random.default_rng(11)
    values = {"a": generator.normal(0, 1, 8), "b": generator.normal(0, 2, 8), "c": generator.normal(0, 1.5, 8)}
    expected = stats.bartlett(*values.values()).pvalue
    assert spread(rows(values), ["cell"], "v").equal == pytest.approx(expected, abs=0.03)


def test_equality_is_calibrated_at_two_seeds():
    """Accuracies in steps of 0.2 points, where two seeds often agree: rejected in 5 % of 300 tables, within 5 to the
    false-alarm rate of 1e-4 (at most 10.7 %)."""
    generator = np.random.default_rng(12)
    found = [
        spread(rows({str(i): np.round(5 * generator.normal(40, 1.4, 2)) / 5 for i in range(49)}), ["cell"], "v")
        for _ in range(300)
    ]
    assert np.mean([f.moderated for f in found]) < 0.107


def test_cells_of_the_same_runs_count_once():
    """A baseline shared by two axes runs once: its copy adds no degrees of freedom, and its error stays."""
    table = rows({"a": [0, 2], "b": [10, 14], "copy of a": [0, 2]})
    alone = spread(table[table["cell"] != "copy of a"], ["cell"], "v")
    found = spread(table.assign(training=["r0", "r1", "r2", "r3", "r0", "r1"]), ["cell"], "v")
    assert (found.sd, found.freedom) == (alone.sd, alone.freedom) == (pytest.approx(math.sqrt((2 + 8) / 2)), 2)
    assert found.cells["error"].nunique() == 1
    part = rows({"some of c": [0, 2], "c": [0, 2, 4]}).assign(training=["r0", "r1", "r0", "r1", "r2"])
    assert (spread(part, ["cell"], "v").sd, spread(part, ["cell"], "v").freedom) == (2, 2)  # of c alone
    others = spread(table.assign(training=list("uvwxyz")), ["cell"], "v")
    assert others.freedom == 3  # equal numbers from other runs are not copies


def test_one_seed_has_no_spread():
    found = spread(rows({"a": [1.0], "b": [2.0]}), ["cell"], "v")
    assert math.isnan(found.sd)
    assert found.cells["error"].isna().all()
    assert all(map(math.isnan, interval(1.0, math.nan, math.nan)))
    assert among_best(rows({"a": [1.0], "b": [2.0]}), ["cell"], "v")["among_best"].isna().all()


def test_different_spreads_are_moderated():
    """Shrunk towards each other, in their order; equal ones are replaced by the pooled one."""
    generator = np.random.default_rng(0)
    values = {f"{i}": list(generator.normal(0, 1 if i < 10 else 8, 4)) for i in range(20)}
    found = spread(rows(values), ["cell"], "v")
    assert found.equal < 1e-3
    assert found.moderated
    own, used = found.cells["sd"], found.cells["error"] * 2
    assert used.min() > own.min()
    assert used.max() < own.max()
    assert (used.rank() == own.rank()).all()
    assert 3 < found.freedom <= 60


def test_the_prior_of_moderation_is_recovered():
    """From 20,000 variances with d0 = 6 and s0 = 2: s^2 = s0^2 / (chi2_6 / 6) * chi2_2 / 2, within 10 %."""
    generator = np.random.default_rng(1)
    variances = 4 / (generator.chisquare(6, SIMULATIONS) / 6) * generator.chisquare(2, SIMULATIONS) / 2
    freedom, prior = _prior(variances, np.full(SIMULATIONS, 2.0))
    assert freedom == pytest.approx(6, rel=0.1)
    assert prior == pytest.approx(4, rel=0.1)


def coverage(draw, cells: int, seeds: int) -> tuple[float, float]:
    """Of the 95 % interval of one cell's mean (true mean 0), the spread pooled over the cells; with standard error."""
    values = draw((SIMULATIONS, cells, seeds))
    sd = np.sqrt(values.var(2, ddof=1).mean(1))
    reach = interval(0.0, 1.0, cells * (seeds - 1))[1] * sd / math.sqrt(seeds)
    share = float((np.abs(values[:, 0].mean(1)) < reach).mean())
    one = spread(rows({str(i): list(each) for i, each in enumerate(values[0])}), ["cell"], "v")
    if not one.moderated:  # the vectorized simulation equals `spread`
        assert one.cells["error"][0] == pytest.approx(sd[0] / math.sqrt(seeds))
    return share, math.sqrt(share * (1 - share) / SIMULATIONS)


@pytest.mark.parametrize(("cells", "seeds"), [(1, 3), (1, 5), (8, 2), (49, 2), (49, 3)])
def test_coverage_of_intervals(cells, seeds):
    """Normal: 95 %, within 4.5 standard errors (0.7 points). Skewed (exponential, skewness 2): between 91 and 97 %
    where the spread is pooled, no less than 87 % from one cell's own three seeds."""
    generator = np.random.default_rng(2)
    normal, error = coverage(generator.standard_normal, cells, seeds)
    assert abs(normal - 0.95) < Z * error
    skewed, _ = coverage(lambda shape: generator.standard_exponential(shape) - 1, cells, seeds)
    assert (0.91 if cells > 1 else 0.87) < skewed < 0.97


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spreads", "seeds", "least"),
    [([1.0] * 49, 2, 0.95), ([1.0] * 49, 3, 0.95), ([1.0] * 25 + [4.0] * 24, 2, 0.91)],
    ids=["49 x 2", "49 x 3", "half of them four times as wide"],
)
def test_coverage_of_the_errors_that_are_reported(spreads, seeds, least):
    """Through `spread` itself, 20,000 intervals from 409 normal tables. Equal spreads: 95 %, within four and a half
    standard errors between tables, at most a point; unequal ones, which are moderated: at least 91 %, at most 95 %."""
    generator = np.random.default_rng(8)
    shares = []
    for _ in range(409):
        values = generator.standard_normal((len(spreads), seeds)) * np.array(spreads)[:, None]
        found = spread(rows({str(i): list(each) for i, each in enumerate(values)}), ["cell"], "v")
        reach = interval(0.0, 1.0, found.freedom)[1] * found.cells["error"]
        shares.append((found.cells["mean"].abs() < reach).mean())
    within = Z * np.std(shares) / math.sqrt(len(shares))
    assert within < 0.01
    assert least - within < np.mean(shares) < 0.95 + within


def test_seeds_have_effects_of_their_own_or_not():
    generator = np.random.default_rng(3)

    def table(of_seed):
        shift = generator.normal(0, of_seed, 6) if of_seed else np.zeros(6)
        return rows({f"{i}": list(generator.normal(i, 1, 6) + shift) for i in range(40)})

    together, apart = (seed_correlation(table(s), ["cell"], "v") for s in (1.0, 0.0))
    assert together.p < 1e-6
    assert 0.2 < together.correlation < 0.8
    assert together.sd == pytest.approx(1, abs=0.2)
    assert apart.p > 1e-4
    assert abs(apart.correlation) < 0.15
    assert (apart.cells, apart.seeds) == (40, 6)


# --------------------------------------------------------------------------------------------------
# Comparisons


@pytest.mark.parametrize(
    ("others", "freedom", "expected"),
    [
        (1, 10, 1.81),
        (2, 10, 2.15),
        (3, 10, 2.34),
        (5, 10, 2.56),
        (2, 5, 2.44),
        (2, math.inf, 1.92),
        (9, math.inf, 2.42),
    ],
)
def test_dunnetts_table(others, freedom, expected):
    """Dunnett 1955, Table 1a: one-sided, 95 %."""
    assert dunnett(np.full(others, math.sqrt(0.5)), freedom, 0.95) == pytest.approx(expected, abs=0.006)


def test_unequal_cells_against_scipy():
    """scipy's Dunnett test of unequal groups: the largest statistic has the p-value that our quantile says."""
    generator = np.random.default_rng(4)
    control, groups = generator.normal(0, 1, 4), [generator.normal(1, 1, n) for n in (3, 7, 5)]
    theirs = stats.dunnett(*groups, control=control, alternative="greater", rng=np.random.default_rng(0))
    loadings = np.array([math.sqrt((1 / 4) / (1 / 4 + 1 / len(g))) for g in groups])
    freedom = len(control) + sum(map(len, groups)) - 4
    q = dunnett(loadings, freedom, 1 - theirs.pvalue.min())
    assert q == pytest.approx(theirs.statistic.max(), rel=0.01)


@pytest.mark.parametrize("draw", ["standard_normal", "standard_exponential"])
def test_the_best_is_marked(draw):
    """Five equal cells of three seeds, the hardest case: each is marked in 95 % (normal, within 4.5 standard errors;
    skewed, at least 93 %)."""
    values = getattr(np.random.default_rng(5), draw)((SIMULATIONS, 5, 3))
    mean, sd = values.mean(2), np.sqrt(values.var(2, ddof=1).mean(1))
    q = dunnett(np.full(4, math.sqrt(0.5)), 10, 0.95)
    share = (mean[:, 0] - mean[:, 1:].max(1) + q * sd * math.sqrt(2 / 3) > 0).mean()
    for each in values[:50]:  # the vectorized simulation equals `among_best`
        found = among_best(rows({str(i): list(seeds) for i, seeds in enumerate(each)}), ["cell"], "v")
        if not spread(rows({str(i): list(seeds) for i, seeds in enumerate(each)}), ["cell"], "v").moderated:
            own = each.mean(1)[0] - each.mean(1)[1:].max() + q * math.sqrt(each.var(1, ddof=1).mean() * 2 / 3)
            assert found["among_best"][0] == (own > 0)
    if draw == "standard_normal":
        assert abs(share - 0.95) < Z * math.sqrt(0.95 * 0.05 / SIMULATIONS)
    assert share > 0.93


def test_among_best_by_hand():
    """Spread 1 in every cell, n = 3, 4 cells: 8 degrees of freedom, q = 2.42 (Dunnett 1955), reach 1.98."""
    seeds = np.array([-1.0, 0.0, 1.0])
    found = among_best(
        rows({c: list(m + seeds) for c, m in {"a": 10, "b": 8.2, "c": 7.9, "d": 5}.items()}), ["cell"], "v"
    )
    assert found.set_index("cell")["among_best"].tolist() == [True, True, False, False]
    reach = 2.42 * math.sqrt(2 / 3)
    assert found["reach"].tolist() == pytest.approx([1.8 + reach, reach - 1.8, reach - 2.1, reach - 5], abs=0.01)


def test_order_effects_by_hand():
    """(a, b) is one point above (b, a); the spread is sqrt(2) at n = 2, so the error is sqrt(2)."""
    table = grid(["a", "b", "rotate", "noise"], lambda i, j: 1.0 * (i < j == 1), seeds=(-1.0, 1.0))
    found = order_effects(table, "v", {frozenset(("rotate", "noise"))}).set_index(["one", "other"])
    assert len(found) == 6
    assert found.loc[("a", "b"), "difference"] == 1
    assert found.loc[("a", "b"), "error"] == pytest.approx(math.sqrt(2))
    assert found.loc[("a", "b"), "p"] == pytest.approx(2 * stats.t.sf(1 / math.sqrt(2), 16))
    assert found["commutes"].tolist() == [False] * 5 + [True]
    assert found.loc[("a", "rotate"), "p_holm"] == 1


def test_holm_by_hand():
    assert holm(np.array([0.04, 0.01, math.nan, 0.03])) == pytest.approx([0.06, 0.03, math.nan, 0.06], nan_ok=True)


def test_calibration_is_calibrated():
    """Under the law p is uniform: 300 grids, Kolmogorov-Smirnov p above 1e-4. With a real difference p is small."""
    generator = np.random.default_rng(6)
    labels = ["rotate", "blur", "noise", "color"]
    commuting = {frozenset(("rotate", other)) for other in labels[1:]}

    def p(shift):
        table = grid(labels, lambda i, j: shift * (i == 0), seeds=(0.0, 0.0))
        table = table.assign(v=table["v"] + generator.normal(0, 1, len(table)))
        return calibration(order_effects(table, "v", commuting))["p"]

    assert stats.kstest([p(0.0) for _ in range(300)], "uniform").pvalue > 1e-4
    assert np.median([p(6.0) for _ in range(20)]) < 1e-3


def test_a_difference_of_groups():
    """Forty cells a group, two seeds two apart. The error is that of the cells' spread; where one seed favours a
    whole group by thirty points it comes from the seeds' differences, with 1 degree of freedom."""

    def table(favour):
        values = {("a", i): [10.0 + i - 1, 10.0 + i + 1 + favour] for i in range(40)}
        values |= {("b", i): [0.0 + i - 1, 0.0 + i + 1] for i in range(40)}
        return pd.DataFrame(
            {"group": g, "cell": i, "seed": s, "v": x} for (g, i), xs in values.items() for s, x in enumerate(xs)
        )

    def found(favour):
        each = spread(table(favour), ["group", "cell"], "v")
        one, other = (each.cells[each.cells["group"] == g] for g in "ab")
        return each, difference_of_groups(each, table(favour), "v", one, other)

    each, alike = found(0.0)
    assert alike["difference"] == 10
    assert alike["error"] == pytest.approx(each.sd * math.sqrt(1 / 2 * 2 / 40))
    _, favoured = found(30.0)
    assert favoured["difference"] == 25
    assert favoured["error"] == pytest.approx(15)  # differences 10 and 40 over two seeds
    assert favoured["high"] == pytest.approx(25 + 12.706 * 15, abs=0.1)


def test_cells_that_are_not_told_apart_are_refused():
    table = grid(["a", "b", "c"], lambda i, j: i + j, seeds=(0.0, 1.0))
    for function in (spread, among_best, seed_correlation):
        with pytest.raises(InvalidSpec, match="the columns first must identify the cells"):
            function(table, ["first"], "v")


def test_a_column_of_text_is_refused_with_the_cure(tmp_path):
    """As read_table returns it; the cure restores the numbers."""
    table = grid(["a", "b", "c"], lambda i, j: i + j, seeds=(0.0, 1.0))
    table.to_csv(tmp_path / "t.csv", index=False)
    read = read_table(tmp_path / "t.csv")
    for function in (spread, among_best, seed_correlation, order_effects):
        by = () if function is order_effects else (["first", "second"],)
        with pytest.raises(InvalidSpec, match=r"the column 'v' must hold numbers, but holds text .*numbers\(table, "):
            function(read, *by, "v")
    assert spread(numbers(read, ["v"]), ["first", "second"], "v").sd == spread(table, ["first", "second"], "v").sd


def test_the_smallest_number_of_seeds_is_found():
    """n - 1 has less than the requested power, also beyond fifty."""
    for difference_, sd in ((0.5, 1.0), (0.4, 1.0), (0.2, 1.0), (0.1, 0.5)):
        n = _seeds(difference_, sd, 0.8, 0.95)

        def power(n, d=difference_, sd=sd):
            critical, shift = stats.t.ppf(0.975, 2 * n - 2), d / (sd * math.sqrt(2 / n))
            return stats.nct.sf(critical, 2 * n - 2, shift)

        assert power(n) >= 0.8 > power(n - 1)
    assert n > 300


def test_seeds_needed():
    """A difference of one standard deviation at 80 % power needs 17 (Cohen 1988, table 2.4.1)."""
    low, best, high = seeds_needed(1.0, 1.0, 50)
    assert best == 17
    assert low < best < high
    assert seeds_needed(1.0, 1.0, 4)[2] > high  # few seeds leave the spread open
    assert seeds_needed(100.0, 1.0, 4)[1] == 2


@pytest.mark.parametrize("freedom", [1, 4, 50])
def test_seeds_needed_grow_with_the_spread(freedom):
    found = [seeds_needed(1.0, sd, freedom) for sd in np.geomspace(1e-16, 1, 60)]
    assert all(low <= best <= high for low, best, high in found)
    assert all(np.diff([each[i] for each in found]).min() >= 0 for i in range(3))
    assert found[0][0] == 2


def test_a_difference_is_students_at_equal_n():
    one, other = [1.0, 2.0, 4.0], [3.0, 5.0, 7.0]
    pooled = math.sqrt((np.var(one, ddof=1) + np.var(other, ddof=1)) / 2)
    found = difference(np.mean(one), np.mean(other), pooled / math.sqrt(3), pooled / math.sqrt(3), 4)
    theirs = stats.ttest_ind(one, other)
    assert found["p"] == pytest.approx(theirs.pvalue)
    assert (found["low"], found["high"]) == pytest.approx(theirs.confidence_interval())


# --------------------------------------------------------------------------------------------------
# Agreement


def figure5() -> pd.DataFrame:
    return reference_table("simclr_figure5_pairs").pivot(index="first", columns="second", values="value")


def test_agreement_with_itself():
    found = agreement(figure5(), figure5())
    assert found.cells == 49
    assert [found.spearman, found.composition_spearman] == pytest.approx([1, 1])
    assert found.spearman_p == found.composition_p == pytest.approx(1 / 5040)
    assert found.trivial_spearman == pytest.approx(0.93, abs=0.005)


def test_agreement_against_scipy_and_missing_cells():
    generator = np.random.default_rng(7)
    ours = figure5() + generator.normal(0, 10, (7, 7))
    whole = agreement(ours, figure5())
    assert whole.spearman == pytest.approx(stats.spearmanr(ours.to_numpy().ravel(), figure5().to_numpy().ravel())[0])
    ours.iloc[2, 3] = np.nan
    partly = agreement(ours, figure5())
    assert partly.cells == 48
    assert math.isnan(partly.spearman_p)


def test_relabelling_is_a_fair_test():
    """Grids of noise agree no better than their relabellings: p is uniform over 200 grids of 5 operators (KS above
    1e-4), also where a grid has strong main effects, which make cells dependent."""
    generator = np.random.default_rng(8)
    labels = list("abcde")

    def noise():
        main = generator.normal(0, 5, 5)
        return pd.DataFrame(generator.normal(0, 1, (5, 5)) + main[:, None] + main, index=labels, columns=labels)

    found = [agreement(noise(), noise()) for _ in range(200)]
    for name in ("spearman_p", "composition_p"):
        assert stats.kstest([getattr(f, name) for f in found], "uniform").pvalue > 1e-4, name


def test_composition_is_what_an_additive_grid_lacks():
    rows_, columns = np.array([1.0, 5, 9, 2]), np.array([0.0, 3, 1, 7])
    additive = rows_[:, None] + columns
    assert np.nanmax(np.abs(composition(additive))) < 1e-9
    additive[1, 2] += 6
    left = composition(additive)
    assert np.nanargmax(left) == 6
    assert np.nansum(left) == pytest.approx(0)


def test_rounding_of_another_machine_changes_no_p():
    """Accuracies counted in images tie after main effects; ties must not be broken by the last bits of a sum."""
    generator = np.random.default_rng(0)
    labels = list("abcde")
    ours, other = (pd.DataFrame(generator.integers(30, 36, (5, 5)) / 2, labels, labels) for _ in range(2))
    expected = agreement(ours, other)
    for _ in range(5):
        shaken = ours + generator.uniform(-1e-13, 1e-13, (5, 5))
        found = agreement(shaken, other)
        assert (found.composition_p, found.marginals_p) == (expected.composition_p, expected.marginals_p)


def test_singles_and_marginals_are_told_apart_from_pairs():
    """Marginals by hand; a grid whose diagonal alone is turned agrees in its marginals and not in its singles."""
    values = np.array([[9.0, 1, 2], [3, 9, 4], [5, np.nan, 9]])
    assert marginals(values).tolist() == pytest.approx([(1 + 2 + 3 + 5) / 4, (1 + 3 + 4) / 3, (2 + 4 + 5) / 3])
    labels = list("abcde")
    ours = pd.DataFrame(np.add.outer(np.arange(5.0), 10 * np.arange(5.0)), labels, labels)
    turned = ours.where(~np.eye(5, dtype=bool), -ours)
    found = agreement(ours, turned)
    assert (found.singles_spearman, found.marginals_spearman) == (pytest.approx(-1), pytest.approx(1))
    assert (found.singles_p, found.marginals_p) == (pytest.approx(1), pytest.approx(1 / math.factorial(5)))


def test_other_labels_are_an_error_with_both_lists():
    other = figure5().rename(index=str.upper, columns=str.upper)
    with pytest.raises(InvalidSpec, match=r"the grid has \['BLUR', .* and the reference \['blur'"):
        agreement(other, figure5())


def test_trend_by_hand():
    """Least squares through 1, 2, 4, 5 has slope 1.4; its error at error 1 a point is 1 / sqrt(5)."""
    found = trend([1, 2, 4, 5], [1, 1, 1, 1], 12, [8, 6, 4, 2])
    assert found["slope"] == pytest.approx(1.4)
    assert found["error"] == pytest.approx(1 / math.sqrt(5))
    assert found["p"] == pytest.approx(2 * stats.t.sf(1.4 * math.sqrt(5), 12))
    assert found["reference_slope"] == -2


# --------------------------------------------------------------------------------------------------
# Effects


def subsets(value, count, seeds=(-1.0, 1.0)):
    names = "abcde"[:count]
    return pd.DataFrame(
        {**dict(zip(names, on, strict=True)), "seed": s, "v": value(*on) + more}
        for on in itertools.product((0, 1), repeat=count)
        for s, more in enumerate(seeds)
    )


def test_factorial_by_hand():
    """10 + 4 a + 2 b + 6 ab: main effects 7 and 5, interaction 3; Shapley 4 + 3 and 2 + 3."""
    found = factorial(subsets(lambda a, b: 10 + 4 * a + 2 * b + 6 * a * b, 2), ("a", "b"), "v")
    estimates = {(r.kind, r.effect): r.estimate for r in found.itertuples()}
    expected = {
        ("main", "a"): 7,
        ("main", "b"): 5,
        ("interaction", "a x b"): 3,
        ("shapley", "a"): 7,
        ("shapley", "b"): 5,
    }
    assert estimates == pytest.approx(expected)
    # spread sqrt(2), n = 2, so each cell's mean has error 1; a main effect is half a sum of four of them
    assert found.loc[0, "error"] == pytest.approx(1)


def test_shapley_values_against_all_orders():
    generator = np.random.default_rng(9)
    worth = {on: generator.normal() for on in itertools.product((0, 1), repeat=4)}
    found = factorial(subsets(lambda *on: worth[on], 4), tuple("abcd"), "v").query("kind == 'shapley'")
    expected = np.zeros(4)
    orders = list(itertools.permutations(range(4)))
    for order in orders:
        on = [0] * 4
        for player in order:
            before = worth[tuple(on)]
            on[player] = 1
            expected[player] += (worth[tuple(on)] - before) / len(orders)
    assert found["estimate"].tolist() == pytest.approx(expected)
    assert found["estimate"].sum() == pytest.approx(worth[(1,) * 4] - worth[(0,) * 4])


def crossed(cell, rows=4, columns=3, seeds=4, noise=1.0, seed=0, shared=0.0):
    """One run per cell and seed; noise: of the last row, that of the first is a third of it. shared: the deviation of a
    seed that all cells of a row share."""
    generator = np.random.default_rng(seed)
    of_seeds = generator.normal(0, shared, (rows, seeds)) if shared else np.zeros((rows, seeds))
    return pd.DataFrame(
        {"a": f"a{i}", "b": f"b{j}", "seed": k,
         "v": cell(i, j) + of_seeds[i, k] + generator.normal(0, noise * (1 + 2 * i / rows) / 3)}
        for i, j, k in itertools.product(range(rows), range(columns), range(seeds))
    )  # fmt: skip


def test_two_way_by_hand():
    """Rows -3, -1, 1, 3, columns -2, 0, 2, interactions +-0.5 in the corners of a 2 x 2 part; hardly any noise."""
    corner = {(0, 0): 0.5, (0, 1): -0.5, (1, 0): -0.5, (1, 1): 0.5}
    found = two_way(crossed(lambda i, j: 2 * i + 2 * j + corner.get((i, j), 0), noise=1e-6), "a", "b", "v")
    effects = found.effects.set_index("label")["estimate"]
    assert effects.tolist() == pytest.approx([-3, -1, 1, 3, -2, 0, 2], abs=1e-5)
    sds = found.components.set_index("component")["sd"]
    assert sds["rows"] ** 2 == pytest.approx(20 / 3, rel=1e-4)
    assert sds["columns"] ** 2 == pytest.approx(8 / 2, rel=1e-4)
    assert sds["interaction"] ** 2 == pytest.approx(4 * 0.25 / 6, rel=1e-4)
    assert found.interactions["estimate"].tolist()[:2] == pytest.approx([0.5, -0.5], abs=1e-5)


def test_two_way_agrees_with_the_analysis_of_variance():
    """Mean squares of the balanced layout (Scheffe 1959, section 4.3); equal spreads only in their mean."""
    table = crossed(lambda i, j: i * j, noise=2.0, seed=3)
    components = two_way(table, "a", "b", "v").components.set_index("component")["sd"] ** 2
    y = table.pivot_table(index=["a", "seed"], columns="b", values="v").to_numpy().reshape(4, 4, 3)  # row, seed, column
    means = y.mean(1)
    within = y.var(1, ddof=1).mean()
    of_seeds = y.mean(2).var(1, ddof=1).mean()  # mean square of seeds within rows, over 3
    left = y - y.mean(1, keepdims=True) - y.mean(2, keepdims=True) + y.mean((1, 2), keepdims=True)
    own = (left**2).sum() / (4 * 3 * 2)
    of_rows, rest = means.mean(1), means - means.mean(1)[:, None] - means.mean(0) + means.mean()
    assert components["seeds"] == pytest.approx(within)
    assert components["rows"] == pytest.approx(of_rows.var(ddof=1) - of_seeds / 4)
    assert components["columns"] == pytest.approx(means.mean(0).var(ddof=1) - own / 16)
    assert components["interaction"] == pytest.approx((rest**2).sum() / 6 - own / 4)


@pytest.mark.parametrize("shared", [0.0, 0.8])
def test_two_way_covers(shared):
    """In 40 tables of 8 x 5 cells and four seeds, with unequal spreads, without and with seeds that are good for all
    cells of a row: each kind of interval misses the truth in at most 9 (expected 2; each of the four fails falsely with
    a probability of 4e-5), those of the rows' effects in at most 15 % (expected 6 %)."""
    generator = np.random.default_rng(5)
    rows, columns, joint = generator.normal(0, 1.5, 8), generator.normal(0, 4, 5), generator.normal(0, 0.8, (8, 5))
    joint += joint.mean() - joint.mean(0) - joint.mean(1)[:, None]
    truth = rows.var(ddof=1), columns.var(ddof=1), (joint**2).sum() / 28
    missed = np.zeros(4, dtype=int)
    missed_rows = 0
    for seed in range(40):
        table = crossed(lambda i, j: rows[i] + columns[j] + joint[i, j], 8, 5, seed=seed, shared=shared)
        found = two_way(table, "a", "b", "v")
        spans = found.components[["low", "high"]].to_numpy()[:3] ** 2
        missed[:3] += [not low <= true <= high for true, (low, high) in zip(truth, spans, strict=True)]
        below, above = found.interactions["low"].lt(joint.ravel()), found.interactions["high"].gt(joint.ravel())
        missed[3] += not (below & above).all()
        of_rows, true_rows = found.effects[:8], rows + joint.mean(1) - (rows + joint.mean(1)).mean()
        missed_rows += (~of_rows["low"].lt(true_rows) | ~of_rows["high"].gt(true_rows)).sum()
    assert (missed <= 9).all(), missed
    assert missed_rows <= 0.15 * 40 * 8


def grids(correlation, seeds=3, noise=1.0, seed=0, cells=49, names=("one", "other", "third")):
    """Runs of a grid for each method, whose true cell means correlate by `correlation`."""
    generator = np.random.default_rng(seed)
    common = generator.normal(0, 1, cells)
    own = {name: generator.normal(0, 1, cells) for name in names}
    share = math.sqrt(correlation)
    return pd.DataFrame(
        {"method": name, "cell_name": f"c{i}", "seed": k,
         "v": 2 * (share * common[i] + math.sqrt(1 - correlation) * own[name][i]) + generator.normal(0, noise)}
        for name in names for i in range(cells) for k in range(seeds)
    )  # fmt: skip


def test_correlations_of_grids_by_hand():
    """Noise of variance 9 a run, thus 3 a mean; the correction is that of both reliabilities. Seeds that are good for a
    whole grid do not count."""
    table = grids(0.5, noise=3.0)
    table["v"] += 5 * table["seed"]
    found = grid_correlations(table, "method", ["cell_name"], "v").iloc[0]
    y = table.pivot_table(index=["method", "seed"], columns="cell_name", values="v", sort=False)
    left = y - y.groupby("method").transform("mean")
    left = left.sub(left.mean(axis=1), axis=0)
    noise = (left**2).sum(axis=1).groupby("method", sort=False).sum() / (2 * 48) / 3
    means = y.groupby("method", sort=False).mean()
    reliability = 1 - noise / means.var(axis=1, ddof=1)
    observed = np.corrcoef(means.loc["one"], means.loc["other"])[0, 1]
    assert found["observed"] == pytest.approx(observed)
    assert found["corrected"] == pytest.approx(observed / math.sqrt(reliability["one"] * reliability["other"]))
    assert found["reliability"] == pytest.approx(reliability[["one", "other"]].min())


def test_grids_of_noise_do_not_agree():
    """Without reliability there is no corrected correlation, and no interval claims one."""
    for seed in range(20):
        table = grids(0.0, seed=seed, cells=10, names=("one", "other"))
        noise = table.assign(v=np.random.default_rng(seed).normal(0, 1, len(table)))
        found = grid_correlations(noise, "method", ["cell_name"], "v").iloc[0]
        assert np.isnan(found["corrected"]) or -1 <= found["low"] <= found["high"] <= 1 or np.isnan(found["low"])
        assert not (found["reliability"] == 0 and found["corrected"] == found["corrected"])


def test_correlations_of_grids_cover():
    """Of 40 tables, at most 8 intervals miss the correlation of the true means (expected 2; false alarm 3e-4); grids
    with one truth are called different in at most 8 (expected 2), and with a correlation of 0.7 in all."""
    missed = same = other = 0
    for seed in range(40):
        table, names = grids(0.7, seed=seed), ("one", "other")
        truth = np.corrcoef(*(grids(0.7, seeds=1, noise=0, seed=seed, names=names).pivot(
            index="method", columns="cell_name", values="v").to_numpy()))[0, 1]  # fmt: skip
        table = grids(0.7, seed=seed, names=names)
        found = grid_correlations(table, "method", ["cell_name"], "v").iloc[0]
        missed += not found["low"] <= truth <= found["high"]
        other += found["p"] < 0.05
        same += grid_correlations(grids(1.0, seed=seed, names=names), "method", ["cell_name"], "v")["p"].iloc[0] < 0.05
    assert missed <= 8
    assert same <= 8
    assert other == 40


def test_two_way_needs_two_seeds_in_each_cell():
    table = crossed(lambda i, j: 0.0)
    with pytest.raises(InvalidSpec, match=r"two seeds that all its cells have, but a1 lacks them"):
        two_way(table[(table["a"] != "a1") | (table["b"] != "b2") | (table["seed"] == 0)], "a", "b", "v")


def test_a_missing_subset_is_named():
    table = subsets(lambda a, b: a + b, 2)
    with pytest.raises(InvalidSpec, match=r"1 lack v, such as {'a': 1, 'b': 0}"):
        factorial(table[(table["a"] == 0) | (table["b"] == 1)], ("a", "b"), "v")


# --------------------------------------------------------------------------------------------------
# Seeds and images


def test_seed_and_image_variance_is_recovered():
    """The errors against the spread of 2,000 simulated means: with the same images, and with new ones (5 %)."""
    generator = np.random.default_rng(10)
    seeds, images, shape = 4, 200, (2000, 1, 1)

    def simulated(difficulty):
        chance = 0.6 + difficulty + generator.normal(0, 0.03, (2000, seeds, 1))
        return generator.random((2000, seeds, images)) < np.clip(chance, 0, 1)

    same = simulated(generator.normal(0, 0.2, (1, 1, images)) + np.zeros(shape))
    new = simulated(generator.normal(0, 0.2, (2000, 1, images)))
    found = [seed_and_image_variance(each) for each in new[:500]]
    for name, truth in (("seed_error", same), ("whole_error", new)):
        stated = math.sqrt(np.mean([getattr(f, name) ** 2 for f in found]))
        assert stated == pytest.approx(100 * truth.mean((1, 2)).std(), rel=0.12), name
    assert np.mean([f.seed_sd**2 for f in found]) == pytest.approx(9, rel=0.25)


def test_mcnemar_by_hand():
    """15 against 5 discordant images: twice the binomial tail, 0.0414."""
    first = np.array([True] * 15 + [False] * 5 + [True] * 80)
    second = np.array([False] * 15 + [True] * 5 + [True] * 80)
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (15, 5)
    assert found.p == pytest.approx(0.0414, abs=5e-5)
    assert "says nothing about two cells" in str(found)
    assert mcnemar(first, first).p == 1
