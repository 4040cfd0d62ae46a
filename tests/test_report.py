"""The report: numbers from tables, an interactive page, and a check that detects changes."""

import contextlib
import io
import json
import math
import re
import shutil
import subprocess

import pandas as pd
import pytest
from helpers import GRID, ROOT, ablation_here
from scipy import stats

from ablation.analysis.settings import path_of, read_settings
from ablation.analysis.tables import digest
from ablation.cli import main
from ablation.plots import Heatmap, save
from ablation.plots.columns import columns_of
from ablation.report import Table
from ablation.report.check import stale_figures
from ablation.report.html import LIMIT
from ablation.report.latex import _PLAIN, _escaped
from ablation.report.render import Report
from ablation.report.values import Figures
from ablation.spec import AblationError, InvalidSpec
from ablation.spec.metric import MEASURED
from ablation.study.experiment_file import load, read

TEXT = """# A report

Crop then Sobel reaches {{ crop_sobel }} percent.

{{ pairs }}

## Pictures

![The grid](../figures/grid-tiny-heatmap.png)

{{ grid_map }}

It would take {{ needed }} seeds.
"""
VALUES = """
from ablation.report import Table

grid = Table("grid-tiny", cell=("first", "second"))
crop_sobel = grid.mean("linear", first="crop", second="sobel")
pairs = grid.cells()
grid_map = grid.heatmap("linear", "The grid, to click on")
needed = grid.seeds_needed("linear", 3)
"""


def write_report(folder, text, values=""):
    """A report's folder with these two files."""
    folder.mkdir(exist_ok=True)
    (folder / "report.md.jinja").write_text(text)
    (folder / "values.py").write_text("from ablation.report import Table\n\n" + values)


def run_report(place, *options, code=0) -> str:
    """`ablation report` in this process; returns both output streams."""
    text = io.StringIO()
    with contextlib.chdir(place), contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        assert main(["report", *options]) == code, text.getvalue()
    return text.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small grid with results, and a report on it."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "grid.py").write_text(GRID.replace("epochs=1", "epochs=2"))  # two points of a learning curve
    ablation_here("run", "grid.py", "--workers", "1", cwd=folder)
    write_report(folder / "report", TEXT, VALUES)
    run_report(folder)
    return folder


@pytest.fixture
def place(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "report-place")


def test_numbers_come_from_the_table(place):
    table = pd.read_csv(place / "figures" / "grid-tiny.csv")
    cell = table[(table["first"] == "crop") & (table["second"] == "sobel")]["linear_test_top1_recalibrated"]
    text = (place / "report" / "report.md").read_text()
    assert f"reaches {cell.mean():.1f} ± {cell.std(ddof=1):.1f} percent" in text
    assert "| crop" in text
    assert "![The grid](../figures/grid-tiny-heatmap.png)" in text
    assert "{{" not in text


def test_a_run_leaves_curves_and_strips(place):
    curves = pd.read_csv(place / "figures" / "grid-tiny-curves.csv")
    assert set(curves.columns) >= {"first", "second", "seed", "epoch", "loss", "validation_knn"}
    assert len(curves) == 16  # 4 cells, 2 seeds, 2 epochs
    assert set(curves["encoded_images"]) == {192, 384}  # two views of 96 of 100 images, in whole batches
    assert (place / "figures" / "grid-tiny-views.png").stat().st_size > 500
    images = pd.read_csv(place / "figures" / "grid-tiny-images.csv")
    assert len(images) == 8  # 4 cells, 2 evaluations
    table = pd.read_csv(place / "figures" / "grid-tiny.csv")
    cell = table[(table["first"] == "crop") & (table["second"] == "sobel")]["linear_test_top1_recalibrated"]
    same = images.query("first == 'crop' and second == 'sobel' and evaluation == 'linear'")
    assert same["accuracy"].item() == pytest.approx(cell.mean(), abs=0.01)
    assert (images["whole_error"] >= images["seed_error"]).all()


def test_figures_know_all_columns_of_a_table_beforehand(place):
    """Figures can use every measurement of a run."""
    cells = load(read(str(place / "grid.py"), "tiny")).cells
    known, _, _ = columns_of(cells)
    table = pd.read_csv(place / "figures" / "grid-tiny.csv").select_dtypes("number")
    assert set(table.columns) - {"seed", "format"} <= set(known)
    for name in ("curves", "images"):
        table = pd.read_csv(place / "figures" / f"grid-tiny-{name}.csv").select_dtypes("number")
        assert set(table.columns) - {"seed"} <= set(MEASURED[name])


def test_tables_are_written_and_figures_drawn_though_a_picture_fails(place, monkeypatch, capsys):
    """The views and one of two figures fail; the other is drawn, failures are named, and the exit code is nonzero."""
    code = (place / "grid.py").read_text()
    assert 'figures={"heatmap"' in code
    (place / "grid.py").write_text(
        code.replace('figures={"heatmap"', 'figures={"bad": Bad(rows="first", columns="second"), "heatmap"')
        + "\n\nclass Bad(Heatmap):\n    def draw(self, table):\n        raise OSError(28, 'No space left on device')\n"
    )
    shutil.rmtree(place / "figures")
    monkeypatch.chdir(place)
    monkeypatch.setattr("ablation.plots.samples.render", lambda *_: [][0])
    assert main(["run", "grid.py", "--workers", "1"]) == 1
    shown = capsys.readouterr()
    assert "the views are not shown: IndexError" in shown.err
    assert "the figure 'bad' of figures/grid-tiny.csv is not drawn: [Errno 28] No space left" in shown.err
    assert {path.name for path in (place / "figures").iterdir()} >= {
        "grid-tiny.csv", "grid-tiny-curves.csv", "grid-tiny-images.csv", "grid-tiny-heatmap.png",
        "grid-tiny-heatmap.pdf",
    }  # fmt: skip
    assert "Change nothing at the size of these images" not in shown.out


def test_another_experiment_of_the_same_name_is_refused_before_it_runs(place, monkeypatch, capsys):
    (place / "other").mkdir()
    (place / "other" / "grid.py").write_text((place / "grid.py").read_text().replace("Sobel()", "Blur()"))
    monkeypatch.chdir(place)
    before = (place / "figures" / "grid-tiny.csv").read_bytes()
    assert main(["run", "other/grid.py", "--dry-run"]) == 2
    assert "other/grid.py has the same name" in capsys.readouterr().err
    assert main(["run", "other/grid.py"]) == 2
    assert (place / "figures" / "grid-tiny.csv").read_bytes() == before
    (place / "grid.py").unlink()
    shutil.move(place / "other" / "grid.py", place / "grid.py")  # edited in place
    assert main(["run", "grid.py", "--dry-run"]) == 0


def test_the_page_links_to_the_figures(place):
    """It loads nothing from the network, and only existing pictures."""
    folder = place / "report"
    page = (folder / "report.html").read_text()
    assert "http" not in page
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert [a for a in addresses if not a.startswith("#")] == ["../figures/grid-tiny-heatmap.png"]
    assert (folder / payload(page)["strips"]).is_file()
    assert {len(cell["values"]) for cell in payload(page)["cells"]} == {2}
    assert len(payload(page)["cells"]) == 4
    assert '<a href="#section-1">Pictures</a>' in page
    assert '<h2 id="section-1">Pictures</h2>' in page
    assert re.search(r'<img alt="The grid" src="[^"]+"><span>The grid</span>', page)


def test_a_standalone_page_holds_everything(place):
    run_report(place, "--standalone", "sent.html")
    page = (place / "sent.html").read_text()
    assert len(page.encode()) < LIMIT
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "http" not in re.sub(r"data:image/png;base64,[\w+/=]+", "", page)
    assert payload(page)["strips"].startswith("data:image/png;base64,")
    assert "follows from its tables" in run_report(place, "--check")


def test_the_check_passes_and_notices(place):
    assert "follows from its tables" in run_report(place, "--check")
    text = place / "report" / "report.md"
    original = text.read_text()
    text.write_text(original.replace(" ± ", " ± 1", 1))
    assert "report.md:5: is '" in run_report(place, "--check", code=1)
    text.write_text(original.replace("It would", "It might"))
    assert "is 'might', and should be 'would'" in run_report(place, "--check", code=1)
    text.write_text(original)
    csv = place / "figures" / "grid-tiny.csv"
    table, settings = pd.read_csv(csv), read_settings(csv)
    table.loc[0, "linear_test_top1_recalibrated"] += 1
    table.to_csv(csv, index=False)
    path_of(csv).write_bytes(settings.content(csv))  # as a run writes it
    said = run_report(place, "--check", code=1)
    assert "grid-tiny-heatmap.png was not drawn from grid-tiny.csv" in said
    assert "grid-tiny-heatmap.pdf was not drawn from grid-tiny.csv" in said
    assert "report.html was made from another ../figures/grid-tiny.csv" in said
    assert ".tex was made from another grid-tiny.csv" in said


def test_the_check_notices_what_was_changed_or_is_missing(place):
    report, figures = place / "report", place / "figures"
    page, table = report / "report.html", next((report / "tables").glob("01-*.tex"))
    for path, change, said in [
        (page, lambda text: text.replace("A report", "A better report"), "report.html differs from the page of"),
        (page, None, "report.html is missing; run `ablation report`"),
        (report / "report.md", None, "report.md is missing; run `ablation report`"),
        (report / "values.py", lambda text: text + "# a note", "report.html was made from another values.py"),
        (table, lambda text: text.replace("crop", "color"), f"{table.name} was changed"),
        (table, None, f"{table.name} is missing; run `ablation report`"),
        (table.with_name("09-old.tex"), lambda text: "", "09-old.tex belongs to no table of the report; remove it"),
        (figures / "other-lines.png", lambda text: "", "other-lines.png has no table beside it"),
    ]:
        original = path.read_bytes() if path.is_file() else None
        if change is None:
            path.unlink()
        else:
            path.write_text(change(original.decode() if original else ""))
        assert said in run_report(place, "--check", code=1), said
        path.unlink(missing_ok=True)
        if original:
            path.write_bytes(original)
    (report / "tables" / "09-old.tex").write_text("")
    run_report(place)
    assert "follows from its tables" in run_report(place, "--check")


def test_a_known_experiments_figures_are_all_there(tmp_path):
    """The committed tables without one of their pictures."""
    for path in (ROOT / "figures").glob("losses-*"):
        shutil.copy(path, tmp_path)
    assert stale_figures(tmp_path) == []
    (tmp_path / "losses-cifar10-small-bars.pdf").unlink()
    assert stale_figures(tmp_path) == [f"{tmp_path}/losses-cifar10-small-bars.pdf is not there; run `ablation figures`"]


OWN = 'my = Table("my", cell=("first", "second"))\n'


def own(folder, text, values, seeds=2, **columns) -> Report:
    """A report on a user's own table of 2 x 2 cells."""
    rows = [{"first": a, "second": b, "seed": s, "v": 10.0 + s} for a in "ab" for b in "ab" for s in range(seeds)]
    pd.DataFrame(rows).assign(**columns).to_csv(folder / "my.csv", index=False)
    write_report(folder / "report", text, OWN + values)
    return Report(folder / "report", folder)


def payload(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)[1])


def test_one_seed_gives_no_verdict_and_no_interval(tmp_path):
    page = own(tmp_path, "{{ grid }}", 'grid = my.heatmap("v", "All")', seeds=1).html()
    assert {cell["best"] for cell in payload(page)["cells"]} == {None}
    assert {cell["seconds"] for cell in payload(page)["cells"]} == {None}  # and this table has none
    assert 'class="cell best' not in page
    my = Table("my", cell=("first", "second"), figures=Figures(tmp_path))
    assert my.gap("v", {"first": "a", "second": "a"}, {"first": "b", "second": "b"}) == (
        "0.0 (no interval: no cell has two seeds)"
    )
    assert my.best("v") == "not known: no cell has two seeds"
    with pytest.raises(InvalidSpec, match="seeds_needed needs a spread"):
        my.seeds_needed("v", 2)


def test_labels_cannot_leave_the_data_of_a_page(tmp_path):
    own(tmp_path, "{{ grid }}", 'grid = my.heatmap("v", "All")')
    table = pd.read_csv(tmp_path / "my.csv").replace("a", "<!--<script></script>")
    table.to_csv(tmp_path / "my.csv", index=False)
    page = Report(tmp_path / "report", tmp_path).html()
    assert page.count("<script>") == page.count("</script>") - 2  # two others have attributes
    assert "<!--" not in page.replace("<!-- `ablation report`", "")
    assert payload(page)["cells"][0]["view"] == "<!--<script></script>"


@pytest.mark.parametrize(
    ("text", "values", "words"),
    [
        ("\n{{ mean }}", "", r"report\.md\.jinja:2: mean is no value of values\.py"),
        ("\n{{ gap.knn }} {{ best }}", "gaps = 1", r"jinja:2: gap is no value.* mean gaps\?.*best"),
        ("\n\n{{ gap.knn }}", "gap = {'linear': '1'}", r"jinja:3: .*no attribute 'knn'"),
        ("{{ gap }}", "gap = {'linear': '1'}", r"jinja:1: .*text, a number or a table, but has parts: linear"),
        ("{{ gap }}", "gap = [None]", r"jinja:1: .*but is a list"),
        ("\n{% for x in %}", "", r"jinja:2: "),
        ("{{ my }}", "", "my is no value"),  # a table is not a value
        ("", 'x = Table("nothing")', r"values\.py:4: the table .*nothing\.csv does not exist"),
        ("", 'x = Table("../my")', r"values\.py:4: .*without a folder"),
        ("", 'x = my.mean("w")', r"values\.py:4: my has no column 'w'; its columns are first, second, seed, v"),
        ("", "x = mean('my')", r"values\.py:4: NameError: name 'mean'"),
        ("", "x = (", r"values\.py:4: "),
        ("![x](../no.png)", "", r"jinja: the picture \.\./no\.png is not there"),
        ("![x](/etc/passwd)", "", r"must be a PNG in .*but is /etc/passwd"),
        ("![x](../../y.png)", "", r"must be a PNG in .*but is \.\./\.\./y.png"),
    ],
)
def test_a_mistake_is_one_sentence_with_its_place(text, values, words, tmp_path):
    with pytest.raises(AblationError, match=words):
        own(tmp_path, text, values).html()


def test_a_value_that_is_not_shown_is_listed(tmp_path, monkeypatch, capsys):
    """Each leaf of a dictionary or list, the first three of a name; one number per record is enough. Helpers in the
    file are not values."""
    report = own(
        tmp_path,
        "{{ shown.linear }} {{ seeds.p }} {% for row in rows %}{{ row.a }}{% endfor %}",
        "shown = {'linear': 'x' + str(1), 'knn': 'x' + str(2)}\nseeds = my.seeds('v')\nTWICE = 2\n_hidden = 'y'\n"
        "def double(x): return 2 * x\nrows = [{'a': str(700), 'b': str(800)}]\nalone = my.mean('v')\n"
        "many = list('12345')\n",
    )
    listed = [re.search(r"computes (.+), but report.md.jinja does not show", each)[1] for each in report.unused()]
    assert listed == ["shown.knn", "rows[0].b", "alone", "many[0], many[1], many[2], 2 more of many"]
    monkeypatch.chdir(tmp_path)
    assert main(["report", "--figures", "."]) == 0
    assert "computes alone" in capsys.readouterr().err
    assert main(["report", "--figures", ".", "--check"]) == 1
    assert "computes alone" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["2", "'x'", "''", "0.5", "1 + 1", "(1, 2)[1]"])
def test_an_equal_value_that_is_shown_does_not_hide_one_that_is_not(value, tmp_path):
    report = own(tmp_path, "{{ one }} {{ parts.a }}", f"one = two = {value}\nparts = {{'a': {value}, 'b': {value}}}\n")
    assert [each.split(" computes ")[1].split(",")[0] for each in report.unused()] == ["two", "parts.b"]


def test_a_folder_without_a_template_is_refused(tmp_path, capsys):
    assert main(["report", "--report", str(tmp_path)]) == 2
    assert "--report must be a folder with report.md.jinja and values.py" in capsys.readouterr().err
    (tmp_path / "report.md.jinja").write_text("")
    assert main(["report", "--report", str(tmp_path)]) == 2
    assert "values.py, which computes the values of the report, is not there" in capsys.readouterr().err


def test_values_are_computed_from_files_beside_them_and_anew_each_time(tmp_path):
    write_report(tmp_path / "report", "{{ x }}", "from tool import SIZE\n\nx = SIZE * Table('my').count()")
    (tmp_path / "report" / "tool.py").write_text("SIZE = 10\n")
    for rows in (1, 2):
        pd.DataFrame({"seed": range(rows)}).to_csv(tmp_path / "my.csv", index=False)
        assert Report(tmp_path / "report", tmp_path).markdown().endswith(f"\n{10 * rows}")


def test_a_loop_makes_the_rows_of_a_table(tmp_path):
    text = "| a | b |\n| --- | --- |\n{% for row in rows %}\n| {{ row.a }} | {{ row.b }} |\n{% endfor %}\n\nEnd.\n"
    report = own(tmp_path, text, "rows = [{'a': a, 'b': my.count(first=a)} for a in 'ab']")
    assert report.markdown().endswith("| a | b |\n| --- | --- |\n| a | 4 |\n| b | 4 |\n\nEnd.\n")
    assert "<td>b</td>" in report.html()


def test_every_experiment_that_is_spoken_of_has_an_appendix(tmp_path):
    """Also if the report has only a number of it, a figure, or a number of a table beside it; others have none."""
    (tmp_path / "figures").mkdir()
    for name in ("losses", "temperature", "heads", "removal"):
        for path in (ROOT / "figures").glob(f"{name}-cifar10-small*"):
            shutil.copy(path, tmp_path / "figures")
    write_report(
        tmp_path / "report",
        "{{ mean }} {{ error }} ![T](../figures/temperature-cifar10-small-bars.png)",
        'mean = Table("losses-cifar10-small").mean("linear")\n'
        'error = Table("heads-cifar10-small").images("seed_error", "linear")\n',
    )
    found = Report(tmp_path / "report", tmp_path / "figures").latex()
    appendices = {f"appendix-{name}-cifar10-small.tex" for name in ("losses", "temperature", "heads")}
    assert set(found) == {*appendices, "all.tex"}
    assert all(rf"\input{{{name}}}" in found["all.tex"] for name in appendices)
    assert all(r"images, pixels a side & 32 \\" in found[name] for name in appendices)  # from the settings


def test_labels_reach_the_page_as_text(tmp_path):
    labels = ["<script>alert(1)</script>", "<!-- / -->", "a | b"]
    rows = [{"operator": label, "seed": s, "v": 1.0 * s} for label in labels for s in (0, 1)]
    pd.DataFrame(rows).to_csv(tmp_path / "my.csv", index=False)
    write_report(
        tmp_path / "report", "{{ cells }}\n\n{{ best }}\n\nThe end.\n",
        'my = Table("my", cell=("operator",))\ncells, best = my.cells(["v"]), my.best("v")\n',
    )  # fmt: skip
    page = Report(tmp_path / "report", tmp_path).html()
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == page.count("&lt;!-- / --&gt;") == 2
    assert page.count(">a | b</td>") == 1


def test_page_and_latex_say_what_a_star_means(tmp_path):
    report = own(
        tmp_path, "{{ all }}\n\n{{ rows }}\n", 'all, rows = my.cells(["v"]), my.cells(["v"], within=["first"])'
    )
    stars = ["the best (Hsu, 95 %).", "the best with the same first (Hsu, 95 %)."]
    page, (first, second, _) = report.html(), report.latex().values()
    for said, tex in zip(stars, (first, second), strict=True):
        assert f"<p>* not significantly different from {said}</p>" in page
        assert f"over n = 2 seeds; * not significantly different from {said.replace('%', chr(92) + '%')}}}" in tex


@pytest.mark.parametrize(
    "expression",
    [
        "text.__class__.__mro__",
        "''.__class__",
        "text.format(1)",
        "text|upper",
        "text|attr('__class__')",
        "record.items()",
        "record.__class__",
        "record['__class__']",
        "order.unescape()",
        "cells.frame",
        "cells.frame.to_csv('broken')",
        "grid.html(1)",
        "grid.cells.to_csv('broken')",
        "self._TemplateReference__context",
        "lipsum.__globals__",
        "cycler('a').__init__.__globals__",
        "range(3)",
        "namespace(a=1)",
        "1 / 0",
        "1 }}{% include '/etc/passwd' %}{{ 1",
        "1 }}{% import 'os' as os %}{{ 1",
    ],
)
def test_a_template_reaches_nothing_but_values(expression, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = own(
        tmp_path, f"{{{{ {expression} }}}}",
        "text, record, order = 'x', my.seeds('v'), my.order('v')\n"
        "cells, grid = my.cells(['v']), my.heatmap('v', 'All')",
    )  # fmt: skip
    with pytest.raises(InvalidSpec, match=r"report.md.jinja:1: "):
        report.markdown()
    assert not (tmp_path / "broken").exists()


EVIL = (
    "<!-- / -->", '<!-- {{ mean("my", "v") }} -->', "{{ 7 * 7 }}", "<img src=x onerror=alert(1)>", "](javascript:x)",
    '"><script>alert(1)</script>', "a | b", "`x`", "{% raw %}", "</script><script>", "a, b\n\n# c",
)  # fmt: skip


@pytest.mark.parametrize("label", EVIL)
def test_no_label_becomes_markup(label, tmp_path):
    """Markup of the template, of Markdown or of HTML, in every method that shows labels."""
    names = ("cells", "best", "order", "grid", "text", "record.second")
    own(
        tmp_path,
        "".join(f"{{{{ {name} }}}}\n\n" for name in names) + "{% for row in rows %}\n- {{ row.label }}\n{% endfor %}\n",
        'best, cells, order, grid = my.best("v"), my.cells(["v"]), my.order("v"), my.heatmap("v", "All")\n'
        'text = "about %s" % best\nrecord = {"second": best}\n'
        'rows = [{"label": label} for label in my.figures.table("my")["first"]]\n',
    )
    table = pd.read_csv(tmp_path / "my.csv").replace("a", label).rename(columns={"v": label[:20]})
    table.assign(v=table[label[:20]]).to_csv(tmp_path / "my.csv", index=False)
    report = Report(tmp_path / "report", tmp_path)
    once = report.markdown()
    assert once.count("<!--") == 1  # the generator's note
    assert "{{" not in once
    page = report.html()
    shown = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert "<script" not in shown
    assert "<img" not in shown
    assert "<h1" not in shown
    assert "javascript:x" not in re.sub(r">[^<]*<", "><", shown)  # in no attribute
    first = payload(page)["cells"][0]["view"]
    assert " ".join(first.split()) == " ".join(label.split())
    for text in report.latex().values():
        assert text.isascii()


def test_the_projects_own_report_follows_from_its_tables():
    assert "follows from its tables" in run_report(ROOT, "--check")


def test_figures_know_their_table(tmp_path):
    rows = [
        {"row": r, "column": c, "seed": s, "v": 10.0 * len(r) + s} for r in ("a", "b") for c in "xy" for s in (0, 1)
    ]
    facts = {"dataset": "d", "method": "m", "encoder": "e", "shared": "none", "epochs": 1}
    counts = {f"{split}_images": 10 for split in ("train", "validation", "test")}
    table = pd.DataFrame(rows).assign(**facts, **counts)
    table.to_csv(tmp_path / "my.csv", index=False)
    save(
        Heatmap(rows="row", columns="column", values=("v",)).draw(table),
        tmp_path / "my-heatmap",
        digest(tmp_path / "my.csv"),
    )
    assert stale_figures(tmp_path) == []
    table.assign(v=0.0).to_csv(tmp_path / "my.csv", index=False)
    assert len(stale_figures(tmp_path)) == 2


@pytest.fixture
def browser():
    webdriver = pytest.importorskip("selenium.webdriver")
    driver_path, chromium = shutil.which("chromedriver"), shutil.which("chromium") or shutil.which("google-chrome")
    if not driver_path or not chromium:
        pytest.skip("no Chromium with its chromedriver is installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,1600"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    yield driver
    driver.quit()


@pytest.mark.slow
def test_pointing_at_a_cell(browser, place):
    """In a real browser: numbers, seconds and views of the cell under the pointer; tables sort."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get((place / "report" / "report.html").as_uri())
    table = pd.read_csv(place / "figures" / "grid-tiny.csv")
    runs = table[(table["first"] == "crop") & (table["second"] == "sobel")]
    detail = browser.find_element(By.CSS_SELECTOR, ".detail")
    assert detail.text == "Click on a cell, or point at it."
    height = browser.execute_script("return document.documentElement.scrollHeight")
    cell = browser.find_elements(By.CSS_SELECTOR, "figure.heatmap tbody tr:first-child td")[1]
    ActionChains(browser).move_to_element(cell).perform()
    WebDriverWait(browser, 10).until(lambda _: "crop + sobel" in detail.text)
    value = runs["linear_test_top1_recalibrated"]
    assert f"{value.mean():.1f} %" in detail.text
    assert f"± {value.std(ddof=1):.1f} over 2 seeds" in detail.text
    assert f"{runs['training_seconds'].mean():.1f} s of training" in detail.text
    curves = pd.read_csv(place / "figures" / "grid-tiny-curves.csv")
    last = curves[(curves["first"] == "crop") & (curves["second"] == "sobel") & (curves["epoch"] == 2)]
    assert f"loss to {last['loss'].mean():.4g}" in detail.text
    drawn = [path.get_attribute("d") for path in detail.find_elements(By.CSS_SELECTOR, "svg path.curve")]
    assert drawn[0].count("L") == 1  # the loss at two epochs
    assert all("NaN" not in d for d in drawn)
    strip = WebDriverWait(browser, 10).until(lambda b: b.find_element(By.CSS_SELECTOR, ".detail .strip"))
    assert strip.size["height"] == 64  # views of 16 px at four times their size
    assert browser.execute_script("return document.documentElement.scrollHeight") == height  # the layout does not move
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    head = browser.find_element(By.CSS_SELECTOR, "table.sortable th:nth-child(4) button")
    head.click()
    column = [e.text for e in browser.find_elements(By.CSS_SELECTOR, "table.sortable tbody td:nth-child(4)")]
    numbers = [float(text.split()[0]) for text in column]
    assert numbers == sorted(numbers, reverse=True)


@pytest.mark.slow
def test_a_column_with_a_missing_value_sorts_as_numbers(browser, tmp_path):
    """By hand: as text, 9.5 would come after 10.5."""
    from selenium.webdriver.common.by import By

    report = own(tmp_path, "{{ cells }}", 'cells = my.cells(["v"])', v=[None, None, 9.0, 10.0, 10.0, 11.0, 8.0, 9.0])
    (tmp_path / "page.html").write_text(report.html())
    browser.get((tmp_path / "page.html").as_uri())
    browser.find_element(By.CSS_SELECTOR, "table.sortable th:nth-child(4) button").click()
    column = [e.text for e in browser.find_elements(By.CSS_SELECTOR, "table.sortable tbody td:nth-child(4)")]
    assert [text.split()[0] for text in column] == ["10.5", "9.5", "8.5", "-"]


@pytest.mark.slow
def test_latex_compiles(place):
    """With a grid, its appendix, and labels of all kinds: also first in a row, where LaTeX looks for an argument."""
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex is installed")
    labels = [
        "[crop]",
        "* a",
        "σ = 0.5, ΔΩ ά µ",
        "日本",
        "é ñ ç ő ế ǖ ī ą",
        "ﬁ ½ ＆ ＿ “x” → 90°",
        r"\a{b}_c^d~e & # % $",
        "<|>",
    ]
    rows = [{"operator": label, "seed": s, "v": 1.0 * s} for label in labels for s in (0, 1)]
    pd.DataFrame(rows).to_csv(place / "figures" / "ödd_σ.csv", index=False)
    write_report(
        place / "report",
        TEXT + "\n{{ odd }}\n",
        VALUES + 'odd = Table("ödd_σ", cell=("operator",)).cells({"σ": "v", "[b]": "v"})\n',
    )
    run_report(place)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=place / "report" / "tables", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (place / "report" / "tables" / "all.pdf").stat().st_size > 10_000


@pytest.mark.slow
def test_a_phone_shows_the_page_without_scrolling_sideways(browser, place):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    )
    for page in ((place / "report" / "report.html"), ROOT / "report" / "report.html"):
        browser.get(page.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") == 390


@pytest.mark.slow
def test_every_character_of_the_table_compiles_without_a_package(tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex is installed")
    lines = "".join(f"{_escaped(chr(code))}\\par\n" for code in sorted(_PLAIN))
    (tmp_path / "all.tex").write_text(f"\\documentclass{{article}}\n\\begin{{document}}\n{lines}\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]


def test_a_change_of_a_difference_is_one_of_four_cells(tmp_path):
    """(10 - 4) - (3 - 1) = 4; four cells of three runs each have the error sqrt(4 / 3), with 8 degrees of freedom."""
    levels = {("x", "new"): 10, ("y", "new"): 4, ("x", "old"): 3, ("y", "old"): 1}
    rows = [{"a": a, "b": b, "seed": s, "v": mean + s - 1.0} for (a, b), mean in levels.items() for s in range(3)]
    pd.DataFrame(rows).to_csv(tmp_path / "four.csv", index=False)
    four = Table("four", cell=("a", "b"), figures=Figures(tmp_path))
    reach = stats.t.ppf(0.975, 8) * math.sqrt(4 / 3)
    expected = f"4.0 (95 %: {4 - reach:.1f} to {4 + reach:.1f})"
    assert four.change("v", {"a": "x"}, {"a": "y"}, {"b": "old"}, {"b": "new"}) == expected
