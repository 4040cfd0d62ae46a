"""Tables: read or refused, and written for people and papers."""

import itertools
from dataclasses import dataclass

import pandas as pd
import pytest
from helpers import ROOT, SMALL, ablation, small_run
from markdown_it import MarkdownIt

from ablation.datasets import ImageData
from ablation.grids import sweep
from ablation.operators import Blur, Color, ColorDrop, Crop, Flip, Operator
from ablation.scales import scale_named
from ablation.specs import FORMAT, Experiment, InvalidSpec
from ablation.tables import appendix, cells, latex, markdown, read_table

VALUE = "linear_test_top1_recalibrated"


def pairs(labels=("crop", "color", "rotate"), seeds=3) -> pd.DataFrame:
    facts = {"dataset": "d", "method": "m", "encoder": "e", "shared": "none", "epochs": 3}
    facts |= {f"{split}_images": 100 for split in ("train", "validation", "test")}
    return pd.DataFrame(
        {"first": labels[i], "second": labels[j], "seed": s, VALUE: 10.0 * i + j + s, **facts}
        for i, j, s in itertools.product(range(len(labels)), range(len(labels)), range(seeds))
    )


def test_the_best_within_is_marked_within():
    """Two methods far apart: over all only the better one has cells that may be the best, within each has its own."""
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
        InvalidSpec, match=rf"is of format {FORMAT + 1}, and this version reads up to {FORMAT}. Install"
    ):
        read_table(path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00bad"])
def test_what_is_no_table_is_refused(content, tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(InvalidSpec, match="cannot be read as CSV"):
        read_table(path)
    with pytest.raises(InvalidSpec, match="is not there"):
        read_table(tmp_path / "u.csv")


def test_a_folder_and_a_format_in_words_are_refused(tmp_path):
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(InvalidSpec, match=r"x.csv cannot be read as CSV .*directory"):
        read_table(tmp_path / "x.csv")
    assert "cannot be read as CSV" in ablation("figures", "x.csv", cwd=tmp_path, check=2).stderr
    pairs().assign(format="jpeg").to_csv(tmp_path / "y.csv", index=False)
    with pytest.raises(InvalidSpec, match=r"'format' of .*y.csv must hold numbers, but got 'jpeg'. Give"):
        read_table(tmp_path / "y.csv")


def test_labels_that_look_missing_stay_labels(tmp_path):
    """Only an empty field is missing."""
    labels = ["null", "NA", "None", "nan", "N/A", "crop"]
    written = pd.DataFrame({"first": labels, "v": [1.0, None, 3.0, 4.0, 5.0, 6.0]})
    written.to_csv(tmp_path / "t.csv", index=False)
    found = read_table(tmp_path / "t.csv")
    assert found["first"].tolist() == labels
    assert found["v"].isna().tolist() == [False, True, False, False, False, False]


@pytest.mark.parametrize("path", sorted((ROOT / "figures").glob("*.csv")), ids=lambda path: path.stem)
def test_committed_tables_read_as_pandas_does(path):
    """None of their labels looks missing, so that whoever reads them with pandas' defaults has the same numbers."""
    pd.testing.assert_frame_equal(read_table(path), pd.read_csv(path))


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
    """A reader of Markdown shows it as it is: no tag, no link, no other column or row."""
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
        ("σ = 2, Δ, ά", r"$\sigma$ = 2, $\Delta$, $\alpha$"),
        ("[crop]", "{[}crop]"),
        ("* [a]", "{*} [a]"),
        ("é, Ñ, ç, ő, ế", r"\'{e}, \~{N}, \c{c}, \H{o}, \'{\^{e}}"),
        ("e\N{COMBINING ACUTE ACCENT}", r"\'{e}"),
        ("ą", "a"),
        ("日本", "??"),
        ("\N{FULLWIDTH AMPERSAND}\N{MICRO SIGN}\N{LATIN SMALL LIGATURE FI}", r"\&$\mu$fi"),
        ("a\n\nb\t\x07", "a b ?"),
        ("crop + color", "crop + color"),
    ],
)
def test_a_label_is_a_label_in_latex(label, expected):
    text = latex(pd.DataFrame({label: [label]}), label, "tab:x")
    assert text.isascii()
    assert text.count(f"\n{expected} \\\\\n") == 2  # the head and the cell
    assert f"\\caption{{{expected}}}" in text


def test_the_appendix_has_every_setting():
    scale = scale_named("tiny")
    experiment = Experiment(
        cells=sweep(
            lambda view: scale.run(scale.simclr(), views=(view, ())), view={"c": (Crop(),), "b": (Blur(),)}, seeds=[0]
        ),
        figures={},
    )
    table = pd.DataFrame({"training": ["a", "b"], "training_seconds": [1800.0, 1800.0], "device": ["x", "x"]})
    found = dict(appendix(experiment, table).itertuples(index=False))
    assert found["optimization.optimizer.learning_rate"] == "0.003"
    assert found["method.objective.temperature"] == "0.5"
    assert found["encoder.channels"] == "16"
    assert found["operator blur"] == Blur().card(32)
    assert found["training, hours in all"] == "1.00"
    assert found["dataset.shortcut"] == "1.0"


def settings(views: dict, table=None, size=None, **changes) -> dict[str, str]:
    """The appendix of views by the label of their cell, two seeds each; changes are fields of Training."""
    cells = sweep(lambda view: small_run(views=(view, ()), **changes), view=views, seeds=range(2))
    table = pd.DataFrame({"training": []}) if table is None else table
    return dict(appendix(Experiment(cells=cells, figures={}), table, size).itertuples(index=False))


def test_the_appendix_has_every_variant_of_an_operator():
    """Also more than six, and those whose cards read the same; with the probability that a card leaves out."""
    blurs = [Blur(strength=s / 8) for s in range(1, 8)] + [Blur(p=0.5)]
    found = settings({str(i): (blur,) for i, blur in enumerate(blurs)})
    parts = [f"({i}) {blur.card(16)}" for i, blur in enumerate(blurs, start=1)]
    assert found["operator blur"] == "; ".join(parts) + ", p 0.5"
    found = settings({"a": (Color(p=0.25),), "b": (Color(drop=ColorDrop(p=0.2, strength=0.5)),)})
    color = Color().card(16)
    assert "p 0.8" in color  # the parts' own, said once
    assert found["operator color"] == f"(1) {color}, p 0.25; (2) {color}, drop strength 0.5"
    found = settings({"a": (Silent(part=Blur(p=0.5)),), "b": (Silent(gain=1),), "c": (Silent(gain=2),)})
    assert found["operator silent"].startswith("(1) silent, part p 0.5; (2) silent, Silent(")
    assert "gain=2" in found["operator silent"]


@dataclass(frozen=True, kw_only=True)
class Silent(Operator):
    """An operator whose card says nothing of its fields."""

    label = "silent"

    part: Blur = Blur()
    gain: int = 1

    def card(self, size: int) -> str:
        return "silent"


def test_the_appendix_says_which_cell_has_which_views():
    weak, strong = Blur(strength=0.5), Blur()
    found = settings({"a": (Crop(), weak), "b": (Crop(), strong)}, shared=(Flip(),))
    assert found["views 1"] == "flip shared, then crop + blur (1) | none: view a"
    assert found["views 2"] == "flip shared, then crop + blur (2) | none: view b"
    assert "views 3" not in found
    cells = sweep(lambda rate, order: small_run(), rate=(1, 3), order=("x",), seeds=[0])
    found = dict(appendix(Experiment(cells=cells, figures={}), pd.DataFrame({"training": []})).itertuples(index=False))
    assert found["views 1"] == "crop | none: order x, 2 cells"


def test_the_appendix_has_the_laws_at_the_images_size():
    blur = {"a": (Blur(),)}
    assert Blur().card(16) != Blur().card(64)
    assert settings(blur, size=64)["operator blur"] == Blur().card(16)  # what the data set states goes first
    folder = ImageData(path="x", revision="0" * 40)
    assert settings(blur, size=64, dataset=folder)["operator blur"] == Blur().card(64)
    assert settings(blur, dataset=folder.replace(size=96))["operator blur"] == Blur().card(96)
    assert settings(blur, dataset=folder)["images, pixels a side"] == "not stated; the laws are for 32"
    data = {"small": SMALL, "large": folder.replace(size=64)}
    cells = sweep(lambda data: small_run(views=(blur["a"], ()), dataset=data), data=data, seeds=[0])
    found = dict(appendix(Experiment(cells=cells, figures={}), pd.DataFrame({"training": []})).itertuples(index=False))
    assert found["images, pixels a side"] == "16, 64"
    assert found["operator blur"] == f"at 16 px {Blur().card(16)}; at 64 px {Blur().card(64)}"


def test_the_appendix_is_the_same_on_every_machine():
    """Scales ask the processor for the precision; what was run stands in the table."""
    table = pd.DataFrame({"training": ["a"], "precision": ["bfloat16"]})
    assert small_run().training.optimization.precision == "float32"
    assert settings({"a": (Crop(),)}, table)["optimization.precision"] == "bfloat16"


def test_the_hours_are_of_training_and_of_evaluation():
    """By hand: trainings a and b once, though a stands in two cells; its kNN once, its two linear ones both."""
    table = pd.DataFrame(
        {
            "training": ["a", "a", "b"],
            "training_seconds": [3600.0, 3600.0, 1800.0],
            "knn_seconds": [360.0, 360.0, None],
            "linear_seconds": [720.0, 360.0, 36.0],
            "warmup_seconds": ["long", "short", "long"],  # a coordinate
        }
    )
    cells = sweep(lambda warmup_seconds: small_run(), warmup_seconds=("long", "short"), seeds=[0])
    found = dict(appendix(Experiment(cells=cells, figures={}), table).itertuples(index=False))
    assert found["training, hours in all"] == "1.50"
    assert found["evaluation, hours in all"] == "0.41"


def test_your_own_table(tmp_path):
    """A heatmap, and the statistics of the pairs: order, and the ones that commute."""
    table = pairs(("color", "crop", "rotate"))
    table.to_csv(tmp_path / "my.csv", index=False)
    done = ablation("figures", "my.csv", "--reference", "simclr_figure5_pairs", cwd=tmp_path)
    assert (tmp_path / "my-own-heatmap.pdf").is_file()
    assert "does the order of a pair matter?" in done.stdout
    assert "pairs that commute in law: 1" in done.stdout
    assert "Spearman" in done.stdout
    named = table.rename(columns={"first": "a", "second": "b"})
    named.to_csv(tmp_path / "named.csv", index=False)
    assert (
        "rows: a, columns: b" in ablation("figures", "named.csv", "--rows", "a", "--columns", "b", cwd=tmp_path).stdout
    )
    bare = table[["first", "second", "seed", VALUE]]
    bare.to_csv(tmp_path / "bare.csv", index=False)
    assert "n = 3, mean ± sample" in ablation("figures", "bare.csv", cwd=tmp_path).stdout
    for wrong, words in (
        (bare.assign(**{VALUE: ["7", "n/a", *["8"] * (len(bare) - 2)]}), "but line 3 holds 'n/a'"),
        (pd.concat([bare, bare.head(1)]), "some stand twice"),
        (bare.head(0), "must have rows, but has none below its head"),
        (bare.assign(first=[None, *bare["first"][1:]]), "in 'first', but 1 have none, the first in line 2"),
        (bare.rename(columns={VALUE: "a"}).assign(b=1.0), "which has several of numbers: a, b. Write --value COLUMN"),
    ):
        wrong.to_csv(tmp_path / "wrong.csv", index=False)
        assert words in ablation("figures", "wrong.csv", cwd=tmp_path, check=2).stderr
    fractions = bare.assign(**{VALUE: bare[VALUE] / 100}).rename(columns={VALUE: "accuracy"})
    fractions.to_csv(tmp_path / "fractions.csv", index=False)
    (tmp_path / "letters.csv").write_text("first,second,seed,top1\na,a,0,1\na,b,0,x\n")
    assert "must hold numbers, but line 3 holds 'x'" in ablation("figures", "letters.csv", cwd=tmp_path, check=2).stderr
    (tmp_path / "semi.csv").write_text("first;second;seed;top1\na;a;0;1\n")
    assert "apart by commas, but has semicolons" in ablation("figures", "semi.csv", cwd=tmp_path, check=2).stderr
    done = ablation("figures", "fractions.csv", cwd=tmp_path)  # its only column of numbers
    assert "accuracy lies between 0 and 1: shown in percent" in done.stderr
    assert "22.0 ±1.0" in done.stdout
    other = ablation("figures", "bare.csv", "--reference", "simclr_table4_losses", cwd=tmp_path, check=2).stderr
    assert "must be a table of pairs" in other
    table.drop(columns="seed").to_csv(tmp_path / "seedless.csv", index=False)
    assert "must have a column 'seed'" in ablation("figures", "seedless.csv", cwd=tmp_path, check=2).stderr
