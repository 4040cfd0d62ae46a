"""`ablation preview`: sample images of the operators, with their laws, and of the views of an experiment."""

from __future__ import annotations

import argparse
from pathlib import Path

from ablation.plots import save
from ablation.plots.samples import contact_sheet, save_strips
from ablation.spec import InvalidSpec
from ablation.study.experiment_file import explained, load, read


def preview(options: argparse.Namespace) -> int:
    if options.draws < 1:
        raise InvalidSpec(f"--draws must be at least 1, but got {options.draws}.")
    source = read(options.experiment, options.scale, options.data, precision=options.precision)
    experiment = load(source)
    figure = explained(source, lambda: contact_sheet(experiment, options.draws))
    stem = Path(options.figures) / f"preview-{source.name}-{source.scale}"
    views = stem.with_name(f"{stem.name}-views")
    paths = save(figure, stem) + explained(source, lambda: save_strips(experiment, views, options.draws))
    print(*paths, sep="\n")
    return 0
