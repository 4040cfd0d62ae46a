"""Encoders: torchvision's sizes, names and computation, and the recalibration of batch norm.

Tests of shapes build on the meta device, which computes nothing.
"""

import pytest
import torch
from torch import nn
from torch.nn.functional import batch_norm, conv2d, linear, max_pool2d

from ablation.models.batch_norm import recalibrate_batch_norm
from ablation.models.encoder import build_for
from ablation.models.resnet import ResNet, SmallResNet
from ablation.spec import InvalidSpec


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(spec, classes: int | None = None, *, compute: bool = False) -> nn.Module:
    with torch.device("cpu" if compute else "meta"):
        return spec.build(classes=classes) if classes else spec.build()


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def shapes_of(encoder: nn.Module, size: int, batch: int = 2) -> dict[str, tuple[int, int, int]]:
    """Channels, height and width after the stem and after each layer."""
    found, handles = {}, []
    for name, module in encoder.named_children():
        if name in ("conv1", "maxpool") or name.startswith("layer"):
            handles.append(
                module.register_forward_hook(lambda m, i, out, n=name: found.update({n: tuple(out.shape[1:])}))
            )
    encoder(torch.zeros(batch, 3, size, size, device=next(encoder.parameters()).device))
    for handle in handles:
        handle.remove()
    return found


# --------------------------------------------------------------------------------------------------
# Sizes and names


@pytest.mark.parametrize(("depth", "count"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032)])
def test_resnets_have_torchvisions_parameters(depth, count):
    assert parameters(build(ResNet(depth=depth), 1000)) == count


def test_small_resnet_has_77_thousand_parameters():
    encoder = build(SmallResNet())
    assert parameters(encoder) == 77_392
    assert encoder.features == 64


def torchvisions_names(blocks, convolutions: int, first_has_shortcut: bool) -> list[str]:
    """By rule: a stem, four layers of blocks, a shortcut where a block changes the shape, a classifier."""

    def norm(name):
        return [f"{name}.{n}" for n in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]

    names = ["conv1.weight", *norm("bn1")]
    for layer, count in enumerate(blocks, start=1):
        for block in range(count):
            prefix = f"layer{layer}.{block}"
            for i in range(1, convolutions + 1):
                names += [f"{prefix}.conv{i}.weight", *norm(f"{prefix}.bn{i}")]
            if block == 0 and (layer > 1 or first_has_shortcut):
                names += [f"{prefix}.downsample.0.weight", *norm(f"{prefix}.downsample.1")]
    return [*names, "fc.weight", "fc.bias"]


@pytest.mark.parametrize(
    ("depth", "blocks", "convolutions", "first_has_shortcut"),
    [(18, (2, 2, 2, 2), 2, False), (34, (3, 4, 6, 3), 2, False), (50, (3, 4, 6, 3), 3, True)],
)
def test_state_has_torchvisions_names(depth, blocks, convolutions, first_has_shortcut):
    expected = torchvisions_names(blocks, convolutions, first_has_shortcut)
    assert list(build(ResNet(depth=depth), 10).state_dict()) == expected
    without = [name for name in expected if not name.startswith("fc.")]
    assert list(build(ResNet(depth=depth)).state_dict()) == without


def test_shapes_of_some_weights():
    state = build(ResNet(depth=50), 1000).state_dict()
    assert tuple(state["conv1.weight"].shape) == (64, 3, 7, 7)
    assert tuple(state["layer1.0.conv1.weight"].shape) == (64, 64, 1, 1)
    assert tuple(state["layer3.0.conv2.weight"].shape) == (256, 256, 3, 3)
    assert tuple(state["layer4.2.conv3.weight"].shape) == (2048, 512, 1, 1)
    assert tuple(state["layer2.0.downsample.0.weight"].shape) == (512, 256, 1, 1)
    assert tuple(state["fc.weight"].shape) == (1000, 2048)


# --------------------------------------------------------------------------------------------------
# Computation


def forward_by_hand(state: dict, images: torch.Tensor, strides: dict[str, int], pool: bool) -> torch.Tensor:
    """The output in evaluation mode, from weights by torchvision's names. strides: of conv1 and of each layer."""

    def norm(x, name):
        return batch_norm(x, *(state[f"{name}.{n}"] for n in ("running_mean", "running_var", "weight", "bias")))

    def conv(x, name, stride=1):
        weight = state[f"{name}.weight"]
        return conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    x = norm(conv(images, "conv1", strides["conv1"]), "bn1").relu()
    x = max_pool2d(x, 3, 2, 1) if pool else x
    for block in sorted({".".join(name.split(".")[:2]) for name in state if name.startswith("layer")}):
        stride = strides[block.split(".")[0]] if block.endswith(".0") else 1
        last = 3 if f"{block}.conv3.weight" in state else 2
        y = x
        for i in range(1, last + 1):
            # The stride is in the (first) 3 x 3 convolution.
            y = norm(conv(y, f"{block}.conv{i}", stride if i == last - 1 else 1), f"{block}.bn{i}")
            y = y.relu() if i < last else y
        if f"{block}.downsample.0.weight" in state:
            x = norm(conv(x, f"{block}.downsample.0", stride), f"{block}.downsample.1")
        x = (x + y).relu()
    h = x.mean((2, 3))
    return linear(h, state["fc.weight"], state["fc.bias"]) if "fc.weight" in state else h


IMAGENET = {"conv1": 2, "layer1": 1, "layer2": 2, "layer3": 2, "layer4": 2}


@pytest.mark.parametrize(
    ("spec", "classes", "strides", "pool", "size"),
    [
        (ResNet(depth=18), 7, IMAGENET, True, 64),
        (ResNet(depth=18, stem="cifar"), None, IMAGENET | {"conv1": 1}, False, 16),
        (ResNet(depth=50), None, IMAGENET, True, 64),
        (SmallResNet(channels=8), 7, IMAGENET, False, 32),
        (SmallResNet(channels=8, stem_stride=1), None, IMAGENET | {"conv1": 1}, False, 32),
    ],
    ids=repr,
)
def test_forward_against_its_definition(spec, classes, strides, pool, size):
    torch.manual_seed(1)
    encoder = build(spec, classes, compute=True).eval()
    with torch.no_grad():
        for norm in norms(encoder):  # as after training: no statistic or weight is 0 or 1
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.8, 1.6)
            norm.weight.uniform_(0.4, 0.8)
            norm.bias.normal_(0, 0.2)
        images = torch.randn(2, 3, size, size, generator=generator())
        out, expected = encoder(images), forward_by_hand(encoder.state_dict(), images, strides, pool)
    assert out.shape == (2, classes or encoder.features)
    assert out.std() > 1e-3
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


def test_imagenet_stem_halves_twice():
    found = shapes_of(build(ResNet(depth=18)), 224)
    assert found == {
        "conv1": (64, 112, 112), "maxpool": (64, 56, 56), "layer1": (64, 56, 56), "layer2": (128, 28, 28),
        "layer3": (256, 14, 14), "layer4": (512, 7, 7),
    }  # fmt: skip


@pytest.mark.parametrize(("depth", "expansion"), [(18, 1), (34, 1), (50, 4)])
def test_cifar_stem_keeps_the_resolution(depth, expansion):
    encoder = build(ResNet(depth=depth, stem="cifar"))
    found = shapes_of(encoder, 32)
    assert found["conv1"] == found["maxpool"] == (64, 32, 32)
    assert found["layer1"] == (64 * expansion, 32, 32)
    assert found["layer4"] == (512 * expansion, 4, 4)
    assert tuple(encoder.conv1.weight.shape) == (64, 3, 3, 3)


def test_shapes_of_the_small_resnet():
    found = shapes_of(build(SmallResNet()), 32)
    assert found["conv1"] == found["layer1"] == (16, 16, 16)
    assert found["layer2"] == (32, 8, 8)
    assert found["layer3"] == (64, 4, 4)
    full = shapes_of(build(SmallResNet(stem_stride=1)), 32)
    assert full["conv1"] == full["layer1"] == (16, 32, 32)
    assert full["layer3"] == (64, 8, 8)


@pytest.mark.parametrize("depth", [18, 50])
def test_width_multiplies_every_layer(depth):
    single, double = build(ResNet(depth=depth)), build(ResNet(depth=depth, width=2))
    narrow, wide = shapes_of(single, 64), shapes_of(double, 64)
    assert wide == {name: (2 * channels, *sides) for name, (channels, *sides) in narrow.items()}
    assert double.features == 2 * single.features
    assert double(torch.zeros(2, 3, 64, 64, device="meta")).shape == (2, double.features)
    for one, two in zip(single.parameters(), double.parameters(), strict=True):
        assert two.shape[0] == 2 * one.shape[0]
    assert build(SmallResNet(channels=32)).features == 2 * build(SmallResNet(channels=16)).features
    assert ResNet(depth=depth, width=2).label == f"ResNet-{depth} (2x)"
    assert ResNet(depth=depth).label == f"ResNet-{depth}"


@pytest.mark.parametrize("spec", [ResNet(depth=18), ResNet(depth=50, stem="cifar"), SmallResNet()], ids=repr)
@pytest.mark.parametrize("channels", [1, 4])
def test_the_first_convolution_takes_the_images_channels(spec, channels):
    """Everything else is equal."""
    with torch.device("meta"):
        other = build_for(spec, channels, 32)
    expected = {name: tuple(value.shape) for name, value in build(spec).state_dict().items()}
    expected["conv1.weight"] = (expected["conv1.weight"][0], channels, *expected["conv1.weight"][2:])
    assert {name: tuple(value.shape) for name, value in other.state_dict().items()} == expected
    assert other(torch.zeros(2, channels, 32, 32, device="meta")).shape == (2, other.features)


def test_an_encoder_of_a_user_is_given_what_its_build_takes():
    class Takes:
        """A spec that returns its arguments."""

    def spec(build):
        made = Takes()
        made.build = build
        return made

    assert build_for(spec(lambda: "nothing"), 3, 32) == "nothing"
    assert build_for(spec(lambda channels: channels), 4, 32) == 4
    assert build_for(spec(lambda size, channels=3: (channels, size)), 1, 32) == (1, 32)
    assert build_for(spec(lambda **given: given), 1, 32) == {"channels": 1, "size": 32}
    with pytest.raises(InvalidSpec, match=r"have 1 .*Takes\.build .*def build\(self, channels=3"):
        build_for(spec(lambda size: size), 1, 32)


def test_convolutions_start_with_he_initialization():
    """fan-out: the variance is 2 / (k * k * outputs); 9,216 weights give it to within 1.5 % (one sigma)."""
    torch.manual_seed(5)
    encoder = SmallResNet().build()
    weight = encoder.layer3[0].conv1.weight  # 32 to 64 channels
    assert weight.var().item() == pytest.approx(2 / (9 * 64), rel=0.07)
    assert all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in norms(encoder))


# --------------------------------------------------------------------------------------------------
# Recalibration


def trained_encoder() -> nn.Module:
    """With statistics of other images."""
    torch.manual_seed(2)
    encoder = SmallResNet(channels=4).build()
    for seed in range(3):
        encoder(3 * torch.randn(8, 3, 16, 16, generator=generator(seed)) + 1)
    return encoder


def some_batches() -> list[torch.Tensor]:
    return [(i + 1) * torch.randn(10, 3, 16, 16, generator=generator(10 + i)) + i for i in range(3)]


def test_recalibrated_statistics_are_the_mean_over_batches():
    encoder, batches = trained_encoder(), some_batches()
    recalibrate_batch_norm(encoder, batches)
    with torch.no_grad():
        outputs = [encoder.conv1(batch) for batch in batches]
    mean = torch.stack([x.mean((0, 2, 3)) for x in outputs]).mean(0)
    variance = torch.stack([x.var((0, 2, 3)) for x in outputs]).mean(0)
    torch.testing.assert_close(encoder.bn1.running_mean, mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder.bn1.running_var, variance, rtol=1e-4, atol=1e-5)


def test_every_norm_is_recalibrated():
    """The mean over batches of each norm's statistics in training mode."""
    encoder, batches = trained_encoder(), some_batches()
    recalibrate_batch_norm(encoder, batches)
    calibrated = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms(encoder)]
    seen: list[list[torch.Tensor]] = [[] for _ in norms(encoder)]
    for norm, inputs in zip(norms(encoder), seen, strict=True):
        norm.register_forward_pre_hook(lambda m, args, inputs=inputs: inputs.append(args[0].detach().clone()))
    encoder.train()
    for batch in batches:
        encoder(batch)
    assert len(seen) == 9
    for (mean, variance), inputs in zip(calibrated, seen, strict=True):
        expected = torch.stack([x.mean((0, 2, 3)) for x in inputs]).mean(0)
        torch.testing.assert_close(mean, expected, rtol=1e-4, atol=1e-5)
        expected = torch.stack([x.var((0, 2, 3)) for x in inputs]).mean(0)
        torch.testing.assert_close(variance, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_recalibration_changes_nothing_but_statistics(training):
    encoder = trained_encoder().train(training)
    norms(encoder)[2].momentum = 0.3
    momenta = [norm.momentum for norm in norms(encoder)]
    weights = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    recalibrate_batch_norm(encoder, some_batches())
    assert [norm.momentum for norm in norms(encoder)] == momenta
    assert all(module.training is training for module in encoder.modules())
    assert all(torch.equal(p, weights[name]) and p.grad is None for name, p in encoder.named_parameters())


def test_recalibration_forgets_the_old_statistics():
    first, second = trained_encoder(), trained_encoder()
    second(100 + torch.randn(8, 3, 16, 16, generator=generator(4)))
    assert not torch.allclose(first.bn1.running_mean, second.bn1.running_mean)
    for encoder in (first, second, second):  # and again
        recalibrate_batch_norm(encoder, some_batches())
    for (name, one), (_, two) in zip(first.named_buffers(), second.named_buffers(), strict=True):
        assert torch.equal(one, two), name


def test_recalibrated_encoder_standardizes_its_batch():
    """With one batch, evaluation mode does what training mode does, up to the unbiased variance."""
    encoder, batch = trained_encoder(), 2 * torch.randn(100, 3, 16, 16, generator=generator(10)) + 1
    with torch.no_grad():
        before, expected = encoder.eval()(batch), encoder.train()(batch)
        recalibrate_batch_norm(encoder, [batch])
        found = encoder.eval()(batch)
    assert not torch.allclose(before, expected, rtol=0.05, atol=0.05)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


# --------------------------------------------------------------------------------------------------
# Specs


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ResNet(depth=101), "ResNet.depth must be one of 18, 34, 50, but got 101"),
        (lambda: ResNet(stem="stl"), "ResNet.stem must be one of 'imagenet', 'cifar', but got 'stl'"),
        (lambda: ResNet(width=0), "ResNet.width must be a whole number of at least 1, but got 0"),
        (lambda: ResNet(width=1.5), "ResNet.width"),
        (lambda: SmallResNet(channels=3), "SmallResNet.channels must be a whole number of at least 4, but got 3"),
        (lambda: SmallResNet(channels=16.0), "SmallResNet.channels"),
        (lambda: SmallResNet(stem_stride=4), "SmallResNet.stem_stride must be 1 or 2, but got 4"),
    ],
)
def test_bad_values_are_named(make, words):
    with pytest.raises(InvalidSpec, match=words):
        make()
