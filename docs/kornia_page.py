"""Writes docs/kornia.md and docs/kornia.png by running Kornia's modules: python docs/kornia_page.py (a minute)."""

from __future__ import annotations

import inspect
import re
import time
from pathlib import Path

import kornia
import kornia.augmentation as K
import torch
from ablation.experiments.kornia_zoo import GIVEN
from kornia.augmentation import AugmentationBase2D, MixAugmentationBaseV2
from PIL import Image, ImageDraw, ImageFont

from ablation.contracts.base import with_extremes
from ablation.contracts.operators import check_operator
from ablation.data import Shapes
from ablation.operators import FromKornia
from ablation.spec import InvalidSpec
from ablation.spec.randomness import generator_at

PAGE, PICTURE = (Path(__file__).with_name(f"kornia.{ending}") for ending in ("md", "png"))
SIZE = 32
ARGUMENTS = GIVEN | {
    "CenterCrop": (SIZE,), "Denormalize": (0.5, 0.5), "LongestMaxSize": (SIZE,), "Normalize": (0.5, 0.5),
    "PadTo": ((SIZE, SIZE),), "RandomCrop": ((SIZE, SIZE), 4), "RandomResizedCrop": ((SIZE, SIZE),),
    "Resize": ((SIZE, SIZE),), "SmallestMaxSize": (SIZE,),
}  # fmt: skip
UNUSABLE = {"RandomDissolving": "needs the package diffusers and its weights, and draws while it is applied"}
QUIRKS = {
    "CenterCrop": "nothing is random; identity at the image's own size",
    "LongestMaxSize": "nothing is random; identity at the image's own size",
    "SmallestMaxSize": "nothing is random; identity at the image's own size",
    "PadTo": "nothing is random; identity at the image's own size",
    "Resize": "nothing is random; identity at the image's own size; not antialiased by default",
    "Normalize": "nothing is random; the suite normalizes after the operators",
    "Denormalize": "nothing is random; the suite normalizes after the operators",
    "ColorJiggle": "all images of a batch go through the four steps in one order; the default is the identity",
    "ColorJitter": "all images of a batch go through the four steps in one order; the default is the identity",
    "RandomAffine": "a positive angle turns clockwise, in RandomRotation counterclockwise",
    "RandomBrightness": "the default is the identity",
    "RandomContrast": "the default is the identity",
    "RandomGamma": "the default is the identity",
    "RandomHue": "the default is the identity",
    "RandomSaturation": "the default is the identity",
    "RandomClahe": "too slow for an ablation of many cells; tiles of 8 x 8 are 4 px at 32 px",
    "RandomCrop": "without padding it is the identity at the image's own size",
    "RandomGaussianNoise": "the default standard deviation is 1, the whole range",
    "RandomMotionBlur": "a range of kernel sizes is drawn once for a batch",
    "RandomRain": "a range of numbers of drops is refused; drops must be shorter than the image",
    "RandomResizedCrop": "not antialiased; `Crop` is",
    "RandomRotation90": "times=(0, 3) includes no turn",
}

HEAD = """# Kornia's augmentations as operators

Written by `python docs/kornia_page.py`, which runs the modules; a test compares all but the speeds. Kornia {version}.

```python
import kornia.augmentation as K

from ablation import Crop, FromKornia

views = ((Crop(), FromKornia(K.RandomPlanckianJitter(), label="planckian")),) * 2
```

`FromKornia` takes any two-dimensional augmentation of Kornia. The module draws its parameters at the operator's own
address, without touching the global random state; the suite replays them, one row per image. The module's p becomes the
operator's p, drawn per image as for every operator. `label` names it on axes; the default comes from the class. A run's
id holds the class, Kornia's version and the module's settings. Before a run trains, each module is checked on a first
batch like your own classes (range, shape, independence of the images).

- `clamp=True` clips values to [0, 1]; without it a module that leaves [0, 1] is refused.
- `channels=1` for grey images, 4 for four channels; 3 is the default.
- `scaled=(("degrees", 0.0),)` with `strength=0.5` halves the drawn `degrees`: d becomes 0 + 0.5 (d - 0). The pair holds
  the name of the drawn number, as in the table, and its neutral value. Without pairs strength is 1.
- If a module changes the size of images, p must be 1 and both branches need the new size.

Refused: containers (write their modules one after the other into the view), {mixing} (they mix images of a batch or
count as such in Kornia), `p_batch` below 1, classes that are not Kornia's, and draws whose shape changes from batch to
batch.

![Three images, unchanged and after each augmentation](kornia.png)

Which of them help beside crop and color is the question of `ablation run kornia_zoo`; its answer is in the
[report](../report/report.md#which-of-kornias-augmentations-help-beside-crop-and-color).

If the default is the identity or missing, the arguments are those of `experiments/kornia_zoo.py`. *drawn*: the numbers
that the module draws for each image; in bold, drawn once per batch, so that all images of a batch change alike.
*values*: smallest and largest at p = 1 on 64 images, among them a black, a white and a noise image. *channels*: the
supported ones of 1, 3 and 4. *images/s*: drawing and applying batches of 128 at 32 px and p = 1, on one thread of a CPU
({processor}, seconds of the process).

"""
COLUMNS = ("augmentation", "usable", "p", "drawn", "values", "channels", "images/s", "quirks")


def names() -> list[str]:
    """All two-dimensional augmentations of Kornia except base classes."""
    return [n for n, cls in inspect.getmembers(K, inspect.isclass)
            if issubclass(cls, AugmentationBase2D) and "Base2D" not in n]  # fmt: skip


def mixing() -> list[str]:
    return [n for n, cls in inspect.getmembers(K, inspect.isclass)
            if issubclass(cls, MixAugmentationBaseV2) and "Base" not in n and "3D" not in n]  # fmt: skip


def operator(name: str, **fields) -> FromKornia:
    return FromKornia(getattr(K, name)(*ARGUMENTS.get(name, ())), **fields)


def law(name: str) -> dict[str, str]:
    """The row of an augmentation without its speed."""
    row = dict.fromkeys(COLUMNS, "") | {"augmentation": f"`{name}`", "quirks": QUIRKS.get(name, "")}
    if name in UNUSABLE:
        return row | {"usable": f"no: {UNUSABLE[name]}"}
    one = operator(name)
    row["p"] = f"{one.p:g}"
    always = one.replace(p=1.0)
    images = with_extremes(pictures(61, SIZE))
    drawn = always.sample(len(images), SIZE, generator_at("docs"))
    shared = always.law(SIZE).shared
    row["drawn"] = ", ".join(f"**{n}**" if n in shared else n for n in drawn) or "nothing"
    changed = always.apply(images, drawn)
    low, high = changed.min().item(), changed.max().item()
    inside = low >= -1e-5 and high <= 1 + 1e-5
    row["values"] = "[0, 1]" if inside else f"{low:.1f} to {high:.1f}"
    check_operator(always.replace(clamp=not inside), images)
    row["usable"] = "yes" if inside else "with `clamp=True`"
    row["channels"] = ", ".join(str(c) for c in (1, 3, 4) if works(name, c))
    return row


def works(name: str, channels: int) -> bool:
    images = torch.rand(9, channels, SIZE, SIZE, generator=generator_at("docs", "channels"))
    one = operator(name, channels=channels, p=1.0, clamp=True)
    try:
        return one.apply(images, one.sample(9, SIZE, generator_at("docs"))).shape == images.shape
    except InvalidSpec:
        return False


def pictures(count: int, size: int) -> torch.Tensor:
    return Shapes(train=count + 10, validation=10, test=10, size=size).load().train.images[:count]


def speed(name: str) -> str:
    """Images a second of the process's time, the best of five batches."""
    one, images, best = operator(name, p=1.0), pictures(128, SIZE).float() / 255, float("inf")
    one.law(SIZE)
    for number in range(5):
        start = time.process_time()
        one.transform(images, one.draw(len(images), SIZE, generator_at(number)))
        best = min(best, time.process_time() - start)
    return f"{float(f'{len(images) / best:.2g}'):,.0f}"


def speeds_of(page: str) -> dict[str, str]:
    """The speeds in the page, by augmentation."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row[COLUMNS.index("images/s")] for row in rows}


def processor_of(page: str) -> str:
    return re.search(r"thread of a CPU\s\((.*?), seconds", page, re.DOTALL)[1]


def page(speeds: dict[str, str], processor: str) -> str:
    head = HEAD.format(version=kornia.__version__, mixing=", ".join(f"`{n}`" for n in mixing()), processor=processor)
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    lines += [f"| {' | '.join((law(name) | {'images/s': speeds.get(name, '')}).values())} |" for name in names()]
    return head + "\n".join(lines) + "\n"


def picture() -> Image.Image:
    """Three images, unchanged and after each augmentation."""
    images, wide, side, font = pictures(3, 48).float() / 255, 6, 48, ImageFont.load_default(size=10)
    shown = {"unchanged": images}
    for name in (n for n in names() if n not in UNUSABLE and not QUIRKS.get(n, "").startswith("nothing")):
        arguments = tuple((48, 48) if each == (SIZE, SIZE) else each for each in ARGUMENTS.get(name, ()))
        one = FromKornia(getattr(K, name)(*arguments), p=1.0, clamp=True)
        shown[name] = one.apply(images, one.sample(3, 48, generator_at("docs", 5)))
    width, height = 3 * side + 10, side + 18
    sheet = Image.new("RGB", (wide * width, -(-len(shown) // wide) * height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (name, row) in enumerate(shown.items()):
        left, top = number % wide * width, number // wide * height
        draw.text((left, top + 1), name.removeprefix("Random"), fill="black", font=font)
        pixels = (255 * torch.cat(list(row), 2)).round().byte().permute(1, 2, 0).numpy()
        sheet.paste(Image.fromarray(pixels), (left, top + 15))
    return sheet.quantize(112, kmeans=1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    PAGE.write_text(page({n: speed(n) for n in names() if n not in UNUSABLE}, cpu[1] if cpu else "unknown"))
    picture().save(PICTURE, optimize=True)
