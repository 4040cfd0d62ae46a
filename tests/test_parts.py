"""A table in pieces is the table of the whole."""

import json
import textwrap

import pandas as pd
from helpers import SMALL_EXPERIMENT

from ablation.cli import main
from ablation.grids import pairwise
from ablation.operators import Crop, Sobel
from ablation.parts import cells_of_part, place_of
from ablation.results import Identified
from ablation.settings import read_settings

QUESTION = SMALL_EXPERIMENT + textwrap.dedent(
    """
    def experiment(scale):
        scale = small(scale)
        views = {"1.10": (Crop(),), "1.1": (Sobel(),), "2": (Blur(),)}
        cells = sweep(lambda view: scale.run(scale.simclr(), views=(view, ())), view=views, seeds=range(2))
        return Experiment(cells=cells, figures={})
    """
)
TIMES = ("seconds", "memory", "joules", "commit")


def part(folder, text: str, results: str, code: str = QUESTION, expected: int = 0) -> dict[str, pd.DataFrame]:
    """The tables after a part that is computed with a results folder of its own, as on another machine."""
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
    # What the second part computed is not computed again, and what the first did is not lost without its results.
    again = part(tmp_path / "parts", "1/2", "two")
    pd.testing.assert_frame_equal(again[""], both[""])


def test_a_row_of_another_run_is_not_taken(tmp_path):
    """The experiment has changed since: what the earlier table has is of other runs, or of fewer evaluations."""
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
