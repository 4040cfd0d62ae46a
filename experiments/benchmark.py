"""How do all methods compare in the published recipe of a scale?

Every method with its published views, heads, optimizer and rate. At cifar10 batch and length are axes, as in lightly's
table. Results are of the last epoch; beside them, as published tables have it, the maximum over epochs on test images.

Source: lightly's benchmarks, solo-learn's README, Huang et al. (arXiv:2111.00743).
Cost: 63 runs, two hours on two CPU cores at cifar10-small, which is no published scale; --dry-run gives the cost of
others on your machine.
Expected: ranks as published where the row computed the method's law; levels lower by the best of many epochs.

    ablation run benchmark --scale cifar10-small --precision bfloat16
"""

from itertools import product

from ablation import Bars, Cell, Curves, Experiment, published_views
from ablation.study.recipes import cifar10_optimizers

PUBLISHED = {
    "cifar10": "lightly_cifar10",
    "imagenette": "lightly_imagenette",
    "imagenet100": "lightly_imagenet100",
    "imagenet1k": "lightly_imagenet1k",
}
ACCURACIES = ("knn_test_top1_recalibrated", "knn_test_top5_recalibrated", "linear_test_top1_recalibrated")


def experiment(scale):
    whole = scale.name == "cifar10"
    sizes = product((128, 512), (200, 800)) if whole else [(scale.batch, scale.epochs)]
    cells, figures = [], {}
    for batch, epochs in sizes:
        changed = scale.replace(batch=batch, epochs=epochs)
        changed = changed.replace(optimizers=cifar10_optimizers(batch)) if whole else changed
        for method, seed in product(changed.methods, range(3)):
            optimization = changed.rated(method, "published").replace(curve_every=1, curve_on_test=True)
            views = published_views(method, scale.size)
            run = changed.run(method, views=views, optimization=optimization, seed=seed)
            coords = {"method": method.label, "batch": batch, "epochs": epochs, "seed": seed}
            cells.append(Cell(coords=coords, run=run))
        where, name = {"batch": batch, "epochs": epochs}, f"-{batch}-{epochs}" if whole else ""
        values = (*ACCURACIES, "test_knn_k200_maximum", "test_knn_k20_maximum")
        bars = Bars(bars="method", where=where, values=values)
        figures[f"accuracy{name}"] = bars.replace(reference=PUBLISHED.get(scale.name))
        figures[f"cost{name}"] = bars.replace(values=("training_seconds", "peak_memory_bytes"))
        figures[f"learning{name}"] = Curves(lines="method", where=where)
        if (batch, epochs) == (512, 800):
            figures["huang"] = bars.replace(reference="huang_methods", values=values[3:4])
            figures["solo-learn"] = bars.replace(reference="solo_learn_cifar10", values=values[2:3])
    return Experiment(cells=tuple(cells), figures=figures)
