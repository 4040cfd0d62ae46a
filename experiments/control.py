"""Does the suite find the answer that it was built to find? The shortcut dial of the synthetic control.

Source: Chen et al. 2020 (arXiv:2002.05709), section 3.1: crops of one image share a color histogram, a shortcut.
In `shapes` the shortcut is a dial: at 1 every image has its own palette, at 0 all share one.
Cost: 105 runs, 23 minutes on two CPU cores; tiny scale only.
Expected: at 1 crop alone fails and crop + color is far better; at 0 crop alone works and color adds little.

    ablation run control --scale tiny
"""

from ablation import Crop, Experiment, Initialization, InvalidSpec, Lines, Shapes, SimCLR, Sobel, Supervised, sweep


def experiment(scale):
    if not isinstance(scale.dataset, Shapes):
        raise InvalidSpec(f"the shortcut dial belongs to Shapes, which {scale.name!r} does not use. Use --scale tiny.")
    crop, color, sobel = Crop(), scale.color(), Sobel()
    simclr = {"crop": (crop,), "color": (color,), "crop + color": (crop, color), "sobel": (sobel,)}
    simclr["crop + sobel"] = (crop, sobel)
    runs = {name: (scale.method(SimCLR), (view, ())) for name, view in simclr.items()}
    for baseline in (scale.method(Initialization), scale.method(Supervised)):
        runs[baseline.label] = (baseline, ((crop, color),))

    def make(cell, shortcut):
        method, views = cell
        return scale.run(method, views=views, dataset=scale.dataset.replace(shortcut=shortcut))

    note = "Synthetic control with a known answer: shortcut 1 gives every image its own palette, 0 one palette to all."
    note += f" Color: {scale.color().describe(32)}."
    note += " Initialization and supervised (crop + color) are baselines; dotted line: chance."
    return Experiment(
        cells=sweep(make, cell=runs, shortcut=(0.0, 0.5, 1.0), seeds=range(5)),
        figures={"lines": Lines(x="shortcut", lines="cell", chance=10.0, note=note)},
    )
