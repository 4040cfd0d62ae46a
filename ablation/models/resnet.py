"""Encoders f from images to h: ResNets with torchvision's parameter names, and the small one of the tiny scale.

`build(channels=3)` returns a module from normalized images (B, channels, S, S) of any size to h, (B, `features`). With
`classes` it ends in torchvision's classifier `fc`, so weights are interchangeable with torchvision's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from ablation.spec import Spec

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


@dataclass(frozen=True, kw_only=True)
class ResNet(Spec):
    """ResNet-18, -34 or -50 (He et al. 2016), with the stride in the 3 x 3 convolution as in torchvision.

    stem: "imagenet" (7 x 7, stride 2, max-pool) or "cifar" (3 x 3, stride 1, no pool; Chen et al. 2020,
    App. B.9). width multiplies every layer's channels (Chen et al. 2020, Figure 7).
    """

    depth: int = 18
    stem: str = "imagenet"
    width: int = 1

    def __post_init__(self):
        self.require("depth", self.depth in tuple(BLOCKS), f"be one of {', '.join(map(str, BLOCKS))}")
        self.require_choice("stem", ("imagenet", "cifar"))
        self.require_count("width")

    @property
    def label(self) -> str:
        return f"ResNet-{self.depth}" + (f" ({self.width}x)" if self.width > 1 else "")

    @property
    def features(self) -> int:
        """Dimension of h."""
        return 512 * self.width * (4 if self.depth == 50 else 1)

    def build(self, channels: int = 3, size: int | None = None, classes: int | None = None) -> Encoder:
        block = Bottleneck if self.depth == 50 else BasicBlock
        widths = [64 * self.width * 2**i for i in range(4)]
        return Encoder(block, BLOCKS[self.depth], widths, stem=self.stem, inputs=channels, classes=classes)


@dataclass(frozen=True, kw_only=True)
class SmallResNet(Spec):
    """Three stages of c, 2c and 4c channels, for two CPU cores: 77 thousand parameters at c = 16 and one block each.

    blocks: residual blocks in a stage.

    The 3 x 3 stem has stride 2 (`stem_stride`), which makes a step on 32 px images four times cheaper.
    """

    channels: int = 16
    blocks: int = 1
    stem_stride: int = 2

    def __post_init__(self):
        self.require_count("channels", 4)
        self.require_count("blocks")
        self.require("stem_stride", self.stem_stride in (1, 2), "be 1 or 2")

    @property
    def label(self) -> str:
        depth = f"{self.blocks} blocks a stage, " if self.blocks > 1 else ""
        return f"small ResNet ({self.channels} channels, {depth}stem stride {self.stem_stride})"

    @property
    def features(self) -> int:
        """Dimension of h."""
        return 4 * self.channels

    def build(self, channels: int = 3, size: int | None = None, classes: int | None = None) -> Encoder:
        widths = [self.channels * 2**i for i in range(3)]
        blocks = (self.blocks,) * 3
        settings = {"stem": "cifar", "stem_stride": self.stem_stride, "inputs": channels, "classes": classes}
        return Encoder(BasicBlock, blocks, widths, **settings)


class Encoder(nn.Module):
    """A residual network, without its last linear layer (gives h) or with it (gives `classes` logits)."""

    def __init__(
        self, block, blocks, widths, *, stem: str, stem_stride: int = 1, inputs: int = 3, classes: int | None = None
    ):
        super().__init__()
        channels = widths[0]
        if stem == "imagenet":
            self.conv1 = nn.Conv2d(inputs, channels, 7, 2, 3, bias=False)
            self.maxpool = nn.MaxPool2d(3, 2, 1)
        else:
            self.conv1 = nn.Conv2d(inputs, channels, 3, stem_stride, 1, bias=False)
            self.maxpool = nn.Identity()
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.depth = len(blocks)
        for number, (count, width) in enumerate(zip(blocks, widths, strict=True), start=1):
            layer = []
            for i in range(count):
                stride = 2 if number > 1 and i == 0 else 1
                layer.append(block(channels, width, stride))
                channels = width * block.expansion
            self.add_module(f"layer{number}", nn.Sequential(*layer))
        self.features = channels
        self.fc = nn.Linear(channels, classes) if classes else nn.Identity()
        self._initialize()

    def _initialize(self) -> None:
        """He initialization, fan-out, as torchvision."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def maps(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The feature maps, (B, C, side, side): of the "stem" (before the max-pool), "stage1", "stage2", ..."""
        x = self.relu(self.bn1(self.conv1(images)))
        yield "stem", x
        x = self.maxpool(x)
        for number in range(1, self.depth + 1):
            x = getattr(self, f"layer{number}")(x)
            yield f"stage{number}", x

    def forward(self, images: Tensor) -> Tensor:
        for _, x in self.maps(images):
            last = x
        return self.fc(last.mean((2, 3)))


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * 4)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(channels, width * 4, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


def _shortcut(channels: int, width: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and channels == width:
        return None
    return nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
