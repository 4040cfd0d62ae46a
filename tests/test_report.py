"""The report: numbers from tables, a page to point at, and a check that notices."""

import json
import re
import shutil
import subprocess

import pandas as pd
import pytest
from helpers import GRID, ROOT, ablation

from ablation.cli import main
from ablation.loading import load, read
from ablation.plots import Heatmap, save
from ablation.plots.base import MEASURED, _columns
from ablation.report import LIMIT, Report, stale_figures
from ablation.settings import path_of, read_settings
from ablation.specs import InvalidSpec
from ablation.tables import digest

TEXT = """# A report

Crop then Sobel reaches <!-- {{ mean("grid-tiny", "linear", first="crop", second="sobel") }} -->?<!-- / --> percent.

<!-- {{ cells("grid-tiny", ["first", "second"]) }} -->?<!-- / -->

<!-- {{ figure("grid-tiny-heatmap", "The grid") }} -->?<!-- / -->

<!-- {{ heatmap("grid-tiny", "linear", "The grid, to point at") }} -->?<!-- / -->

It would take <!-- {{ seeds_needed("grid-tiny", "linear", 3, ["first", "second"]) }} -->?<!-- / --> seeds.
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small grid, run, with a report on it."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "grid.py").write_text(GRID.replace("epochs=1", "epochs=2"))  # two points of a learning curve
    ablation("run", "grid.py", "--workers", "1", cwd=folder)
    (folder / "report").mkdir()
    (folder / "report" / "report.md").write_text(TEXT)
    ablation("report", cwd=folder)
    return folder


@pytest.fixture
def place(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "report-place")


def test_numbers_come_from_the_table(place):
    table = pd.read_csv(place / "figures" / "grid-tiny.csv")
    cell = table[(table["first"] == "crop") & (table["second"] == "sobel")]["linear_test_top1_recalibrated"]
    text = (place / "report" / "report.md").read_text()
    assert f"-->{cell.mean():.1f} ± {cell.std(ddof=1):.1f}<!-- / --> percent" in text
    assert "| crop" in text
    assert "![The grid](../figures/grid-tiny-heatmap.png)" in text
    assert "?<!-- / -->" not in text


def test_a_run_leaves_curves_and_strips(place):
    curves = pd.read_csv(place / "figures" / "grid-tiny-curves.csv")
    assert set(curves.columns) >= {"first", "second", "seed", "epoch", "loss", "validation_knn"}
    assert len(curves) == 16  # 4 cells, 2 seeds, 2 epochs
    assert (place / "figures" / "grid-tiny-views.png").stat().st_size > 500
    images = pd.read_csv(place / "figures" / "grid-tiny-images.csv")
    assert len(images) == 8  # 4 cells, 2 evaluations
    table = pd.read_csv(place / "figures" / "grid-tiny.csv")
    cell = table[(table["first"] == "crop") & (table["second"] == "sobel")]["linear_test_top1_recalibrated"]
    same = images.query("first == 'crop' and second == 'sobel' and evaluation == 'linear'")
    assert same["accuracy"].item() == pytest.approx(cell.mean(), abs=0.01)
    assert (images["whole_error"] >= images["seed_error"]).all()


def test_figures_know_all_columns_of_a_table_beforehand(place):
    """Whatever a run of ours measures can be named in a figure."""
    cells = load(read(str(place / "grid.py"), "tiny")).cells
    known, _, _ = _columns(cells)
    table = pd.read_csv(place / "figures" / "grid-tiny.csv").select_dtypes("number")
    assert set(table.columns) - {"seed", "format"} <= set(known)
    for name in ("curves", "images"):
        table = pd.read_csv(place / "figures" / f"grid-tiny-{name}.csv").select_dtypes("number")
        assert set(table.columns) - {"seed"} <= set(MEASURED[name])


def test_tables_are_written_and_figures_drawn_though_a_picture_fails(place, monkeypatch, capsys):
    """The views fail, and one of two figures; the other is drawn, both are named, and the exit code tells."""
    code = (place / "grid.py").read_text()
    assert 'figures={"heatmap"' in code
    (place / "grid.py").write_text(
        code.replace('figures={"heatmap"', 'figures={"bad": Bad(rows="first", columns="second"), "heatmap"')
        + "\n\nclass Bad(Heatmap):\n    def draw(self, table):\n        raise OSError(28, 'No space left on device')\n"
    )
    shutil.rmtree(place / "figures")
    monkeypatch.chdir(place)
    monkeypatch.setattr("ablation.preview.make_views", lambda *_: [][0])
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
    assert "other/grid.py is another. Rename one file, or name another folder" in capsys.readouterr().err
    assert main(["run", "other/grid.py"]) == 2
    assert (place / "figures" / "grid-tiny.csv").read_bytes() == before
    (place / "grid.py").unlink()
    shutil.move(place / "other" / "grid.py", place / "grid.py")  # edited in its place
    assert main(["run", "grid.py", "--dry-run"]) == 0


def test_the_page_holds_everything(place):
    page = (place / "report" / "report.html").read_text()
    assert len(page.encode()) < LIMIT
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "http" not in re.sub(r"data:image/png;base64,[\w+/=]+", "", page)
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)[1])
    assert len(data["cells"]) == 4
    assert {len(cell["values"]) for cell in data["cells"]} == {2}


def test_the_check_passes_and_notices(place):
    assert "follows from its tables" in ablation("report", "--check", cwd=place).stdout
    text = place / "report" / "report.md"
    original = text.read_text()
    text.write_text(original.replace(" ± ", " ± 1", 1))
    assert "report.md:3: mean(" in ablation("report", "--check", cwd=place, check=1).stderr
    text.write_text(original)
    csv = place / "figures" / "grid-tiny.csv"
    table, settings = pd.read_csv(csv), read_settings(csv)
    table.loc[0, "linear_test_top1_recalibrated"] += 1
    table.to_csv(csv, index=False)
    path_of(csv).write_bytes(settings.content(csv))  # as a run writes it
    said = ablation("report", "--check", cwd=place, check=1).stderr
    assert "grid-tiny-heatmap.png was not drawn from grid-tiny.csv" in said
    assert "grid-tiny-heatmap.pdf was not drawn from grid-tiny.csv" in said
    assert "report.html was made from another ../figures/grid-tiny.csv" in said
    assert ".tex was made from another grid-tiny.csv" in said


def test_the_check_notices_what_was_changed_or_is_missing(place):
    report, figures = place / "report", place / "figures"
    page, table = report / "report.html", next((report / "tables").glob("01-*.tex"))
    for path, change, said in [
        (
            page,
            lambda text: text.replace("A report", "A better report"),
            "report.html is not what `ablation report` makes",
        ),
        (page, None, "report.html is not there; run `ablation report`"),
        (table, lambda text: text.replace("crop", "color"), f"{table.name} was changed"),
        (table, None, f"{table.name} is not there; run `ablation report`"),
        (table.with_name("09-old.tex"), lambda text: "", "09-old.tex is of no table of the report; remove it"),
        (figures / "other-lines.png", lambda text: "", "other-lines.png has no table beside it"),
    ]:
        original = path.read_bytes() if path.is_file() else None
        if change is None:
            path.unlink()
        else:
            path.write_text(change(original.decode() if original else ""))
        assert said in ablation("report", "--check", cwd=place, check=1).stderr, said
        path.unlink(missing_ok=True)
        if original:
            path.write_bytes(original)
    (report / "tables" / "09-old.tex").write_text("")
    ablation("report", cwd=place)
    assert "follows from its tables" in ablation("report", "--check", cwd=place).stdout


def test_a_known_experiments_figures_are_all_there(tmp_path):
    """The committed tables without one of their pictures."""
    for path in (ROOT / "figures").glob("losses-*"):
        shutil.copy(path, tmp_path)
    assert stale_figures(tmp_path) == []
    (tmp_path / "losses-cifar10-small-bars.pdf").unlink()
    assert stale_figures(tmp_path) == [f"{tmp_path}/losses-cifar10-small-bars.pdf is not there; run `ablation figures`"]


def own(folder, seeds: int, **columns) -> Report:
    """A report on a user's own table of 2 x 2 cells."""
    (folder / "report").mkdir()
    rows = [{"first": a, "second": b, "seed": s, "v": 10.0 + s} for a in "ab" for b in "ab" for s in range(seeds)]
    pd.DataFrame(rows).assign(**columns).to_csv(folder / "my.csv", index=False)
    return Report(folder / "report" / "report.md", folder)


def payload(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)[1])


def test_one_seed_gives_no_verdict_and_no_interval(tmp_path):
    report = own(tmp_path, seeds=1)
    report.source.write_text('<!-- {{ heatmap("my", "v", "All") }} --><!-- / -->')
    page = report.page()
    assert {cell["best"] for cell in payload(page)["cells"]} == {None}
    assert {cell["seconds"] for cell in payload(page)["cells"]} == {None}  # and this table has none
    assert 'class="cell best' not in page
    assert report.gap("my", "v", {"first": "a", "second": "a"}, {"first": "b", "second": "b"}) == (
        "0.0 (no interval: no cell has two seeds)"
    )
    assert report.best("my", "v", ["first", "second"]) == "not known: no cell has two seeds"
    with pytest.raises(InvalidSpec, match="seeds_needed must know a spread"):
        report.seeds_needed("my", "v", 2, ["first", "second"])


def test_labels_cannot_leave_the_data_of_a_page(tmp_path):
    report = own(tmp_path, seeds=2)
    table = pd.read_csv(tmp_path / "my.csv").replace("a", "<!--<script></script>")
    table.to_csv(tmp_path / "my.csv", index=False)
    report.source.write_text('<!-- {{ heatmap("my", "v", "All") }} --><!-- / -->')
    page = report.page()
    assert page.count("<script>") == page.count("<script>") - page.count("<!--<script>")
    assert payload(page)["cells"][0]["view"] == "<!--<script></script>"


def test_a_bad_marker_is_named(tmp_path):
    (tmp_path / "report").mkdir()
    source = tmp_path / "report" / "report.md"
    for marker, words in {
        'mean("nothing", "linear")': "the table .*nothing.csv is not there",
        "means()": "report.md:2: the marker 'means",
    }.items():
        source.write_text(f"\n<!-- {{{{ {marker} }}}} --><!-- / -->")
        with pytest.raises(InvalidSpec, match=words):
            Report(source, tmp_path / "figures").rendered()


def test_every_experiment_that_is_spoken_of_has_an_appendix(tmp_path):
    """Also where the report has but a number of it, a figure, or a number of a table beside it; others have none."""
    (tmp_path / "report").mkdir()
    (tmp_path / "figures").mkdir()
    for name in ("losses", "temperature", "heads", "removal"):
        for path in (ROOT / "figures").glob(f"{name}-cifar10-small*"):
            shutil.copy(path, tmp_path / "figures")
    source = tmp_path / "report" / "report.md"
    markers = (
        'mean("losses-cifar10-small", "linear")',
        'figure("temperature-cifar10-small-bars", "T")',
        'images("heads-cifar10-small", "seed_error", "linear")',
    )
    source.write_text("".join(f"<!-- {{{{ {marker} }}}} --><!-- / -->" for marker in markers))
    found = Report(source, tmp_path / "figures").latex()
    appendices = {f"appendix-{name}-cifar10-small.tex" for name in ("losses", "temperature", "heads")}
    assert set(found) == {*appendices, "all.tex"}
    assert all(rf"\input{{{name}}}" in found["all.tex"] for name in appendices)
    assert all(r"images, pixels a side & 32 \\" in found[name] for name in appendices)  # from the settings


def test_labels_reach_the_page_as_text(tmp_path):
    """None ends a block, so that filling the report again changes nothing, and none is HTML."""
    (tmp_path / "report").mkdir()
    source = tmp_path / "report" / "report.md"
    markers = ('cells("my", ["operator"], {"v": "v"})', 'best("my", "v", ["operator"])')
    source.write_text("\n\n".join(f"<!-- {{{{ {marker} }}}} -->?<!-- / -->" for marker in markers) + "\n\nThe end.\n")
    labels = ["<script>alert(1)</script>", "<!-- / -->", "a | b"]
    rows = [{"operator": label, "seed": s, "v": 1.0 * s} for label in labels for s in (0, 1)]
    pd.DataFrame(rows).to_csv(tmp_path / "my.csv", index=False)
    report = Report(source, tmp_path)
    once = report.rendered()
    source.write_text(once)
    assert report.rendered() == once
    page = report.page()
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == page.count("&lt;!-- / --&gt;") == 2
    assert page.count(">a | b</td>") == 1


@pytest.mark.parametrize(
    "expression",
    [
        "mean.__func__.__globals__['pd'].io.common.os.system('touch broken')",
        "mean.__self__.source.unlink()",
        "mean|attr('__self__')",
        "''.__class__.__mro__",
        "[mean]|map(attribute='__self__')|list",
        "calibration('my', 'v').__class__",
        "seeds('my', 'v', ['first', 'second']).correlation.tofile('broken')",
        "order('my', 'v').to_csv('broken')",
        "cells('my', ['first']).unescape()",
        "self._TemplateReference__context",
        "lipsum.__globals__",
        "1 }}{% set x = 1 %}{{ 1",
        "1 / 0",
        "mean('../../etc/passwd', 'v')",
        "figure('/etc/passwd', 'x')",
    ],
)
def test_a_marker_reaches_nothing_but_its_functions(expression, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = own(tmp_path, seeds=2)
    report.source.write_text(f"<!-- {{{{ {expression} }}}} --><!-- / -->")
    with pytest.raises(InvalidSpec, match=r"report.md:1: the marker .* cannot be filled"):
        report.rendered()
    assert not (tmp_path / "broken").exists()


EVIL = (
    "<!-- / -->", '<!-- {{ mean("my", "v") }} -->', "{{ 7 * 7 }}", "<img src=x onerror=alert(1)>", "](javascript:x)",
    '"><script>alert(1)</script>', "a | b", "`x`", "{% raw %}", "</script><script>", "a, b\n\n# c",
)  # fmt: skip


@pytest.mark.parametrize("label", EVIL)
def test_no_label_becomes_a_marker_or_html(label, tmp_path):
    """In every function that shows labels; filled twice, the report is the same."""
    report = own(tmp_path, seeds=2)
    table = pd.read_csv(tmp_path / "my.csv").replace("a", label).rename(columns={"v": label[:20]})
    table.assign(v=table[label[:20]]).to_csv(tmp_path / "my.csv", index=False)
    by = '["first", "second"]'
    markers = (
        f'cells("my", {by}, {{"v": "v"}})', f'best("my", "v", {by})', 'order("my", "v")', 'heatmap("my", "v", "All")',
        f'"%s" % best("my", "v", {by})', f'cells("my", {by}, ["v"]) ~ best("my", "v", {by})',
    )  # fmt: skip
    filled = "".join(f"<!-- {{{{ {marker} }}}} -->?<!-- / -->\n\n" for marker in markers)
    report.source.write_text(f"{filled}The end.\n")
    once = report.rendered()
    assert once.count("<!--") == 2 * len(markers)
    assert once.count("{{") == len(markers)
    report.source.write_text(once)
    assert report.rendered() == once
    page = report.page()
    shown = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert "<script" not in shown
    assert "<img" not in shown
    assert "javascript:x" not in re.sub(r">[^<]*<", "><", shown)  # in no attribute
    first = payload(page)["cells"][0]["view"]
    assert " ".join(first.split()) == " ".join(label.split())
    for text in report.latex().values():
        assert text.isascii()


def test_the_projects_own_report_follows_from_its_tables():
    done = ablation("report", "--check", cwd=ROOT)
    assert "follows from its tables" in done.stdout


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
    """In a real browser: the numbers, the seconds and the views of the cell that is pointed at; tables sort."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get((place / "report" / "report.html").as_uri())
    table = pd.read_csv(place / "figures" / "grid-tiny.csv")
    runs = table[(table["first"] == "crop") & (table["second"] == "sobel")]
    detail = browser.find_element(By.CSS_SELECTOR, ".detail")
    assert detail.text == "Point at a cell."
    cell = browser.find_elements(By.CSS_SELECTOR, "figure.heatmap tbody tr:first-child td")[1]
    ActionChains(browser).move_to_element(cell).perform()
    WebDriverWait(browser, 10).until(lambda _: "crop + sobel" in detail.text)
    value = runs["linear_test_top1_recalibrated"]
    assert f"{value.mean():.1f} %" in detail.text
    assert f"± {value.std(ddof=1):.1f} over 2 seeds" in detail.text
    assert f"{runs['training_seconds'].mean():.1f} s of training" in detail.text
    curves = pd.read_csv(place / "figures" / "grid-tiny-curves.csv")
    last = curves[(curves["first"] == "crop") & (curves["second"] == "sobel") & (curves["epoch"] == 2)]
    assert f"loss (blue) to {last['loss'].mean():.4g}" in detail.text
    drawn = [path.get_attribute("d") for path in detail.find_elements(By.CSS_SELECTOR, "svg path")]
    assert drawn[0].count("L") == 1  # the loss at two epochs
    assert all("NaN" not in d for d in drawn)
    strip = WebDriverWait(browser, 10).until(lambda b: b.find_element(By.CSS_SELECTOR, ".detail .strip"))
    assert strip.size["height"] == 32  # views of 16 px at twice their size
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    head = browser.find_element(By.CSS_SELECTOR, "body > table th:nth-child(4) button")
    head.click()
    column = [e.text for e in browser.find_elements(By.CSS_SELECTOR, "body > table tbody td:nth-child(4)")]
    numbers = [float(text.split()[0]) for text in column]
    assert numbers == sorted(numbers, reverse=True)


@pytest.mark.slow
def test_a_column_with_a_missing_value_sorts_as_numbers(browser, tmp_path):
    """By hand: as text, 9.5 would stand before 10.5."""
    from selenium.webdriver.common.by import By

    report = own(tmp_path, seeds=2, v=[None, None, 9.0, 10.0, 10.0, 11.0, 8.0, 9.0])
    report.source.write_text('<!-- {{ cells("my", ["first", "second"], {"v": "v"}) }} --><!-- / -->')
    (tmp_path / "page.html").write_text(report.page())
    browser.get((tmp_path / "page.html").as_uri())
    browser.find_element(By.CSS_SELECTOR, "body > table th:nth-child(4) button").click()
    column = [e.text for e in browser.find_elements(By.CSS_SELECTOR, "body > table tbody td:nth-child(4)")]
    assert [text.split()[0] for text in column] == ["10.5", "9.5", "8.5", "-"]


@pytest.mark.slow
def test_latex_compiles(place):
    """With a grid, its appendix, and labels of all kinds: first in a row, where LaTeX looks for an argument too."""
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
    with open(place / "report" / "report.md", "a") as file:
        file.write('\n\n<!-- {{ cells("ödd_σ", ["operator"], {"σ": "v", "[b]": "v"}) }} -->?<!-- / -->\n')
    ablation("report", cwd=place)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=place / "report" / "tables", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (place / "report" / "tables" / "all.pdf").stat().st_size > 10_000
