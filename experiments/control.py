"""Does the suite find the answer that it was built to find? The shortcut dial of the synthetic control.

Source: Chen et al. 2020 (arXiv:2002.05709), section 3.1: crops of one image share a color histogram, a shortcut.
In `shapes` the shortcut is a dial: at 1 every image has its own palette, at 0 all share one.
Cost: 105 runs, 23 minutes on two CPU cores; tiny scale only.
Expected: at 1 crop alone fails and crop + color is far better; at 0 crop alone works and color adds little.

    ablation run control --scale tiny
"""

from ablation.grids import sweep
from ablation.operators import Crop, Sobel
from ablation.plots import Lines
from ablation.specs import Experiment, InvalidSpec


def experiment(scale):
    if scale.name != "tiny":
        raise InvalidSpec(f"the shortcut dial belongs to the scale tiny, but got {scale.name!r}. Use --scale tiny.")
    crop, color, sobel = Crop(), scale.color(), Sobel()
    simclr = {"crop": (crop,), "color": (color,), "crop + color": (crop, color), "sobel": (sobel,)}
    simclr["crop + sobel"] = (crop, sobel)
    runs = {name: (scale.simclr(), (view, ())) for name, view in simclr.items()}
    runs |= {method.label: (method, ((crop, color),)) for method in (scale.initialization(), scale.supervised())}

    def make(cell, shortcut):
        method, views = cell
        return scale.run(method, views=views, dataset=scale.dataset.replace(shortcut=shortcut))

    note = "Synthetic control with a known answer: shortcut 1 gives every image its own palette, 0 one palette to all."
    note += f" Color: {scale.color().card(32)}."
    note += " Initialization and supervised (crop + color) are baselines; dotted line: chance."
    return Experiment(
        cells=sweep(make, cell=runs, shortcut=(0.0, 0.5, 1.0), seeds=range(5)),
        figures={"lines": Lines(x="shortcut", lines="cell", chance=10.0, note=note)},
    )
