"""What do h and z still know of how an image was changed?

An MLP on each predicts: color or grey, the rotation, original or noisy, original or Sobel. h and z have the same
dimension. All versions are equally frequent, so chance is 50 % (rotation 25 %); in the paper's color task it is 80 %.

Source: Chen et al. 2020 (arXiv:2002.05709), Table 3.
Cost: 9 runs with eight probes each, 4 minutes on two CPU cores at cifar10-small.
Expected: h keeps all of it; z loses the properties that the views change.

    ablation run probes --scale cifar10-small
"""

from ablation import (
    KNN,
    Blur,
    ColorDrop,
    Crop,
    CropFlip,
    Experiment,
    Linear,
    Noise,
    Probe,
    Profile,
    Rotate,
    SimCLR,
    Sobel,
    sweep,
)

TASKS = {
    "color": ((), (ColorDrop(),)),
    "rotation": ((), *((Rotate(turns=(k,)),) for k in (1, 2, 3))),
    "noise": ((), (Noise(),)),
    "sobel": ((), (Sobel(),)),
}


def experiment(scale):
    crop, color = Crop(), scale.color()
    cells = {"crop": (crop,), "crop + color": (crop, color), "all": (CropFlip(), color, Blur(p=0.5))}
    method = scale.method(SimCLR, dimension=scale.encoder.features)
    probes = {(task, on): Probe(task=task, versions=v, on=on) for task, v in TASKS.items() for on in ("h", "z")}

    def make(cell):
        run = scale.run(method, views=(cell, cell))
        return run.replace(evaluations=(KNN(), Linear(), Linear(on="z"), *probes.values()))

    columns = {f"{task}, {on}": f"{probe.label}_test_top1_recalibrated" for (task, on), probe in probes.items()}
    return Experiment(
        cells=sweep(make, cell=cells, seeds=range(3)),
        figures={
            "probes": Profile(rows="cell", columns=columns, unit="test top-1 (%)", reference="simclr_table3_probes")
        },
    )
