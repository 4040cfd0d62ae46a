"""Which pairs of operators teach SimCLR something? 7 x 7, one branch, every operator on every image.

Color is the paper's composite: jitter and drop act with probabilities of their own, which the caption gives.

Source: Chen et al. 2020 (arXiv:2002.05709), Figure 5.
Cost: 153 runs at tiny, half an hour on two CPU cores; 255 at cifar10-small, two hours.
Expected: on photographs crop with color far above every other pair, as in the paper; single operators low. On tiny's
shapes color with rotation leads.

    ablation run pairwise --scale tiny
    ablation run pairwise --scale cifar10-small
"""

from ablation.grids import pairwise, sweep
from ablation.operators import Blur, Crop, Cutout, Noise, Rotate, Sobel
from ablation.plots import Heatmap
from ablation.specs import Experiment


def experiment(scale):
    operators = (Crop(), Cutout(), scale.color(), Sobel(), Noise(), Blur(), Rotate())
    note = f"Color: {scale.color().card(32)}."
    if scale.name == "tiny":
        note += " Synthetic images: an instrument with a known answer, no evidence about natural images."
    seeds = range(5 if scale.name == "cifar10-small" else 3)
    return Experiment(
        cells=pairwise(operators, lambda view: scale.run(scale.simclr(), views=(view, ())), seeds=seeds)
        + sweep(
            lambda baseline: scale.run(baseline, views=((Crop(), scale.color()),)),
            baseline=(scale.initialization(), scale.supervised()),
            seeds=seeds,
        ),
        figures={"heatmap": Heatmap(rows="first", columns="second", reference="simclr_figure5_pairs", note=note)},
    )
