"""Writes docs/operators.md from the operators' docstrings and descriptions: python docs/operators.py"""

import inspect
from pathlib import Path

from ablation import operators
from ablation.operators import FromKornia, Operator

HEAD = """# Operators

Written from the code by `python docs/operators.py`. See them at work: `ablation preview`.

All operators map (B, C, S, S) float32 images in [0, 1] to the same (only `Resize` and a crop with a `size` change S).
They treat every image separately and every channel alike (`Color`, `ColorDrop` and `ColorJitter` need the three of
RGB). They share two fields: `p`, the probability of transforming an image (drawn per image, 1 by default, as in the
pairwise grid), and `strength`, where 0 is the identity and 1 the law below. Each also works inside Kornia's containers:
`AugmentationSequential(Crop().module(), Blur(p=0.5).module())`; and every Kornia augmentation can be an operator:
[kornia.md](kornia.md). The last lines of each operator name its use of Kornia, or the reason for our own code, with the
speeds of [speed.md](speed.md). The SimCLR paper gives no parameters for cutout, noise, rotation and Sobel; those here
are ours.
"""


def page() -> str:
    parts = [HEAD]
    for name in operators.__all__:
        cls = getattr(operators, name)
        if issubclass(cls, Operator) and cls is not Operator:
            if cls is FromKornia:  # has no default module; docs/kornia.md lists them
                parts.append(f"## {name}\n\n{inspect.getdoc(cls)}\n\n[kornia.md](kornia.md) has all modules.\n")
                continue
            rows = "\n".join(f"| {size} px | {cls().describe(size)} |" for size in (32, 96, 224))
            text = inspect.getdoc(cls)
            table = f"| images | law with default fields |\n| --- | --- |\n{rows}"
            parts.append(f"## {name}\n\nOn an axis: `{cls.label}`. {text}\n\n{table}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("operators.md").write_text(page())
