"""Writes docs/methods.md from the methods' docstrings, and its pictures of their views: python docs/methods.py"""

import dataclasses
import inspect
import textwrap
from pathlib import Path

import pandas as pd

from ablation import methods
from ablation.methods import Method

HEAD = """# Methods

Written from the code by `python docs/methods.py`.

Each method is one class in one file of [ablation/methods](../ablation/methods), and its docstring says its law. z is
the output of the head for a view, h that of the encoder, which is evaluated; n(x) is x / |x|, CE the cross entropy.
`Published:` says what published numbers computed instead; our defaults follow the law. `published_views(method, size)`
in [published_views.py](../ablation/study/published_views.py) has the views of the published recipes at 32, 128 and
224 px, and [recipes.py](../ablation/study/recipes.py) the size and optimizer of each method at each scale.

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


if __name__ == "__main__":
    Path(__file__).with_name("methods.md").write_text(page())
