"""Which pairs of crop, color, blur and Sobel teach SimCLR something? The small grid that `make grid` runs.

Source: Chen et al. 2020 (arXiv:2002.05709), Figure 5.
Cost: 18 runs, some minutes on two CPU cores at the tiny scale.
Expected: crop with color is the best pair, in either order.

    ablation run grid --scale tiny
"""

from ablation.grids import pairwise, sweep
from ablation.operators import Blur, Crop, Sobel
from ablation.plots import Heatmap
from ablation.specs import Experiment


def experiment(scale):
    operators = (Crop(), scale.color(), Blur(), Sobel())
    tiny = " Synthetic images with a color shortcut, chance 10 %: an instrument, no evidence about natural images."
    synthetic = tiny if scale.name == "tiny" else ""
    return Experiment(
        cells=pairwise(operators, lambda view: scale.run(scale.simclr(), views=(view, ())), seeds=[0])
        + sweep(
            lambda baseline: scale.run(baseline, views=((Crop(), scale.color()),)),
            baseline=(scale.initialization(), scale.supervised()),
            seeds=[0],
        ),
        figures={
            "heatmap": Heatmap(rows="first", columns="second", note=f"Color: {scale.color().card(32)}.{synthetic}")
        },
    )
