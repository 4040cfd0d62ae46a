"""Which of Kornia's augmentations help beside crop and color?

Both branches get crop, color and one augmentation with its default probability and settings, or those of GIVEN if it
has none or they are the identity. Omitted are augmentations that change fewer than 1,000 images a second on one CPU
thread at 32 px (RandomClahe), need a diffusion model, only pad or resize, or normalize. RandomGaussianNoise is clipped
to [0, 1].

Source: ours; docs/kornia.md has laws and speeds.
Cost: 144 runs, an hour and a half on two CPU cores at cifar10-small.
Expected: few gain beyond noise; augmentations that destroy the image (noise, snow) cost most.

    ablation run kornia_zoo --scale cifar10-small
"""

import kornia.augmentation as K
import torch

from ablation import Crop, Differences, Experiment, FromKornia, SimCLR, sweep

DEFAULT = (
    "AutoContrast BoxBlur ChannelDropout ChannelShuffle ElasticTransform Equalize Erasing GaussianIllumination "
    "GaussianNoise Grayscale HorizontalFlip Invert JPEG LinearCornerIllumination LinearIllumination MedianBlur "
    "Perspective PlanckianJitter PlasmaBrightness PlasmaContrast PlasmaShadow Posterize RGBShift SaltAndPepperNoise "
    "Sharpness Snow Solarize ThinPlateSpline VerticalFlip"
)
TENTH, FACTORS = torch.tensor([-0.1, 0.1]), (0.6, 1.4)
GIVEN = {
    "ColorJiggle": (0.4, 0.4, 0.4, 0.1), "ColorJitter": (0.4, 0.4, 0.4, 0.1), "RandomAffine": (15.0, (0.1, 0.1)),
    "RandomBrightness": (FACTORS,), "RandomContrast": (FACTORS,), "RandomFisheye": (TENTH, TENTH, 1 + TENTH),
    "RandomGamma": (FACTORS,), "RandomGaussianBlur": (3, (0.1, 2.0)), "RandomHue": ((-0.1, 0.1),), "RandomMotionBlur":
    (3, 35.0, 0.5), "RandomRain": ((150, 150),), "RandomRotation": (15.0,), "RandomRotation90": ((1, 3),),
    "RandomSaturation": (FACTORS,), "RandomShear": (10.0,), "RandomTranslate": ((-0.1, 0.1), (-0.1, 0.1)),
}  # fmt: skip


def experiment(scale):
    size = (getattr(scale.dataset, "size", None) or 32,) * 2
    given = {f"Random{name}": () for name in DEFAULT.split()} | GIVEN
    modules = [getattr(K, name)(*values) for name, values in sorted(given.items())]
    modules += [K.RandomCrop(size, padding=4), K.RandomResizedCrop(size)]
    zoo = [FromKornia(each, clamp=isinstance(each, K.RandomGaussianNoise)) for each in modules]
    views = {"crop + color": (), **{each.label: (each,) for each in zoo}}
    make = lambda operator: scale.run(scale.method(SimCLR), views=((Crop(), scale.color(), *operator),) * 2)  # noqa: E731
    figures = {"differences": Differences(rows="operator", against="crop + color")}
    return Experiment(cells=sweep(make, operator=views, seeds=range(3)), figures=figures)
