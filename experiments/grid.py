"""Which pairs of crop, color, blur and Sobel teach SimCLR something? The small grid that `make grid` runs.

Source: Chen et al. 2020 (arXiv:2002.05709), Figure 5.
Cost: 18 runs, a few minutes on two CPU cores at the tiny scale.
Expected: crop with color is the best pair, in either order.

    ablation run grid --scale tiny
"""

from ablation import Blur, Crop, Experiment, Heatmap, Initialization, Shapes, SimCLR, Sobel, Supervised, pairwise, sweep


def experiment(scale):
    operators = (Crop(), scale.color(), Blur(), Sobel())
    note = f"Color: {scale.color().describe(32)}."
    if isinstance(scale.dataset, Shapes):
        note += " Synthetic images with a color shortcut, chance 10 %: an instrument, no evidence about natural images."
    return Experiment(
        cells=pairwise(operators, lambda view: scale.run(scale.method(SimCLR), views=(view, ())), seeds=[0])
        + sweep(
            lambda baseline: scale.run(baseline, views=((Crop(), scale.color()),)),
            baseline=(scale.method(Initialization), scale.method(Supervised)),
            seeds=[0],
        ),
        figures={"heatmap": Heatmap(rows="first", columns="second", note=note)},
    )
