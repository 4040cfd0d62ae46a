"""Which color distortion teaches SimCLR most? Six strengths and probabilities of jitter and grey, beside crop.

Source: ours; the space of Chen et al. 2020 (arXiv:2002.05709), App. A, with every part free.
Cost: 40 trials of 2 seeds, and 20 runs with fresh seeds: 40 minutes on two busy CPU cores at tiny, 18 on idle ones.
Expected: strong hue and grey at tiny, where the palette is the shortcut; the default is not far from the best.

    ablation search search_color --scale tiny
    ablation search search_color --scale tiny --sampler random
"""

from ablation import Color, ColorDrop, ColorJitter, Crop, Search, SimCLR


def search(scale):
    method = scale.method(SimCLR)
    optimization = scale.optimization(method, curve_every=2)

    def run(color):
        return scale.run(method, views=((Crop(), color),) * 2, optimization=optimization)

    def suggest(trial):
        jitter = ColorJitter(
            brightness=trial.suggest_float("brightness", 0, 1),
            contrast=trial.suggest_float("contrast", 0, 1),
            saturation=trial.suggest_float("saturation", 0, 1),
            hue=trial.suggest_float("hue", 0, 0.5),
            p=trial.suggest_float("p", 0, 1),
        )
        return run(Color(jitter=jitter, drop=ColorDrop(p=trial.suggest_float("grey p", 0, 1))))

    return Search(suggest=suggest, default=run(scale.color()))
