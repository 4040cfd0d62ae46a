"""Writes docs/methods.md from the methods' docstrings, and its pictures of their views: python docs/methods.py"""

import dataclasses
import inspect
import textwrap
from collections import Counter
from pathlib import Path

import pandas as pd
from PIL import Image
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ablation import methods
from ablation.data import Shapes
from ablation.methods import Learner, Method, Momentum, Queue
from ablation.methods.mae import Decoder
from ablation.methods.prototypes import NormalizedPrototypes, Prototypes
from ablation.models.resnet import SmallResNet
from ablation.models.vit import ViT
from ablation.plots.samples import Strip, picture, strips
from ablation.spec import Cell, Experiment, view_label
from ablation.study.published_views import RECIPES, published_views
from ablation.study.scales import cifar10, imagenette
from ablation.system.terminal import many

HEAD = r"""# Methods

Written from the code by `python docs/methods.py`.

Each method is one class in one file of [ablation/methods](../ablation/methods), and its docstring says its law. z is
the output of the head for a view, h that of the encoder; n(x) is x / |x|, CE the cross entropy. `Published:` says where
published numbers are not of this law; our defaults follow the law. Of every method, lightly's number with ResNet-18 is
the largest kNN accuracy of all epochs, on test images, of one seed, and its batch norm took views one by one. Its
linear and fine-tuned accuracies on ImageNet are the largest of that evaluation's epochs, on the validation images.

The list of a card is read from the class, built with its defaults around an encoder as wide as a ResNet-18 (or ViT-S):

- Heads: layers, with BN for batch norm, BN\* without weight and bias, LN for layer norm. In training, batch norm takes
  views one by one ("separate") or together ("joint"; in the encoder, only consecutive ones of one size).
- Views: their number, the annotations that the loss reads beside them, and the published ones at 128 px.
  `published_views(method, size)` in [published_views.py](../ablation/study/published_views.py) has them for 32, 128 and
  224 px, with their strengths and sources, and says which are ours.
- State: what a step leaves for the next, beside weights; names without a size are single numbers.
- Evaluated: the network that gives h, which is the class token of a ViT.

[recipes.py](../ablation/study/recipes.py) has the size and optimizer of each method at each scale.

![The views of all methods at 32 px](methods-32.png)

![The views of all methods at 128 px](methods-128.png)

The pictures show these views of generated images, a row for each set of views with its methods. Each different view is
drawn once, to scale, and "x 6" says that there are six of it. Grey stripes cover masked patches. `ablation preview
EXPERIMENT` draws the views of an experiment.

A method that collapses gives all images one z. The learning curve has `z_deviation`, 1 if z is spread evenly over the
sphere and 0 after a collapse, and `z_rank`, its effective rank; the table notes a run below 0.1.
"""

PEER = """## Beside lightly's losses

From [peer_losses.csv](../benchmarks/peer_losses.csv), which `python -m benchmarks.peer_losses` writes: our losses and
those of lightly {version}, as its training scripts call them, of the same learner, views and masks. Given are the
losses of the last of three steps, and the relative differences of the losses of all steps and of their gradient for all
weights. Where lightly computes something else, the last column has both differences after both sides compute the same.

| method | ours | lightly | loss differs by | gradient differs by | because | then by |
| --- | --- | --- | --- | --- | --- | --- |
"""


ROW = 64  # pixels of a row of a picture


def page() -> str:
    return "\n".join([HEAD, *(_card(each) for each in _methods()), _peer()])


def _peer() -> str:
    rows = pd.read_csv(Path(__file__).parent.parent / "benchmarks" / "peer_losses.csv").fillna({"case": "", "why": ""})
    lines = [
        f"| {row.method}{f', {row.case}' if row.case else ''} | {row.ours:.4g} | {row.lightly:.4g} "
        f"| {_size(row.difference)} | {_size(row.gradient)} | {row.why} "
        f"| {' and '.join(filter(None, map(_size, (row.difference_then, row.gradient_then))))} |"
        for row in rows.itertuples()
    ]
    return PEER.format(version=rows["version"][0]) + "\n".join(lines) + "\n"


def _size(difference: float) -> str:
    return "" if pd.isna(difference) else f"{difference:.1g}"


def _methods() -> list[type[Method]]:
    found = [getattr(methods, name) for name in methods.__all__]
    found = [each for each in found if inspect.isclass(each) and issubclass(each, Method) and each is not Method]
    return sorted(found, key=lambda each: each.label.lower())


def _card(cls: type[Method]) -> str:
    file = Path(inspect.getfile(cls)).name
    paper = inspect.getdoc(inspect.getmodule(cls)).split("\n\n")[0].rstrip(".")
    learner = cls().build(_encoder(cls), 10)
    facts = {"Heads": _heads(learner), "Views": _views(cls), "State": _state(learner), "Evaluated": _evaluated(learner)}
    facts |= {"Measures": ", ".join(cls.metrics)} if cls.metrics else {}
    listed = "\n".join(f"- {name}: {fact}" for name, fact in facts.items())
    call = f"{cls.__name__}({', '.join(f'{name}={value!r}' for name, value in _defaults(cls))})"
    code = textwrap.fill(call, 112, subsequent_indent=" " * 4, break_long_words=False)
    link = f"[{file}](../ablation/methods/{file})"
    return f"## {cls.label}\n\n{paper}. {link}.\n\n{inspect.getdoc(cls)}\n\n{listed}\n\n```python\n{code}\n```\n"


def _encoder(cls: type[Method]) -> nn.Module:
    """As wide as a ResNet-18 or, if the method needs patches, as ViT-S/16."""
    return (ViT(blocks=1) if cls.transformer else SmallResNet(channels=128)).build(3, size=128)


def _heads(learner: Learner) -> str:
    heads = {name: _layers(module) for name, module in learner.named_children()}
    found = [f"{name} {text}" for name, text in heads.items() if text]
    norms = any(isinstance(module, _BatchNorm) for module in learner.modules())
    found += [f"batch norm {learner.batch_norm}"] if found and norms else []
    return "; ".join(found) or "none"


def _layers(module: nn.Module) -> str:
    match module:
        case nn.Sequential():
            first, *others = module
            text = f"{first.in_features} → {first.out_features}"
            for layer in others:
                match layer:
                    case nn.Linear():
                        text += f" → {layer.out_features}"
                    case nn.BatchNorm1d():
                        text += " BN" if layer.affine else " BN*"
                    case _:
                        text += f" {type(layer).__name__}".replace("LayerNorm", "LN")
            return text
        case nn.Linear():
            return f"{module.in_features} → {module.out_features}"
        case Prototypes() | NormalizedPrototypes():
            count, dimension = module.weight.shape
            return f"{dimension} → {count}"
        case Decoder():
            return f"{_layers(module.embedding)}, {many(len(module.blocks), 'block')}, {_layers(module.pixels)}"
    return ""


def _views(cls: type[Method]) -> str:
    number = str(cls.branches or f"{cls.least} or more")
    text = number + (", of several sizes" if cls.multi_crop else "")
    text += f"; the loss also reads {' and '.join(cls.annotations)}" if cls.annotations else ""
    if cls not in RECIPES:
        return text
    views = Counter(
        f"{view_label(each.label for each in view)}{_smaller(view)}" for view in published_views(cls(), 128)
    )
    return f"{text}; at 128 px {', '.join(f'{number} x {view}' for view, number in views.items())}"


def _smaller(view: tuple) -> str:
    side = 128
    for operator in view:
        side = operator.output_size(side)
    return "" if side == 128 else f" of {side} px"


def _state(learner: Learner) -> str:
    found = []
    for name, module in learner.named_children():
        if isinstance(module, Momentum):
            found.append(f"momentum copy of {', '.join(('encoder', 'head', 'prototypes')[: len(module.copies)])}")
        if isinstance(module, Queue):
            found.append(f"{name} {_shape(module.rows)}")
    found += [f"{name} {_shape(buffer)}".strip() for name, buffer in learner.named_buffers(recurse=False)]
    return "; ".join(found) or "none"


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape))


def _evaluated(learner: Learner) -> str:
    return "the encoder" if learner.evaluated()[0] is learner.encoder else "the momentum copy of the encoder"


def _defaults(cls: type[Method]) -> list[tuple[str, object]]:
    made = cls()
    return [(each.name, getattr(made, each.name)) for each in dataclasses.fields(cls)]


def drawn() -> dict[int, tuple[list[Strip], Image.Image]]:
    """By the images' size, the published views of all methods, on generated images: the strips and their picture."""
    found = {}
    for scale, size in ((cifar10(), 32), (imagenette(), 128)):
        scale = scale.replace(dataset=Shapes(train=140, validation=40, test=60, size=size, texture=0.0, noise=0.0))
        cells = [
            Cell(coords={"method": method.label}, run=scale.run(method, views=published_views(method, size)))
            for method in sorted(scale.methods, key=lambda each: each.label.lower())
        ]
        rows = strips(Experiment(cells=tuple(cells), figures={}))
        found[size] = rows, picture(rows, f"Published views of images of {size} px", ROW)
    return found


if __name__ == "__main__":
    here = Path(__file__)
    here.with_name("methods.md").write_text(page())
    for size, (_, image) in drawn().items():
        image.save(here.with_name(f"methods-{size}.png"), optimize=True)
