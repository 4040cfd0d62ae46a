"""`ablation preview`: a contact sheet of the operators, with draws on sample images and their laws."""

from __future__ import annotations

import argparse
from pathlib import Path

from ablation.plots import save
from ablation.plots.samples import contact_sheet
from ablation.spec import InvalidSpec
from ablation.study.experiment_file import explained, load, read


def preview(options: argparse.Namespace) -> int:
    if options.draws < 1:
        raise InvalidSpec(f"--draws must be at least 1, but got {options.draws}.")
    source = read(options.experiment, options.scale, options.data, precision=options.precision)
    experiment = load(source)
    figure = explained(source, lambda: contact_sheet(experiment, options.draws))
    for path in save(figure, Path(options.figures) / f"preview-{source.name}-{source.scale}"):
        print(path)
    return 0
