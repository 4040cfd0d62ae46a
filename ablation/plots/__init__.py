"""Figures: a spec that draws itself from a table, and from nothing else.

Figures import no torch and train nothing: they are drawn again from the committed CSV files. Each has `draw(table)`,
a matplotlib Figure, and `text(table)`, the same numbers for a terminal.
"""

from ablation.plots.bars import Bars
from ablation.plots.base import HEADLINE, VALUE_NAMES, draw_all, rehearse, save
from ablation.plots.curves import Curves
from ablation.plots.effects import Effects
from ablation.plots.heatmap import Heatmap
from ablation.plots.lines import Lines
from ablation.plots.profile import Profile
from ablation.plots.trials import Contour, History, Importance, Rungs, Slice

__all__ = [
    "HEADLINE", "VALUE_NAMES", "Bars", "Contour", "Curves", "Effects", "Heatmap", "History", "Importance", "Lines",
    "Profile", "Rungs", "Slice", "draw_all", "rehearse", "save",
]  # fmt: skip
