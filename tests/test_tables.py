"""Tables: reading, refusals, and output for people and papers."""

import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT, ablation_here, small_run
from markdown_it import MarkdownIt

from ablation.analysis.tables import numbers, read_table, rounded, to_csv
from ablation.cli import main
from ablation.operators import Blur, Crop
from ablation.plots import Heatmap, Lines
from ablation.report.latex import cells, latex, markdown
from ablation.spec import FORMAT, DataError, Experiment, InvalidSpec, identity, sweep, written

VALUE = "linear_test_top1_recalibrated"


def pairs(labels=("crop", "color", "rotate"), seeds=3) -> pd.DataFrame:
    facts = {"dataset": "d", "method": "m", "encoder": "e", "shared": "none", "epochs": 3}
    facts |= {f"{split}_images": 100 for split in ("train", "validation", "test")}
    return pd.DataFrame(
        {"first": labels[i], "second": labels[j], "seed": s, VALUE: 10.0 * i + j + s, **facts}
        for i, j, s in itertools.product(range(len(labels)), range(len(labels)), range(seeds))
    )


def test_the_best_within_is_marked_within():
    """Two methods far apart: over all cells only the better one has best cells; within each method, both have."""
    table = pd.concat(
        pairs(seeds=4).assign(method=m, **{VALUE: pairs(seeds=4)[VALUE] + 50 * i}) for i, m in enumerate("ab")
    )
    by = ["method", "first", "second"]
    over_all, within = (cells(table, by, {"test": VALUE}, within=w).set_index(by)["test"] for w in (None, ["method"]))
    assert not over_all["a"].str.contains(r"\*").any()
    assert (
        within["a"].str.endswith("*").sum()
        == within["b"].str.endswith("*").sum()
        == over_all["b"].str.endswith("*").sum()
        > 0
    )


def test_every_cell_is_shown():
    """By hand: crop + crop has no run, crop + color none with the first value, color + crop one seed less of it."""
    table = pairs(("crop", "color")).assign(other=5.0)
    at = table.set_index(["first", "second", "seed"]).index
    table.loc[at.isin([("crop", "crop", s) for s in range(3)]), [VALUE, "other"]] = None
    table.loc[at.isin([("crop", "color", s) for s in range(3)] + [("color", "crop", 1)]), VALUE] = None
    table.loc[at.isin([("color", "crop", 2), ("color", "color", 2)]), "other"] = None
    found = cells(table, ["first", "second"], {"linear": VALUE, "other": "other"})
    assert found[["first", "second"]].values.tolist() == [
        ["crop", "crop"], ["crop", "color"], ["color", "crop"], ["color", "color"]
    ]  # fmt: skip
    assert found["n"].tolist() == [0, "0 / 3", 2, "3 / 2"]
    assert found["linear"].str.removesuffix(" *").tolist() == ["-", "-", "11.0 ± 1.4", "12.0 ± 1.0"]
    assert found["other"].str.removesuffix(" *").tolist() == ["-", "5.0 ± 0.0", "5.0 ± 0.0", "5.0 ± 0.0"]
    within = cells(table, ["first", "second"], {"linear": VALUE}, within=["first"])
    assert within["linear"].str.removesuffix(" *").tolist() == ["-", "-", "11.0 ± 1.4", "12.0 ± 1.0"]


def test_a_single_seed_tells_nothing_apart():
    found = cells(pairs(seeds=1), ["first", "second"], {"linear": VALUE})
    assert set(found["n"]) == {1}
    assert not found["linear"].str.contains(r"[*±]").any()


def test_a_newer_table_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    pairs().assign(format=FORMAT).to_csv(path, index=False)
    assert len(read_table(path)) == 27
    pairs().assign(format=FORMAT + 1).to_csv(path, index=False)
    with pytest.raises(
        DataError, match=rf"has format {FORMAT + 1}, but this version reads formats up to {FORMAT}. Install"
    ):
        read_table(path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00bad"])
def test_what_is_no_table_is_refused(content, tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as CSV"):
        read_table(path)
    with pytest.raises(DataError, match="does not exist"):
        read_table(tmp_path / "u.csv")


def test_a_folder_and_a_format_in_words_are_refused(tmp_path):
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(DataError, match=r"x.csv cannot be read as CSV .*folder.*Name a file"):
        read_table(tmp_path / "x.csv")
    assert "cannot be read as CSV" in ablation_here("figures", "x.csv", cwd=tmp_path, check=2).stderr
    pairs().assign(format="jpeg").to_csv(tmp_path / "y.csv", index=False)
    with pytest.raises(DataError, match=r"'format' of .*y.csv must hold finite numbers, but line 2 holds 'jpeg'"):
        read_table(tmp_path / "y.csv")


HEAD = "first,second,seed,acc\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            HEAD + "crop,color,0,45\ncrop,blur,0,41,2\n",
            "line 3 of .*t.csv has 5 fields, .* has 4. Write deci",
        ),
        (HEAD + "crop,color,0,45,80\n" * 2, "line 2 of .* has 5 fields, .* has 4"),
        (HEAD + "crop,color,0,45\n\ncrop,blur,0\n", "line 4 of .* has 3 fields, .* has 4"),
        (HEAD + "crop,color,0,\n", None),
        (HEAD + 'crop,"color,0,45\ncrop,blur,0,41\n', "line 2 of .* has a stray quotation mark"),
        (HEAD + 'crop,color",0,45\n', "line 2 of .* has a stray quotation mark"),
        (HEAD + 'crop,"co"lor,0,45\n', "line 2 of .* has a stray quotation mark"),
        ("first,second,seed,acc,\n" + "crop,color,0,45,6\n", "must have a name, but line 2 has '6' in one without"),
        (
            "# my results\n" + HEAD + "crop,color,0,45\n",
            "first line .*t.csv .*, but is '# my results', and line 2 has 4",
        ),
        ("# of May, all\n\n" + HEAD, "first line .*, but is '# of May, all', and line 3 has 4 fields. Remove"),
        ("Results,,,\n" + HEAD + "crop,color,0,45\n", "first line of .*, but is 'Results', and line 2 has 4"),
        ("Results, seeds 0 to 2\n" + HEAD, "first line of .*'Results, seeds 0 to 2', and line 2 has 4"),
        ("acc\n45,6\n", "line 2 of .* has 2 fields, .* has 1. Write decimals with a point"),
        ("first,first,seed,acc\n", "two columns of .* have the name 'first'"),
        ("first;second;seed;acc\ncrop;color;0;45,6\n", "by commas, but .* is 'first;second;seed;acc'"),
        ("first\tsecond\tseed\tacc\n", "separate columns by commas"),
        (HEAD + "crop,color,one,45\n", "'seed' .* must hold finite numbers, but line 2 holds 'one'"),
        (HEAD + "crop,color,0.5,45\n", "must be a whole number, but line 2 has 0.5"),
        (HEAD + "cr\x1b[31mop,color,0,45\n", "line 2 of .* has a control character in 'cr"),
        ("", "is empty"),
    ],
)
def test_a_table_is_refused_by_its_line_or_read_unshifted(text, words, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(text, newline="")
    if words is None:
        assert read_table(path).columns.tolist() == HEAD.strip().split(",")
        return
    with pytest.raises(DataError, match=words):
        read_table(path)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + HEAD + "crop,b,0,45.6\n",
        (HEAD + "crop,b,0,45.6\n").replace("\n", "\r\n"),
        (HEAD + "crop,b,0,45.6\n").replace("\n", "\r"),
        HEAD + "crop,b,0,45.6",
        HEAD + '"crop", "b" ,0, 45.6 \n\n,,,\n',
        "first,second,seed,acc,,\ncrop,b,0,45.6,,\n",
    ],
)
def test_a_table_may_come_from_any_program(text, tmp_path):
    (tmp_path / "t.csv").write_text(text, newline="", encoding="utf-8")
    found = numbers(read_table(tmp_path / "t.csv"), ["acc"])
    assert found.to_dict("records") == [{"first": "crop", "second": "b", "seed": 0, "acc": 45.6}]


TEXTS = (
    "1.10",
    "1.1",
    "1.9",
    "007",
    "7",
    "1e3",
    "NA",
    "None",
    "nan",
    "True",
    "2024-01-02",
    "a, b",
    'a "b"',
    "c\nd",
    "é",
)


def test_labels_are_read_as_they_are_written(tmp_path):
    """Only an empty field is missing; the index is the line in the file."""
    written = pd.DataFrame({"first": TEXTS, "v": [None, *range(1, len(TEXTS))]})
    written.to_csv(tmp_path / "t.csv", index=False)
    found = read_table(tmp_path / "t.csv")
    assert found["first"].tolist() == list(TEXTS)
    assert numbers(found, ["v"])["v"].isna().tolist() == [True] + [False] * (len(TEXTS) - 1)
    assert found.index[:3].tolist() == [2, 3, 4]
    (tmp_path / "t.csv").write_text("first\n cafe\N{COMBINING ACUTE ACCENT} \n")
    assert read_table(tmp_path / "t.csv")["first"].tolist() == ["café"]  # composed, without the spaces around it


@pytest.mark.parametrize("word", ["45,6", "45.6 %", "1_000", "inf", "nan", "NA", "١", "1e999", "--", "True"])
def test_a_word_among_numbers_is_named_with_its_line(word, tmp_path):
    pd.DataFrame({"v": ["1", word]}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=rf"'v' of .*t.csv must hold finite numbers, but line 3 holds '{word}'"):
        numbers(read_table(tmp_path / "t.csv"), ["v"])


@pytest.mark.parametrize("path", sorted((ROOT / "figures").glob("*.csv")), ids=lambda path: path.stem)
def test_committed_tables_read_as_pandas_does(path):
    """pandas' defaults read the same numbers and labels."""
    ours, theirs = read_table(path).reset_index(drop=True), pd.read_csv(path)
    numeric = list(theirs.select_dtypes("number"))
    pd.testing.assert_frame_equal(numbers(ours, numeric)[numeric].astype(float), theirs[numeric].astype(float))
    rest = ours.columns.difference(numeric)
    assert ours[rest].fillna("-").astype(str).equals(theirs[rest].astype(object).fillna("-").astype(str))


LABELS_OF_CELLS = ("1.1", "1.10", 0.1 + 0.2, 0.3, 1e-7, 32.0, "007", "NA", "a, b", 10**20)


def test_what_is_written_is_read_as_the_same_cells(tmp_path):
    """Also labels that differ in their last digit, or in their spelling."""
    cells = sweep(lambda axis: small_run(), axis=LABELS_OF_CELLS, seeds=range(2))
    table = pd.DataFrame([{**cell.coords, "v": 1 / 3} for cell in cells])
    (tmp_path / "t.csv").write_bytes(to_csv(table, ["axis", "seed"]))
    found = numbers(read_table(tmp_path / "t.csv"), ["v"])
    assert found["axis"].tolist() == [written(cell.coords["axis"]) for cell in cells]
    assert found["axis"].nunique() == len(LABELS_OF_CELLS)
    assert found["v"].tolist() == [0.333333] * len(cells)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ((0.5, "0.5"), "the labels 0.5 and '0.5'"),
        ((1, "1"), "the labels 1 and '1'"),
        (("crop", "cr\N{ZERO WIDTH SPACE}op"), r"'cr\\u200bop'"),
        (("a b", "a\N{NO-BREAK SPACE}b"), r"'a\\xa0b'"),
        (("\N{MICRO SIGN}", "\N{GREEK SMALL LETTER MU}"), r"'\\xb5' and '\\u03bc'"),
        ((" crop",), "got ' crop'"),
        (("",), "got ''"),
        (("cafe\N{COMBINING ACUTE ACCENT}",), "got 'cafe"),
        (("a\x1b[1m",), "got 'a"),
        ((float("nan"),), "got nan"),
    ],
)
def test_an_experiment_has_no_labels_that_its_table_cannot_hold(labels, words):
    with pytest.raises(InvalidSpec, match=words):
        Experiment(cells=sweep(lambda axis: small_run(), axis=labels, seeds=[0]), figures={})


def test_numbers_of_numpy_are_numbers():
    """As seeds, values of axes and strengths: the same cells and the same ids."""

    def ids(strengths, seeds):
        cells = sweep(lambda s: small_run(views=((Blur(strength=s), Crop(area=(s, s))), ())), s=strengths, seeds=seeds)
        return [(cell.coords, identity(cell.run)) for cell in Experiment(cells=cells, figures={}).cells]

    assert ids(np.array([0.25, 1.0]), np.arange(2)) == ids((0.25, 1.0), range(2))
    assert identity(Blur(sigma=(np.float32(0.5), np.int64(2)))) == identity(Blur(sigma=(0.5, 2)))


def test_markdown_and_latex():
    shown = cells(pairs(("a_b", "c")), ["first", "second"], {"linear": VALUE})
    assert "| c" in markdown(shown)
    assert "11.0 ± 1.0 *" not in markdown(shown.head(1))
    text = latex(shown, "Two & more, 95 %", "tab:x")
    for words in (r"\toprule", r"a\_b", r"12.0 $\pm$ 1.0 *", r"\caption{Two \& more, 95 \%}", r"\label{tab:x}"):
        assert words in text


LABELS = (
    "<script>alert(1)</script>", "a | b", "<!-- / -->", "![x](http://y)", "`a", "a\nb", "a\\", "&lt;", "[crop]", "*a*",
    "__a__ b_c", "*",
)  # fmt: skip


@pytest.mark.parametrize("label", LABELS)
def test_a_label_is_a_label_in_markdown(label):
    """Markdown renders it literally: no tag, no link, no other column or row."""
    text = markdown(pd.DataFrame({label: [label, "x"]}))
    found = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    inside = [token for token in found if token.type == "inline"]
    assert len(inside) == 3  # a head, two cells
    for token in inside[:2]:
        assert {child.type for child in token.children} <= {"text", "text_special"}
        assert "".join(child.content for child in token.children) == label.replace("\n", " ")


def test_usual_labels_stand_in_markdown_as_they_are():
    text = markdown(pd.DataFrame({"a_b": ["crop + color", "l2, 0.5", 3], "linear": ["41.8 ± 2.2 *", "-", 0.5]}))
    for words in ("a_b", "crop + color", "l2, 0.5", "41.8 ± 2.2 *", "| -", "| 0.5"):
        assert words in text


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("σ = 2, Δ, ά", r"$\sigma$ = 2, $\Delta$, $\acute\alpha$"),
        ("[crop]", "{[}crop]"),
        ("* [a]", "{*} [a]"),
        ("é, Ñ, ç, ő, ế", r"\'e, \~N, \c{c}, \H{o}, \'{\^{e}}"),
        ("e\N{COMBINING ACUTE ACCENT}", r"\'e"),
        ("ą", "a"),
        ("日本", "??"),
        ("\N{FULLWIDTH AMPERSAND}\N{MICRO SIGN}\N{LATIN SMALL LIGATURE FI}", r"\&{\textmu}fi"),
        ("a\n\nb\t\x07", "a b ?"),
        ("crop + color", "crop + color"),
    ],
)
def test_a_label_is_a_label_in_latex(label, expected):
    text = latex(pd.DataFrame({label: [label]}), label, "tab:x")
    assert text.isascii()
    assert text.count(f"\n{expected} \\\\\n") == 2  # the head and the cell
    assert f"\\caption{{{expected}}}" in text


def test_your_own_table(tmp_path, monkeypatch, capsys):
    """A heatmap, and statistics of the pairs. Labels do not say what an operator does, so no pair commutes by law."""
    table = pairs(("color", "crop", "rotate"))
    table.to_csv(tmp_path / "my.csv", index=False)
    done = ablation_here("figures", "my.csv", "--reference", "simclr_figure5_pairs", cwd=tmp_path)
    assert (tmp_path / "my-own-heatmap.pdf").is_file()
    assert "does the order of a pair matter?" in done.stdout
    assert "commute" not in done.stdout
    assert "Spearman" in done.stdout
    monkeypatch.chdir(tmp_path)

    def figures(*arguments) -> str:
        main(["figures", *arguments])
        return "".join(capsys.readouterr())

    named = table.rename(columns={"first": "a", "second": "b"})
    named.to_csv(tmp_path / "named.csv", index=False)
    assert "rows: a, columns: b" in figures("named.csv", "--rows", "a", "--columns", "b")
    bare = table[["first", "second", "seed", VALUE]]
    bare.to_csv(tmp_path / "bare.csv", index=False)
    assert "n = 3, mean ± sample" in figures("bare.csv")
    for wrong, words in (
        (bare.assign(**{VALUE: ["7", "n/a", *["8"] * (len(bare) - 2)]}), "but line 3 holds 'n/a'"),
        (pd.concat([bare, bare.head(1)]), "seed, but line 29 repeats those of an earlier row"),
        (bare.head(0), "must have rows, but has none below its header"),
        (bare.assign(first=[None, *bare["first"][1:]]), "in 'first', but 1 have none, the first in line 2"),
        (bare.rename(columns={VALUE: "a"}).assign(b=1.0), "which has several of numbers: a, b. Write --value COLUMN"),
    ):
        wrong.to_csv(tmp_path / "wrong.csv", index=False)
        assert words in figures("wrong.csv")
    fractions = bare.assign(**{VALUE: bare[VALUE] / 100}).rename(columns={VALUE: "accuracy"})
    fractions.to_csv(tmp_path / "fractions.csv", index=False)
    (tmp_path / "letters.csv").write_text("first,second,seed,top1\na,a,0,1\na,b,0,x\n")
    assert "must hold finite numbers, but line 3 holds 'x'" in figures("letters.csv")
    (tmp_path / "semi.csv").write_text("first;second;seed;top1\na;a;0;1\n")
    assert "separate columns by commas, but its first line is 'first;second;seed;top1'" in figures("semi.csv")
    shown = figures("fractions.csv")  # its only numeric column, unchanged
    assert "0.22 ±0.01" in shown
    shown = figures("fractions.csv", "--fractions")
    assert "accuracy (%); rows: first" in shown
    assert "22.0 ±1.0" in shown
    other = figures("bare.csv", "--reference", "simclr_table4_losses")
    assert "must be a table of pairs" in other
    table.drop(columns="seed").to_csv(tmp_path / "seedless.csv", index=False)
    assert "must have a column 'seed'" in figures("seedless.csv")


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("seeds", ["same", "own"])
@pytest.mark.parametrize(
    ("third", "labels"),
    [("method", "ab"), ("temperature", (0.1, 0.5)), ("epochs", (100, 200)), ("learning_rate", (1, 2))],
)
def test_a_third_coordinate_is_not_averaged_as_seeds(third, labels, seeds, tmp_path, capsys):
    """By hand: of one label the means are 1, 2, 3, 4 and a half, of the other ten times as much."""
    rows = [
        {"first": f, "second": s, third: label, "seed": seed + 2 * number * (seeds == "own"),
         "accuracy": (value + 1 + seed + 0.125 * (value * seed)) * (1, 10)[number]}
        for number, label in enumerate(labels)
        for value, (f, s) in enumerate((("x", "x"), ("x", "y"), ("y", "x"), ("y", "y")))
        for seed in range(2)
    ]  # fmt: skip
    csv = tmp_path / "my.csv"
    pd.DataFrame(rows).to_csv(csv, index=False)
    options = ["figures", str(csv), "--value", "accuracy"]
    assert main(options) == 2
    said = capsys.readouterr().err
    one, other = map(written, labels)
    assert f"must choose one {third!r}, since its values ({one}, {other})" in said
    assert f"--where {third}={one}" in said
    assert main([*options, "--where", f"{third}={one}"]) == 0
    assert "1.50 ±0.71" in capsys.readouterr().out
    assert main([*options, "--where", f"{third}={other}"]) == 0
    assert "15.00 ±7.07" in capsys.readouterr().out
    assert main([*options, "--where", third]) == 2
    assert "--where must be COLUMN=LABEL" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["n", "training", "images", "state", "device", "notes", "mean", "seeds"])
def test_a_coordinate_of_ones_own_table_may_have_a_name_of_the_suite(name, tmp_path, capsys):
    """Shots in a column `n`, each with its own seeds: not averaged."""
    labels = (5, 50) if name in ("n", "images", "mean", "seeds") else ("one", "other")
    rows = [
        {"first": f, "second": s, name: label, "seed": seed + 2 * number, "accuracy": 10.0 * value + seed + number}
        for number, label in enumerate(labels)
        for value, (f, s) in enumerate((("x", "x"), ("x", "y"), ("y", "x"), ("y", "y")))
        for seed in range(2)
    ]
    csv = tmp_path / "my.csv"
    pd.DataFrame(rows).to_csv(csv, index=False)
    assert main(["figures", str(csv), "--value", "accuracy"]) == 2
    assert f"must choose one {name!r}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["error", "test_loss", "top-1 error (%)", "NLL"])
def test_a_value_whose_lowest_is_best_is_refused(name, tmp_path, capsys):
    """Otherwise the highest would be framed as the best."""
    csv = tmp_path / "my.csv"
    csv.write_text(f"first,second,seed,{name}\na,b,0,5\na,b,1,6\n")
    assert main(["figures", str(csv)]) == 2
    assert re.search(rf"--value .*{re.escape(name)}.*lowest is. Draw an accuracy", capsys.readouterr().err)


def test_shares_and_percents(tmp_path, capsys):
    csv = tmp_path / "my.csv"
    csv.write_text("first,second,seed,top1\na,b,0,0.5\na,b,1,0.6\n")
    assert main(["figures", str(csv)]) == 0
    assert "top1" in (said := capsys.readouterr().err)
    assert "add --fractions" in said
    assert main(["figures", str(csv), "--fractions"]) == 0
    assert "--fractions" not in capsys.readouterr().err
    csv.write_text("first,second,seed,top1\na,b,0,50\na,b,1,60\n")
    assert main(["figures", str(csv), "--fractions"]) == 2
    assert "reaches 60. Omit it" in capsys.readouterr().err


def test_what_is_measured_beside_is_no_coordinate(tmp_path):
    """Nor are dates, names of runs, and notes of the suite."""
    rows = [
        {"first": f, "second": s, "seed": seed, "accuracy": i + seed, "loss": 3 - 0.1 * i - 0.03 * seed,
         "run": f"r{i}{seed}", "minutes": (7, 8, 7, 9, 8, 8, 11, 7)[2 * i + seed], "notes": ("", "slow")[seed]}
        for i, (f, s) in enumerate((("x", "x"), ("x", "y"), ("y", "x"), ("y", "y"))) for seed in range(2)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "my.csv", index=False)
    assert main(["figures", str(tmp_path / "my.csv"), "--value", "accuracy"]) == 0


def test_a_row_without_label_and_baseline_is_named(tmp_path, capsys):
    lines = ["first,second,seed,accuracy,baseline", "x,x,0,1,", "x,y,0,2,", "y,x,0,3,", "y,y,0,4,", ",,0,9,supervised"]
    (tmp_path / "my.csv").write_text("\n".join(lines))
    assert main(["figures", str(tmp_path / "my.csv")]) == 0
    assert "Supervised: accuracy 9.00" in capsys.readouterr().out
    for row in (",,0,5,", ",x,0,5,", "x,,0,5, "):
        (tmp_path / "my.csv").write_text("\n".join([*lines, row]))
        assert main(["figures", str(tmp_path / "my.csv")]) == 2
        said = capsys.readouterr().err
        assert re.search("a label in '(first|second)', but 1 have none, the first in line 7", said), row
        assert "a column 'baseline'" in said


@pytest.mark.parametrize(
    ("number", "digits", "beside", "text"),
    [(0.0034, 2, 0, "0.0034"), (-0.0012, 2, 0, "-0.0012"), (0.051, 2, 0, "0.05"), (0, 2, 0, "0.00"),
     (1e-30, 1, 0, "1e-30"), (12.345, 1, 0, "12.3"), (0.0034, 1, 45.0, "0.003"), (7e-15, 1, 45.0, "0.0"),
     (7.1e-5, 1, 10.0, "0.0"), (7.1e-4, 1, 10.0, "0.0007"),
     (math.nan, 1, 0, "nan")],
)  # fmt: skip
def test_no_other_number_is_shown_as_zero(number, digits, beside, text):
    assert rounded(number, digits, beside) == text


def test_small_numbers_keep_their_digits_wherever_they_are_shown(tmp_path, capsys):
    rows = [
        {"first": f, "second": s, "seed": seed, "loss": value + 0.0002 * seed}
        for (f, s), value in zip(itertools.product("xy", repeat=2), (0.0011, 0.0022, 0.0033, 0.0044), strict=True)
        for seed in range(2)
    ]
    table = pd.DataFrame(rows)
    for figure in (Heatmap(rows="first", columns="second", values=("loss",)),
                   Lines(x="first", lines="second", values=("loss",))):  # fmt: skip
        assert re.search(r"0\.0045 ±0\.0001", figure.text(table))
    assert re.search(
        r"±0\.0001",
        "".join(
            t.get_text() for t in Heatmap(rows="first", columns="second", values=("loss",)).draw(table).axes[0].texts
        ),
    )
    found = cells(table, ["first", "second"], {"loss": "loss"})
    assert list(found["loss"].str.removesuffix(" *")) == [
        f"{m} ± 0.0001" for m in ("0.0012", "0.0023", "0.0034", "0.0045")
    ]


@pytest.mark.parametrize("value", ["1e308", "-1e308", "1e101", "1e-200"])
@pytest.mark.parametrize("text", [True, False])
def test_a_number_whose_square_is_none_is_refused(value, text, tmp_path, capsys):
    lines = ["first,second,seed,v", "x,x,0,1", f"x,y,0,{value}", "y,x,0,3", "y,y,0,4"]
    (tmp_path / "my.csv").write_text("\n".join(lines))
    if text:
        assert main(["figures", str(tmp_path / "my.csv")]) == 2
        said = capsys.readouterr().err
        assert re.search(
            r"the column 'v' of .*my.csv must hold numbers of magnitude .* line 3 .* Choose another unit", said
        )
    else:
        with pytest.raises(DataError, match="the column 'v'"):
            Heatmap(rows="first", columns="second", values=("v",)).draw(pd.read_csv(tmp_path / "my.csv"))
    labels = pd.DataFrame({"x": [value, "1", "2"], "k": "a", "seed": 0, "v": [1.0, 2.0, 3.0]})
    assert Lines(x="x", lines="k", values=("v",)).draw(labels)


def test_a_number_of_epochs_is_not_drawn_for_a_column_of_words(tmp_path, capsys):
    (tmp_path / "my.csv").write_text("first,second,seed,acc,epochs,n\na,b,0,~10,5,3\nb,a,0,~20,5,3\n")
    assert main(["figures", str(tmp_path / "my.csv")]) == 2
    assert "'acc'" in capsys.readouterr().err
