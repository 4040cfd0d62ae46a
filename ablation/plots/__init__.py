"""Figures: each is a spec that draws itself from a table alone.

Figures import no torch and train nothing; they can be drawn again from the committed CSV files. Each has `draw(table)`,
which returns a matplotlib Figure, `text(table)`, the same numbers for a terminal, and `full_caption(table)`.

base         fields, checks against an experiment and a table
columns      the columns of a table, and the order of their labels
caption      sentences on data, method, n, spread and missing runs
layout       sizes, style, folded labels, legends
drawing      files: PNG, PDF and the caption as text
file_names   names of those files
heatmap, bars, lines, curves, differences, effects, interaction, profile, trials      the figures, one file per kind
figures      the figures of an experiment file
samples      augmented sample images
"""

from ablation.plots.bars import Bars
from ablation.plots.base import FigureSpec
from ablation.plots.curves import Curves
from ablation.plots.differences import Differences
from ablation.plots.drawing import caption_text, draw_all, rehearse, save
from ablation.plots.effects import Effects
from ablation.plots.heatmap import Heatmap
from ablation.plots.interaction import Interaction
from ablation.plots.lines import Lines
from ablation.plots.profile import Profile
from ablation.plots.trials import Contour, History, Importance, Rungs, Slice
from ablation.spec import HEADLINE

__all__ = [
    "HEADLINE",
    "Bars",
    "Contour",
    "Curves",
    "Differences",
    "Effects",
    "FigureSpec",
    "Heatmap",
    "History",
    "Importance",
    "Interaction",
    "Lines",
    "Profile",
    "Rungs",
    "Slice",
    "caption_text",
    "draw_all",
    "rehearse",
    "save",
]
