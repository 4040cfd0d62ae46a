"""The views with which each method was published, for images of 32, 128 and 224 px.

`published_views(method, size)` follows lightly's benchmarks of CIFAR-10, of Imagenette, and, at 224 px, of ImageNet in
2025 (with ResNet-50), and the authors where they have none. BYOL, Barlow Twins and TiCo have BYOL's views at all sizes,
as lightly's code since July 2023; its tables for 32 and 128 px, and for ImageNet-100, are of SimCLR's. There MoCo had
SimCLR's views, too, and DINO large ones of 0.4 of the image at least. "Ours" marks views that nobody has published.
"""

from __future__ import annotations

from collections.abc import Callable

from ablation.methods import (
    BYOL,
    DCL,
    DCLW,
    DINO,
    EMPSSL,
    MAE,
    MSN,
    NNCLR,
    PMSN,
    BarlowTwins,
    FastSiam,
    LeJEPA,
    Method,
    MoCo,
    SimCLR,
    SimMIM,
    SimSiam,
    SMoG,
    SwAV,
    TiCo,
    VICReg,
    VICRegL,
)
from ablation.operators import Blur, Color, ColorDrop, ColorJitter, Crop, CropFlip, Flip, Operator, PatchMask, Solarize
from ablation.spec import InvalidSpec

View = tuple[Operator, ...]
SIZES = (32, 128, 224)
SMALL = {32: 16, 128: 64, 224: 96}  # px of the small views
FULL, HALF, BYOLS = (0.8, 0.8, 0.8, 0.2), (0.4, 0.4, 0.4, 0.1), (0.4, 0.4, 0.2, 0.1)  # strengths of color jitter


def published_views(method: Method, size: int) -> tuple[View, ...]:
    """The views of a method, one tuple of operators per view. size: 32, 128 or 224 px; blur is left out at 32, where
    it was published without."""
    if size not in SIZES:
        raise InvalidSpec(f"published_views.size must be one of {', '.join(map(str, SIZES))}, but got {size}.")
    if type(method) not in RECIPES:
        raise InvalidSpec(
            f"published_views knows no views of {type(method).__name__}. Write views=(view, view) with operators."
        )
    return RECIPES[type(method)](size)


def two_views(method: Method, first: View, second: View, patch: int = 4) -> tuple[View, ...]:
    """Both views, or for a method that masks patches of `patch` px: the first with a published mask (MAE, SimMIM), or
    both with a mask of the second (MSN, PMSN)."""
    if isinstance(method, MSN):
        return first, (*second, PatchMask(ratio=0.15, patch=patch))
    if isinstance(method, SimMIM):
        return ((*first, PatchMask(ratio=0.6, patch=patch, block=2 * patch)),)
    return ((*first, PatchMask(patch=patch)),) if isinstance(method, MAE) else (first, second)


def _view(
    size: int, area: float | tuple[float, float], jitter: tuple[float, float, float, float], *,
    p: float = 0.8, blur: float = 0.0, solarize: float = 0.0, side: int | None = None, interpolation: str = "bilinear",
) -> View:  # fmt: skip
    """Crop with flip, color jitter, color drop with p = 0.2, blur and solarization. area: its smallest share, up to the
    whole image, or both. side: of the view, if it is another than the image's."""
    names = ("brightness", "contrast", "saturation", "hue")
    color = Color(
        jitter=ColorJitter(p=p, variant="torchvision", **dict(zip(names, jitter, strict=True))), drop=ColorDrop(p=0.2)
    )
    area = area if isinstance(area, tuple) else (area, 1.0)
    crop = CropFlip(area=area, interpolation=interpolation, size=side)
    blurred = (Blur(p=blur),) if blur and size > 32 else ()
    return (crop, color, *blurred, *((Solarize(p=solarize),) if solarize else ()))


def _simclr(size: int) -> tuple[View, ...]:
    view = _view(size, 0.08, FULL if size == 224 else HALF, blur=0.5)
    return view, view


def _moco(size: int) -> tuple[View, ...]:
    view = _view(size, 0.2 if size == 224 else 0.08, HALF, blur=0.5)
    return view, view


def _byol(size: int) -> tuple[View, ...]:
    return _view(size, 0.08, BYOLS, blur=1.0), _view(size, 0.08, BYOLS, blur=0.1, solarize=0.2)


def _simsiam(size: int, count: int = 2) -> tuple[View, ...]:
    return (_view(size, 0.2, HALF, blur=0.5),) * count


def _swav(size: int) -> tuple[View, ...]:
    jitter = FULL if size == 224 else HALF
    large = _view(size, 0.14, jitter, blur=0.5)
    small = _view(size, (0.05, 0.14), jitter, blur=0.5, side=SMALL[size])
    return (large, large, *([small] * 6 if size > 32 else []))


def _dino(size: int) -> tuple[View, ...]:
    """Without small views at 32 px."""
    bicubic, border = {"interpolation": "bicubic"}, 0.14 if size == 224 else 0.4  # 0.14: the authors' for ResNets
    first = _view(size, border, BYOLS, blur=1.0, **bicubic)
    second = _view(size, border, BYOLS, blur=0.1, solarize=0.2, **bicubic)
    small = _view(size, (0.05, border), BYOLS, blur=0.5, side=SMALL[size], **bicubic)
    return (first, second, *([small] * 6 if size > 32 else []))


def _smog(size: int) -> tuple[View, ...]:
    """Ours at 224 px: as at 128."""
    return _view(size, 0.2, BYOLS, p=1.0, blur=0.5), _view(size, 0.2, BYOLS, p=1.0, blur=0.1, solarize=0.2)


def _vicreg(size: int) -> tuple[View, ...]:
    """solo-learn's at 32 px. Solarization comes before blur."""
    crop, color, *blur, solarize = _view(size, 0.2 if size == 32 else 0.08, BYOLS, blur=0.5, solarize=0.1)
    view = (crop, color, solarize, *blur)
    return view, view


def _vicregl(size: int) -> tuple[View, ...]:
    """Those of lightly's Imagenette; ours at the other sizes: the same."""
    view = _view(size, 0.2, BYOLS, p=1.0, blur=0.5)
    return view, view


def _emp_ssl(size: int) -> tuple[View, ...]:
    """Twenty views of a quarter of the image (authors, CIFAR-10; they blur there, too). Ours at 128 px."""
    view = _view(size, (0.25, 0.25), (0.4, 0.4, 0.4, 0.2), blur=0.1, solarize=0.1)
    square = view[0].replace(aspect=(1.0, 1.0))
    blur = (Blur(p=0.1),) if size == 32 else ()
    return ((square, view[1], *blur, *view[2:]),) * 20


def _lejepa(size: int) -> tuple[View, ...]:
    """Four equal views (the authors' minimal example, 128 px); ours at 32 px: the same without blur. At 224 px two
    large and six small ones (their README)."""
    if size < 224:
        return (_view(size, 0.08, FULL, blur=0.5, solarize=0.2),) * 4
    large = _view(size, 0.3, BYOLS, blur=0.5, solarize=0.2)
    return large, large, *[_view(size, (0.05, 0.3), BYOLS, blur=0.5, solarize=0.2, side=98)] * 6


def _mae(size: int) -> tuple[View, ...]:
    """The authors'."""
    return ((Crop(area=(0.2, 1.0), interpolation="bicubic"), Flip(), PatchMask(ratio=0.75, patch=_patch(size))),)


def _simmim(size: int) -> tuple[View, ...]:
    """The authors'; ours at 32 px: blocks of 8 px of four patches each."""
    block = 32 if size > 32 else 8
    return ((Crop(area=(0.67, 1.0)), Flip(), PatchMask(ratio=0.6, patch=_patch(size), block=block)),)


def _msn(size: int) -> tuple[View, ...]:
    """Ours at 32 px: two small views instead of ten."""
    jitter = FULL if size == 128 else HALF
    large = _view(size, 0.3, jitter, blur=0.5)
    small = _view(size, (0.05, 0.3), jitter, blur=0.5, side=SMALL[size])
    mask = PatchMask(ratio=0.15, patch=_patch(size))
    return (large, (*large, mask), *[small] * (10 if size > 32 else 2))


def _patch(size: int) -> int:
    return 4 if size == 32 else 16


RECIPES: dict[type[Method], Callable[[int], tuple[View, ...]]] = {
    SimCLR: _simclr,
    DCL: _simclr,
    DCLW: _simclr,
    NNCLR: _simclr,
    MoCo: _moco,
    BYOL: _byol,
    TiCo: _byol,
    BarlowTwins: _byol,
    SimSiam: _simsiam,
    FastSiam: lambda size: _simsiam(size, 4),
    SwAV: _swav,
    DINO: _dino,
    SMoG: _smog,
    VICReg: _vicreg,
    VICRegL: _vicregl,
    EMPSSL: _emp_ssl,
    LeJEPA: _lejepa,
    MAE: _mae,
    SimMIM: _simmim,
    MSN: _msn,
    PMSN: _msn,
}
