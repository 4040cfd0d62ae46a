"""Writes docs/operators.md from the operators' own docstrings and cards: python docs/operators.py"""

import inspect
from pathlib import Path

from ablation import operators
from ablation.operators import Operator

HEAD = """# Operators

Written from the code by `python docs/operators.py`. See them at work: `ablation preview`.

All operators take and give (B, 3, S, S) float32 images in [0, 1] (another S comes only from `Resize` and from a crop
with a `size`), treat every image on its own, and share two fields:
`p`, the probability with which an image is transformed (drawn per image, 1 by default, as in the pairwise grid), and
`strength`, of which 0 is the identity and 1 the law below. Each also works inside Kornia's containers:
`AugmentationSequential(Crop().module(), Blur(p=0.5).module())`. Cutout, noise, rotation and Sobel have no published
parameters in the SimCLR paper; those here are ours.
"""


def page() -> str:
    parts = [HEAD]
    for name in operators.__all__:
        cls = getattr(operators, name)
        if issubclass(cls, Operator) and cls is not Operator:
            cards = "\n".join(f"| {size} px | {cls().card(size)} |" for size in (32, 96, 224))
            text = inspect.getdoc(cls)
            table = f"| images | law with default fields |\n| --- | --- |\n{cards}"
            parts.append(f"## {name}\n\nOn an axis: `{cls.label}`. {text}\n\n{table}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("operators.md").write_text(page())
