"""Which pairs of operators teach SimCLR something? 7 x 7, one branch, every operator on every image.

Color is the paper's composite: jitter and drop have their own probabilities, which the caption gives.

Source: Chen et al. 2020 (arXiv:2002.05709), Figure 5.
Cost: 153 runs at tiny, half an hour on two CPU cores; 255 at cifar10-small, two hours.
Expected: on photographs crop with color far above every other pair, as in the paper; single operators low. On tiny's
shapes color with rotation leads.

    ablation run pairwise --scale tiny
    ablation run pairwise --scale cifar10-small
"""

from ablation import (
    Blur,
    Crop,
    Cutout,
    Experiment,
    Heatmap,
    Initialization,
    Noise,
    Rotate,
    Shapes,
    SimCLR,
    Sobel,
    Supervised,
    pairwise,
    sweep,
)


def experiment(scale):
    operators = (Crop(), Cutout(), scale.color(), Sobel(), Noise(), Blur(), Rotate())
    note = f"Color: {scale.color().describe(32)}."
    if isinstance(scale.dataset, Shapes):
        note += " Synthetic images: an instrument with a known answer, no evidence about natural images."
    seeds = range(scale.seeds)
    return Experiment(
        cells=pairwise(operators, lambda view: scale.run(scale.method(SimCLR), views=(view, ())), seeds=seeds)
        + sweep(
            lambda baseline: scale.run(baseline, views=((Crop(), scale.color()),)),
            baseline=(scale.method(Initialization), scale.method(Supervised)),
            seeds=seeds,
        ),
        figures={"heatmap": Heatmap(rows="first", columns="second", reference="simclr_figure5_pairs", note=note)},
    )
