"""`ablation figures`: drawn again from their tables, without training."""

from __future__ import annotations

import argparse
from pathlib import Path

from ablation.loading import figures as figures_of
from ablation.loading import names, read
from ablation.plots import save
from ablation.scales import SCALES
from ablation.specs import InvalidSpec
from ablation.tables import digest, read_table


def table_of(figure, csv: Path) -> Path:
    """The table beside `csv` that a figure is drawn from."""
    return csv.with_name(f"{csv.stem}-{figure.source}.csv") if figure.source else csv


def figures(options: argparse.Namespace) -> int:
    folder = Path(options.figures)
    own = [Path(name) for name in options.experiment if name.endswith(".csv")]
    asked = [name for name in options.experiment if not name.endswith(".csv")]
    known = names()
    whole = {f"{name}-{scale}": (name, scale) for name in known for scale in SCALES}  # a table's own name will do
    whole |= {name: (name, options.scale) for name in known}
    named = dict.fromkeys(whole.get(name, (name, options.scale)) for name in asked)
    for name, scale in named:
        if options.scale not in (None, scale):
            raise InvalidSpec(f"--scale must be the table's, {scale}, but got {options.scale}. Write {name}.")
    wanted = list(named) or ([] if own else [(name, options.scale) for name in known])
    drawn = sum(_own(path, options) for path in own)
    for name, scale_asked in wanted:
        stem = Path(name).stem
        for scale in [scale_asked] if scale_asked else SCALES:
            csv = folder / f"{stem}-{scale}.csv"
            if not csv.is_file():
                continue
            for figure_name, figure in figures_of(read(name, scale), csv).items():
                table = table_of(figure, csv)
                if not table.is_file():
                    continue
                drawn_figure = figure.draw(read_table(table))
                for path in save(drawn_figure, folder / f"{stem}-{scale}-{figure_name}", digest(table)):
                    print(path, flush=True)
                    drawn += 1
    if not drawn:
        raise InvalidSpec(
            f"--figures must hold a table named EXPERIMENT-SCALE.csv, but {folder}/ has none of "
            f"{', '.join(sorted({name for name, _ in wanted}))}. Run the experiment first."
        )
    return 0


def _own(path: Path, options: argparse.Namespace) -> int:
    from ablation.own_table import draw

    drawn = draw(path, options.rows, options.columns, options.value, options.reference, fractions=options.fractions)
    for each in drawn:
        print(each)
    return len(drawn)
