"""The operators, one file each."""

from ablation.operators.base import KorniaOperator, Operator
from ablation.operators.blur import Blur
from ablation.operators.color import Color, ColorDrop, ColorJitter
from ablation.operators.crop import Crop, CropFlip
from ablation.operators.cutout import Cutout
from ablation.operators.flip import Flip
from ablation.operators.kornia import FromKornia
from ablation.operators.noise import Noise
from ablation.operators.patch_mask import PatchMask
from ablation.operators.resize import Resize
from ablation.operators.rotate import Rotate
from ablation.operators.sobel import Sobel
from ablation.operators.solarize import Solarize

__all__ = [
    "Blur", "Color", "ColorDrop", "ColorJitter", "Crop", "CropFlip", "Cutout", "Flip", "FromKornia", "KorniaOperator",
    "Noise", "Operator", "PatchMask", "Resize", "Rotate", "Sobel", "Solarize",
]  # fmt: skip
