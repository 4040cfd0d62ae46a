"""Which operators, in which order, how strong? A conditional space over seven operators.

Each operator is included or not; an included one has a position in the order and a strength.

Source: ours; the operators of Chen et al. 2020 (arXiv:2002.05709), Figure 4.
Cost: 60 trials of 2 seeds, and 20 runs with fresh seeds: 23 minutes on two CPU cores at tiny.
Expected: crop and color are included, rotation is not; the default, crop + color, is hard to beat. (Result: a weak
crop, half of color, and rotation beat it by far.)

    ablation search search_policy --scale tiny
"""

from ablation import Blur, Crop, Cutout, Noise, Rotate, Search, SimCLR, Sobel


def search(scale):
    operators = (Crop(), scale.color(), Cutout(), Sobel(), Noise(), Blur(), Rotate())

    def run(view):
        return scale.run(scale.method(SimCLR), views=(view, view))

    def suggest(trial):
        taken = {}
        for operator in operators:
            name = operator.label
            if trial.suggest_categorical(name, [True, False]):
                place = trial.suggest_float(f"{name} place", 0, 1)
                strength = operator.strength * trial.suggest_float(f"{name} strength", 0.1, 1)
                taken[place, name] = operator.replace(strength=strength)
        return run(tuple(taken[key] for key in sorted(taken)))

    return Search(suggest=suggest, default=run((Crop(), scale.color())), trials=60)
