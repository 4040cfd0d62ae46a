"""A table computed in parts equals the whole table."""

import json
import textwrap
from dataclasses import replace

import pandas as pd
import pytest
from helpers import SMALL_EXPERIMENT

from ablation.analysis.partial_tables import Earlier, cells_of_part, place_of, with_earlier
from ablation.analysis.settings import Settings, key_of, path_of, read_settings
from ablation.analysis.tables import to_csv
from ablation.cli import main
from ablation.execution.store import Identified
from ablation.operators import Crop, Sobel
from ablation.spec import Cell, DataError, pairwise, sweep

QUESTION = SMALL_EXPERIMENT + textwrap.dedent(
    """
    def experiment(scale):
        scale = small(scale)
        views = {"1.10": (Crop(),), "1.1": (Sobel(),), "2": (Blur(),)}
        cells = sweep(lambda view: scale.run(scale.method(SimCLR), views=(view, ())), view=views, seeds=range(2))
        return Experiment(cells=cells, figures={})
    """
)
TIMES = ("seconds", "memory", "joules", "commit")


def part(folder, text: str, results: str, code: str = QUESTION, expected: int = 0) -> dict[str, pd.DataFrame]:
    """The tables after a part computed with its own folder of results, as on another machine."""
    (folder / "question.py").write_text(code)
    common = ["run", str(folder / "question.py"), "--workers", "1", "--figures", str(folder / "figures")]
    common += ["--results", str(folder / results), *(["--part", text] if text else [])]
    assert main(common) == expected
    return {
        path.stem.removeprefix("question-tiny").strip("-"): pd.read_csv(path, dtype=str)
        for path in (folder / "figures").glob("*.csv")
    }


def without_times(table: pd.DataFrame) -> pd.DataFrame:
    return table[[column for column in table if not any(word in column for word in TIMES)]]


def test_parts_of_two_machines_give_the_table_of_one(tmp_path, capsys):
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = part(tmp_path / "whole", "", "results")
    first = part(tmp_path / "parts", "0/2", "one")
    assert (first[""]["state"] == "finished").sum() == 2  # a cell of three, with both seeds
    assert "4 cells left for other parts" in capsys.readouterr().err
    both = part(tmp_path / "parts", "1/2", "two")
    assert set(both) == set(whole) == {"", "curves", "images"}
    for name, table in whole.items():
        found = both[name][list(table.columns)]
        pd.testing.assert_frame_equal(without_times(found), without_times(table), obj=name)
    settings = read_settings(tmp_path / "parts" / "figures" / "question-tiny.csv")
    assert set(settings.trainings) == set(whole[""]["training"])
    # The second part's cells are not computed again; the first part's rows survive without its results.
    again = part(tmp_path / "parts", "1/2", "two")
    pd.testing.assert_frame_equal(again[""], both[""])


def test_a_row_of_another_run_is_not_taken(tmp_path):
    """The experiment has changed: the earlier table has other runs or fewer evaluations."""
    part(tmp_path, "0/2", "one")
    changed = part(tmp_path, "1/2", "two", QUESTION.replace("epochs=1", "epochs=2"))
    assert (changed[""]["state"] == "finished").sum() == 4
    more = QUESTION.replace("return Experiment", "from ablation.evaluate import KNN, Linear\n    cells = tuple("
        "type(c)(coords=c.coords, run=c.run.replace(evaluations=(Linear(), KNN(k=(5,))))) for c in cells)\n    "
        "return Experiment")  # fmt: skip
    other = part(tmp_path, "0/2", "three", more)
    assert (other[""]["state"] == "finished").sum() == 2
    assert json.loads((tmp_path / "figures" / "question-tiny.json").read_text())["name"] == "question"


def test_every_cell_is_in_one_part_with_its_seeds():
    cells = [Identified(c, "", ()) for c in pairwise((Crop(), Sobel()), lambda view: _run(view), seeds=range(3))]
    for count in (1, 2, 3, 4, 7):
        parts = [cells_of_part(cells, index, count) for index in range(count)]
        assert sorted(map(id, (cell for each in parts for cell in each))) == sorted(map(id, cells))
        for each in parts:
            places = [place_of(cell.cell.coords) for cell in each]
            assert all(places.count(place) == 3 for place in places)


def _run(view):
    from helpers import small_run

    return small_run(views=(view, ()))


def test_part_stands_alone(tmp_path, capsys):
    (tmp_path / "question.py").write_text(QUESTION)
    for more in (("--only", "seed=0"), ("--shard", "0/2")):
        assert main(["run", str(tmp_path / "question.py"), "--part", "0/2", *more]) == 2
        assert "--part" in capsys.readouterr().err
    for wrong in ("2/2", "x", "1"):
        assert main(["run", str(tmp_path / "question.py"), "--part", wrong, "--results", str(tmp_path / "r")]) == 2
        assert wrong in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------
# Tables by hand: views a and b, seeds 0 and 1


def cells_of(**evaluations: tuple[str, ...]) -> list[Identified]:
    """One training per seed, shared by both views; evaluation ids by view."""
    cells = sweep(lambda view: _run((Crop(),)), view=tuple(evaluations), seeds=range(2))
    return [
        Identified(c, f"training{c.coords['seed']}", evaluations[c.coords["view"]]) for c in cells
    ]  # fmt: skip


def tables_of(cells: list[Identified], finished: set[tuple[str, int]], value: float) -> dict[str, pd.DataFrame]:
    """As a part writes them: a curve of two epochs per cell, variances if both seeds exist."""
    coords = [dict(cell.cell.coords) for cell in cells]
    done = [(c["view"], c["seed"]) in finished for c in coords]
    main = [
        {**c, "state": "finished" if d else "missing", "training": cell.training_id, **({"acc": value} if d else {})}
        for c, cell, d in zip(coords, cells, done, strict=True)
    ]
    curves = [{**c, "epoch": e, "loss": value} for c, d in zip(coords, done, strict=True) if d for e in (1, 2)]
    whole = [v for v in dict.fromkeys(c["view"] for c in coords) if {(v, 0), (v, 1)} <= finished]
    return {
        "": pd.DataFrame(main),
        "curves": pd.DataFrame(curves),
        "images": pd.DataFrame({"view": whole, "sd": value}),
    }


def earlier_of(cells, finished, folder) -> Earlier:
    """The folder after a part of value 1."""
    csv, axes = folder / "q-tiny.csv", ("view", "seed")
    for name, table in tables_of(cells, finished, 1.0).items():
        path = csv.with_name(f"{csv.stem}-{name}.csv") if name else csv
        if len(table):
            path.write_bytes(to_csv(table, axes))
    settings = Settings(name="q", scale="tiny", axes=list(axes))
    settings.evaluations = {key_of(cell.cell.coords): list(cell.evaluation_ids) for cell in cells}
    path_of(csv).write_bytes(settings.content(csv))
    return Earlier.read(csv, ("", "curves", "images"))


def test_seeds_of_one_cell_from_two_places(tmp_path):
    """Each seed's row and curve once, from the table where it is finished; no variance over seeds of two tables."""
    cells = cells_of(a=("e",), b=("e",))
    earlier = earlier_of(cells, {("a", 0), ("a", 1), ("b", 0)}, tmp_path)
    merged, kept = with_earlier(tables_of(cells, {("a", 0), ("b", 1)}, 2.0), earlier, cells)
    assert kept == 2
    assert list(merged[""]["acc"]) == [2.0, 1.0, 1.0, 2.0]
    curves = merged["curves"]
    assert list(curves["loss"]) == [2, 2, 1, 1, 1, 1, 2, 2]
    assert not curves.duplicated(["view", "seed", "epoch"]).any()
    assert len(merged["images"]) == 0
    merged, _ = with_earlier(tables_of(cells, {("b", 0), ("b", 1)}, 2.0), earlier, cells)
    assert merged["images"].set_index("view")["sd"].to_dict() == {"a": 1.0, "b": 2.0}


def test_a_row_counts_with_its_own_cells_evaluations(tmp_path):
    """Two cells share a training; their evaluations are swapped, or one gets another's."""
    earlier = earlier_of(cells_of(a=("e",), b=("f",)), {("a", 0), ("b", 0)}, tmp_path)
    for today, kept in (((("e",), ("f",)), 2), ((("f",), ("e",)), 0), ((("e", "f"), ("f",)), 1)):
        cells = cells_of(a=today[0], b=today[1])
        merged, count = with_earlier(tables_of(cells, set(), 2.0), earlier, cells)
        assert count == kept
        assert (merged[""]["state"] == "finished").sum() == kept


def test_the_order_of_axes_and_new_axes_do_not_stop_a_part(tmp_path):
    cells = cells_of(a=("e",))
    earlier = earlier_of(cells, {("a", 0)}, tmp_path)

    def at(cell: Identified, coords: dict) -> Identified:
        return replace(cell, cell=Cell(coords=coords, run=cell.cell.run))

    turned = [at(cell, dict(reversed(cell.cell.coords.items()))) for cell in cells]
    assert with_earlier(tables_of(turned, set(), 2.0), earlier, turned)[1] == 1
    wider = [at(cell, {**cell.cell.coords, "rate": 1}) for cell in cells]
    merged, kept = with_earlier(tables_of(wider, {("a", 1)}, 2.0), earlier, wider)
    assert kept == 0
    assert list(merged["curves"]["loss"]) == [2, 2]


def test_a_table_that_does_not_say_what_was_run_is_refused_before_the_part(tmp_path):
    earlier_of(cells_of(a=("e",)), {("a", 0)}, tmp_path)
    path_of(tmp_path / "q-tiny.csv").unlink()
    with pytest.raises(DataError, match=r"--part cannot continue .*q-tiny.csv.*move the table"):
        Earlier.read(tmp_path / "q-tiny.csv", ("",))
    assert Earlier.read(tmp_path / "other.csv", ("",)) is None


@pytest.mark.parametrize("name", ["q-tiny.csv", "q-tiny-curves.csv"])
def test_a_part_does_not_continue_a_table_that_was_changed(name, tmp_path):
    csv = tmp_path / "q-tiny.csv"
    earlier_of(cells_of(a=("e",)), {("a", 0)}, tmp_path)
    (tmp_path / name).write_text((tmp_path / name).read_text().replace("1", "2"))
    with pytest.raises(DataError, match=rf"--part cannot continue .*{name} has changed .* Restore it"):
        Earlier.read(csv, ("", "curves", "images"))
