"""How strong should any operator be? Each operator's strength, beside crop and color at their own.

Both branches get crop, color and the operator; for crop and color the strength is their own. Strength 0 is crop + color
alone (crop: color alone; color: crop alone), 1 the operator's law. "crop area" moves only the crop's smallest area,
from 1 to 0.08, and keeps its aspect ratios.

Source: ours.
Cost: 62 different runs, 38 minutes on two busy CPU cores at cifar10-small.
Expected: crop and color gain with strength; rotation, noise and cutout cost accuracy at full strength.

    ablation run strengths --scale cifar10-small --precision bfloat16
"""

from ablation import Blur, Crop, Cutout, Experiment, Flip, Lines, Noise, Rotate, SimCLR, Sobel, Solarize, sweep


def experiment(scale):
    crop, color = Crop(), scale.color()
    more = {operator.label: operator for operator in (Cutout(), Sobel(), Noise(), Blur(), Rotate(), Flip(), Solarize())}

    def view(operator, strength):
        if operator == "crop area":
            return (
                (Crop(area=(round(1 - 0.92 * strength, 2), 1.0)), color) if strength else (Crop(area=(1.0, 1.0)), color)
            )
        if strength == 0:
            return {"crop": (color,), "color": (crop,)}.get(operator, (crop, color))
        if operator in more:
            return (crop, color, more[operator].replace(strength=strength))
        if operator == "crop":
            return (crop.replace(strength=strength), color)
        return (crop, color.replace(strength=color.strength * strength))

    def make(operator, strength):
        return scale.run(scale.method(SimCLR), views=(view(operator, strength),) * 2)

    return Experiment(
        cells=sweep(
            make, operator=("crop", "crop area", "color", *more), strength=(0.0, 0.25, 0.5, 1.0), seeds=range(2)
        ),
        figures={"lines": Lines(x="strength", lines="operator")},
    )
