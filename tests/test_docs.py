"""The README and the reference pages are true."""

import ast
import dataclasses
import re
import runpy
from pathlib import Path

import pandas as pd
import pytest
from helpers import ROOT, ablation_here
from PIL import Image, ImageChops, ImageStat
from scipy.stats import studentized_range
from trainings import TRAININGS

from ablation import operators
from ablation.analysis.tables import numbers, read_table
from ablation.commands.run import BFLOAT16_PAYS
from ablation.operators import Operator
from ablation.report import Table
from ablation.report.render import Report
from ablation.report.values import Figures
from ablation.search.load import load_searches
from ablation.search.study import definition
from ablation.study.experiment_file import load, names, read
from ablation.study.published_views import RECIPES
from ablation.study.scales import SCALES

README = (ROOT / "README.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_readmes_operator_runs(tmp_path):
    """As in the README; only the scale is smaller."""
    (code,) = [b for b in blocks(README, "python") if "class Gamma" in b]
    small = (
        "    from ablation import Shapes, SmallResNet\n"
        "    scale = scale.replace(dataset=Shapes(train=140, validation=40, test=60, size=16), epochs=1, batch=32,\n"
        "                          encoder=SmallResNet(channels=4))\n"
    )
    head = "def experiment(scale):\n"
    assert head in code
    (tmp_path / "gamma.py").write_text(code.replace(head, head + small))
    ablation_here("run", "gamma.py", "--scale", "tiny", "--workers", "1", cwd=tmp_path)
    table = pd.read_csv(tmp_path / "figures" / "gamma-tiny.csv")
    assert set(table["first"]) == {"crop", "color", "gamma"}
    assert (table["state"] == "finished").all()
    assert (tmp_path / "figures" / "gamma-tiny-heatmap.png").exists()


def test_the_readmes_own_images_load(tmp_path):
    """Four lines, on a folder of class folders."""
    from test_datasets import picture

    (code,) = [b for b in blocks(README, "python") if "path/to/images" in b]
    assert len([line for line in code.splitlines() if line and not line.startswith('"""')]) == 4
    for split, count in (("train", 80), ("test", 5)):
        for c in range(2):
            place = tmp_path / "images" / split / f"class{c}"
            place.mkdir(parents=True)
            for i in range(count):
                picture(1000 * c + i).save(place / f"{i}.png")
    (tmp_path / "mine.py").write_text(code.replace("path/to/images", "images"))
    done = ablation_here("run", "mine.py", "--scale", "cifar10-small", "--dry-run", "--in-full", cwd=tmp_path)
    assert "255 cells, 255 missing; 255 runs to do" in done.stderr
    assert '"size": 32' in done.stdout


@pytest.mark.parametrize("line", [x.strip() for x in README.splitlines() if x.startswith("    ablation ")])
def test_the_readmes_commands_parse(line):
    from ablation.cli import _parser

    words = line.split("#")[0].split()[1:]
    assert _parser().parse_args(words).call


def test_the_search_pages_own_search_loads(tmp_path):
    (code,) = blocks((ROOT / "docs" / "search.md").read_text(), "python")
    (tmp_path / "mine.py").write_text(code)
    (search,) = load_searches(read(str(tmp_path / "mine.py"), "tiny")).values()
    assert set(definition(search)["space"]) == {"strength", "p"}


def test_the_statistics_pages_examples_run(monkeypatch, capsys):
    """The first uses raw numbers, and its comment states the output. The others use a committed table."""
    monkeypatch.chdir(ROOT)
    codes = blocks((ROOT / "docs" / "statistics.md").read_text(), "python")
    assert len(codes) == 3
    said = []
    for code in codes:
        exec(compile(code, "statistics.md", "exec"), {})
        said.append(capsys.readouterr().out.strip())
    assert f"# {said[0]}" in codes[0]
    removal = Table("removal-cifar10-small", cell=("cell",), figures=Figures(ROOT / "figures"))
    assert said[1] == removal.gap("linear", {"cell": "baseline"}, {"cell": "remove blur"})
    assert set(ast.literal_eval(said[2].splitlines()[0])) == set(removal.best("linear").split("; "))


def test_the_experiments_page_has_a_whole_file(tmp_path):
    [code] = [block for block in blocks((ROOT / "docs" / "experiments.md").read_text(), "python") if "def " in block]
    (tmp_path / "mine.py").write_text(code)
    found = load(read(str(tmp_path / "mine.py"), "cifar10-small"))
    assert len(found.cells) == 2 * 3 * 3
    assert len({cell.run for cell in found.cells}) == 18
    figure = found.figures["lines"]
    rows = [dict(cell.coords) | dict.fromkeys(figure.values, 50.0 + i) for i, cell in enumerate(found.cells)]
    assert figure.draw(pd.DataFrame(rows)).axes


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#:]+)\)", prose):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_methods_page_has_a_card_for_every_method():
    """`python docs/methods.py` generates docs/methods.md; no edits by hand."""
    page = runpy.run_path(str(ROOT / "docs" / "methods.py"))["page"]()
    assert (ROOT / "docs" / "methods.md").read_text() == page
    for name, changes in TRAININGS.items():
        card = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert f"{type(changes['method']).__name__}(" in card
        for part in ("Heads", "Views", "State", "Evaluated"):
            assert f"\n- {part}: " in card
        assert "\nPublished: " in card or name == "supervised"
        described = card.split("\n- Heads: ")[0]
        above = re.search(r"[Ff]ields as (MSN|Sim\w+)'s", " ".join(described.split()))
        described += page.split(f"\n## {above[1]}\n")[1].split("\n- Heads: ")[0] if above else ""
        fields = {each.name for each in dataclasses.fields(changes["method"])} - {"batch_norm"}  # above all cards
        assert {each for each in fields if not re.search(rf"\b{each}\b", described)} == set()
        assert re.search(r"arXiv:\d{4}\.\d{5}|Pototzky", card) or name == "supervised"


def test_the_methods_pictures_show_the_published_views_of_every_method():
    """As the code draws them, up to rounding; each method in one row."""
    page = (ROOT / "docs" / "methods.md").read_text()
    for size, (rows, drawn) in runpy.run_path(str(ROOT / "docs" / "methods.py"))["drawn"]().items():
        named = [name for row in rows for name in row.cells.split(" ", 1)[1].split(", ")]
        assert sorted(named) == sorted(kind.label for kind in RECIPES)
        path = ROOT / "docs" / f"methods-{size}.png"
        assert f"({path.name})" in page
        assert path.stat().st_size < 300_000
        with Image.open(path) as committed:
            assert committed.size == drawn.size
            difference = ImageChops.difference(committed.convert("RGB"), drawn.convert("RGB"))
        assert max(ImageStat.Stat(difference).mean) < 2


def test_the_operators_page_describes_every_operator():
    """`python docs/operators.py` generates docs/operators.md; no edits by hand."""
    page = runpy.run_path(str(ROOT / "docs" / "operators.py"))["page"]()
    assert (ROOT / "docs" / "operators.md").read_text() == page
    for name in operators.__all__:
        cls = getattr(operators, name)
        if issubclass(cls, Operator) and cls is not Operator:
            assert f"## {name}\n" in page


def test_the_pages_name_every_scale_and_column():
    experiments, results = ((ROOT / "docs" / f"{n}.md").read_text() for n in ("experiments", "results"))
    for scale in SCALES:
        assert f"| `{scale}` |" in experiments
    for csv, axes in committed_tables():
        for column in pd.read_csv(csv, nrows=1).columns:
            general = re.sub(r"^(knn|linear)_(train|validation|test)_(top1|top5)_(running|recalibrated)$", "", column)
            general = re.sub(r"^linear_z_(train|validation|test)_(top1|top5)_(running|recalibrated)$", "", general)
            general = re.sub(r"^probe_\w+_(train|validation|test)_top1_(running|recalibrated)$", "", general)
            general = re.sub(r"^invariance_test_\w+_(running|recalibrated)$", "", general)
            general = re.sub(r"^(knn|linear|linear_z|probe_\w+|invariance)_seconds$", "EVALUATION_seconds", general)
            general = re.sub(r"_(running|recalibrated)$", "_STATISTICS", general)
            assert not general or column in axes or f"`{general}`" in results, column


def committed_tables() -> list[tuple[Path, set[str]]]:
    """Each CSV file in figures/ with the coordinates of its experiment; docs/search.md lists those of searches."""
    found = []
    for csv in (ROOT / "figures").glob("*.csv"):
        if csv.stem.startswith(tuple(names("search"))):
            continue
        (name, scale), *_ = [
            (name, scale) for name in names("experiment") for scale in SCALES if csv.stem.startswith(f"{name}-{scale}")
        ]
        cells = load(read(name, scale)).cells
        found.append((csv, {axis for cell in cells for axis in cell.coords}))
    return found


def test_the_readmes_numbers_are_the_tables():
    """Every "mean ± sd" of the README is a cell of a committed table."""
    found = set()
    for csv, coordinates in committed_tables():
        if csv.stem.endswith(("-curves", "-images")):
            continue
        table = pd.read_csv(csv)
        axes = [axis for axis in table if axis in coordinates - {"seed"}]
        measured = [each for each in ("linear_test_top1_recalibrated", "knn_test_top1_recalibrated") if each in table]
        for value in measured:
            cells = table.groupby(axes, dropna=False)[value].agg(["mean", "std"])
            found |= {f"{row['mean']:.1f} ± {row['std']:.1f}" for _, row in cells.iterrows()}
    stated = re.findall(r"\d+\.\d ± \d+\.\d", " ".join(README.split()))
    assert len(stated) >= 8
    assert set(stated) <= found


def test_the_speed_page_is_what_was_measured():
    """`python docs/speed.py` generates docs/speed.md from benchmarks/*.csv, including its bars."""
    page = runpy.run_path(str(ROOT / "docs" / "speed.py"))["page"]()
    assert (ROOT / "docs" / "speed.md").read_text() == page


def test_every_fault_of_the_page_has_its_test():
    page = (ROOT / "docs" / "machines.md").read_text()
    named = re.findall(r"`(test_\w+)`", page)
    code = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    assert len(named) >= 15
    assert [name for name in named if f"def {name}(" not in code] == []


def test_the_report_pages_example_runs(tmp_path):
    """On the committed tables: every value is shown, and the loop has a row for each operator."""
    page = (ROOT / "docs" / "report.md").read_text()
    (values,), (template,) = blocks(page, "python"), blocks(page, "jinja")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "values.py").write_text(values)
    (tmp_path / "report" / "report.md.jinja").write_text(template)
    (tmp_path / "figures").symlink_to(ROOT / "figures")
    report = Report(tmp_path / "report", tmp_path / "figures")
    assert "| crop | " in report.markdown()
    assert "figure" in report.html()
    assert report.unused() == []


def test_every_method_of_a_reports_table_is_in_the_docs():
    page = (ROOT / "docs" / "report.md").read_text()
    assert set(re.findall(r"^\| `(\w+)\(", page, re.MULTILINE)) == {n for n in vars(Table) if not n.startswith("_")}


def test_the_headline_numbers_are_those_of_the_table():
    """The best pairs, the next ones, the pooled spread, and the smallest difference that Tukey's test resolves."""
    text = " ".join(README.split())
    table = read_table(ROOT / "figures" / "pairwise-cifar10-small.csv").dropna(subset=["first", "second"])
    for value, said in (
        ("linear_test_top1_recalibrated", "{} and {} by linear evaluation ("),
        ("knn_test_top1_recalibrated", "{} both by kNN, the next {other}"),
    ):
        found = numbers(table, [value]).groupby(["first", "second"])[value].agg(["mean", "std", "size"])
        shown = [f"{row['mean']:.1f} ± {row['std']:.1f}" for _, row in found.iterrows()]
        cells = dict(zip(found.index, shown, strict=True))
        pairs = [cells.pop(("crop", "color")), cells.pop(("color", "crop"))]
        third = max(cells.values(), key=lambda each: float(each.split()[0]))
        sd = (found["std"] ** 2).mean() ** 0.5
        assert said.format(*pairs, third, other=third) in text
        if value.startswith("linear"):
            assert f"deviation over seeds, {sd:.1f} pooled over all pairs), the next pair {third};" in text
        if value.startswith("linear"):
            freedom, n = (found["size"] - 1).sum(), found["size"].iloc[0]
            least = studentized_range.ppf(0.95, len(found), freedom) * sd / n**0.5
            assert f"Differences below {least:.1f} points" in text


def test_the_controls_numbers_are_those_of_the_table():
    text = " ".join(README.split())
    table = read_table(ROOT / "figures" / "control-tiny.csv")
    value = "linear_test_top1_recalibrated"
    for shortcut in ("1", "0"):
        shown = []
        for cell in ("crop", "crop + color"):
            rows = table[(table["cell"] == cell) & (table["shortcut"].astype(float) == float(shortcut))]
            found = numbers(rows, [value])[value]
            shown.append(f"{found.mean():.1f} ± {found.std():.1f}")
        assert " against ".join(shown) in text


def test_what_bfloat16_pays_is_what_was_measured():
    """A whole training on all cores, in each precision."""
    measured = pd.read_csv(ROOT / "benchmarks" / "cpu.csv").query("benchmark == 'loops' and contender == 'ours'")
    rates = {name: measured[measured["case"].str.contains(name)]["value"].item() for name in ("float32", "bfloat16")}
    assert f"about {rates['bfloat16'] / rates['float32']:.1f} times" in BFLOAT16_PAYS
