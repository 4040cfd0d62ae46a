"""Writes docs/methods.md from the methods' docstrings, and its pictures of their views: python docs/methods.py"""

import dataclasses
import inspect
import textwrap
from pathlib import Path

from PIL import Image

from ablation import methods
from ablation.data import Shapes
from ablation.methods import Method
from ablation.plots.samples import Strip, picture, strips
from ablation.spec import Cell, Experiment
from ablation.study.published_views import published_views
from ablation.study.scales import cifar10, imagenette

HEAD = """# Methods

Written from the code by `python docs/methods.py`.

Each method is one class in one file of [ablation/methods](../ablation/methods), and its docstring says its law. z is
the output of the head for a view, h that of the encoder, which is evaluated; n(x) is x / |x|, CE the cross entropy.
`Published:` says what published numbers computed instead; our defaults follow the law. `published_views(method, size)`
in [published_views.py](../ablation/study/published_views.py) has the views of the published recipes at 32, 128 and
224 px, and [recipes.py](../ablation/study/recipes.py) the size and optimizer of each method at each scale.

![The views of all methods at 32 px](methods-32.png)

![The views of all methods at 128 px](methods-128.png)

The pictures show the published views on generated images (those at 32 px that nobody has published are ours), a row for
each set of views with its methods. Each different view is drawn once, to scale, and "x 6" says that there are six of
it. Grey stripes cover masked patches. `ablation preview EXPERIMENT` draws the same of an experiment.

A method that collapses gives all images one z. The learning curve has `z_deviation`, 1 if z is spread evenly over the
sphere and 0 after a collapse, and `z_rank`, its effective rank; the table notes a run below 0.1.
"""


ROW = 64  # pixels of a row of a picture


def page() -> str:
    return "\n".join([HEAD, *(_card(each) for each in _methods())])


def _methods() -> list[type[Method]]:
    found = [getattr(methods, name) for name in methods.__all__]
    found = [each for each in found if inspect.isclass(each) and issubclass(each, Method) and each is not Method]
    return sorted(found, key=lambda each: each.label.lower())


def _card(cls: type[Method]) -> str:
    file = Path(inspect.getfile(cls)).name
    paper = inspect.getdoc(inspect.getmodule(cls)).split("\n\n")[0].rstrip(".")
    facts = [_views(cls), *(["several sizes"] if cls.multi_crop else [])]
    facts += [f"reads {' and '.join(cls.annotations)} of its views"] if cls.annotations else []
    facts += [f"measures {', '.join(cls.metrics)}"] if cls.metrics else []
    call = f"{cls.__name__}({', '.join(f'{name}={value!r}' for name, value in _defaults(cls))})"
    code = textwrap.fill(call, 112, initial_indent=" " * 4, subsequent_indent=" " * 8, break_long_words=False)
    link = f"[{file}](../ablation/methods/{file})"
    text = inspect.getdoc(cls)
    return f"## {cls.label}\n\n{paper}. {link}; {'; '.join(facts)}.\n\n{text}\n\n{code}\n"


def _views(cls: type[Method]) -> str:
    if cls.branches is None:
        return f"{cls.least} views or more"
    return f"{cls.branches} view{'s' if cls.branches > 1 else ''}"


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
