"""Several small networks trained as one array, against one at a time: network steps a second.

The channels of N networks lie side by side, (B, N x C, S, S), so batch norm, activations and the optimizer stay
unchanged; only convolutions and linear layers depend on N. A convolution is the library's with groups, or a batched
matrix product of all networks on unfolded images.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, unfold

from ablation.methods import SimCLR
from ablation.methods.contrastive import nt_xent
from ablation.models.resnet import SmallResNet
from ablation.training.optimizers import AdamW
from ablation.training.precision import precision_of
from benchmarks.measure import Row, rows

TEMPERATURE = 0.5
BATCH = 128


def run(device: str, counts: Sequence[int], precision: str, rounds: int) -> Iterator[Row]:
    """A SimCLR step of the tiny scale's network and batch, on prepared views."""
    for count in counts:
        networks = [network(seed, device) for seed in range(count)]
        views = [torch.randn(BATCH, 3 * count, 32, 32, device=device) for _ in range(2)]
        own = [[view[:, 3 * n : 3 * n + 3].contiguous() for view in views] for n in range(count)]
        steps = [stepper(each, 1, precision) for each in networks]

        def one_at_a_time(steps=steps, own=own) -> None:
            for step, some in zip(steps, own, strict=True):
                step(some)

        contenders: dict[str, Callable[[], object]] = {"one at a time": one_at_a_time}
        for way, convolution in (("grouped convolution", Grouped), ("unfold and batched product", Unfolded)):
            step = stepper(array(networks, convolution), count, precision)
            contenders[way] = lambda step=step, views=views: step(views)
        case = f"{SmallResNet().label}, batch {BATCH}, {precision}: {count} networks"
        options = {"work": count, "unit": "steps/s", "device": device, "ours": "one at a time", "rounds": rounds}
        yield from rows("gpu arrays", case, contenders, **options, memory=True)


def network(seed: int, device: str) -> nn.Module:
    """Encoder and projection head."""
    torch.manual_seed(seed)
    learner = SimCLR(hidden=128, dimension=64).build(SmallResNet().build(), 10)
    return nn.Sequential(learner.encoder, learner.head).to(device).train()


def stepper(model: nn.Module, count: int, precision: str) -> Callable[[list[Tensor]], Tensor]:
    optimizer = AdamW(learning_rate=1e-3).build(model)

    def step(views: list[Tensor]) -> Tensor:
        with precision_of(precision, views[0].device):
            z = model(torch.cat(views)).float()
        loss = losses(z.view(len(z), count, -1).transpose(0, 1)).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def losses(z: Tensor) -> Tensor:
    """NT-Xent of each network, (N,); z (N, 2B, D), the second view after the first."""
    if len(z) == 1:
        return nt_xent(*z[0].chunk(2), TEMPERATURE)[0][None]
    z = normalize(z, dim=2)
    logits = torch.bmm(z, z.mT) / TEMPERATURE
    logits.diagonal(dim1=1, dim2=2).fill_(float("-inf"))
    positive = torch.arange(z.shape[1], device=z.device).roll(z.shape[1] // 2)
    each = cross_entropy(logits.flatten(0, 1), positive.repeat(len(z)), reduction="none")
    return each.view(len(z), -1).mean(1)


def array(networks: Sequence[nn.Module], convolution: type) -> nn.Module:
    """The networks side by side in one module from (B, N x 3, S, S) to (B, N x D)."""
    first, count = networks[0], len(networks)
    if isinstance(first, nn.Conv2d):
        return convolution(networks)
    if isinstance(first, nn.Linear):
        return Linears(networks)
    if isinstance(first, (nn.BatchNorm1d, nn.BatchNorm2d)):
        norm = type(first)(count * first.num_features).to(first.weight)
        for name in ("weight", "bias"):
            getattr(norm, name).data = torch.cat([getattr(each, name).data for each in networks])
        return norm
    whole = copy.deepcopy(first)
    for name, _ in first.named_children():
        setattr(whole, name, array([getattr(each, name) for each in networks], convolution))
    return whole


class Grouped(nn.Module):
    def __init__(self, convolutions: Sequence[nn.Conv2d]):
        super().__init__()
        first, self.count = convolutions[0], len(convolutions)
        self.weight = nn.Parameter(torch.cat([each.weight.data for each in convolutions]))
        self.stride, self.padding = first.stride, first.padding

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.weight, None, self.stride, self.padding, groups=self.count)


class Unfolded(nn.Module):
    def __init__(self, convolutions: Sequence[nn.Conv2d]):
        super().__init__()
        first = convolutions[0]
        self.weight = nn.Parameter(torch.stack([each.weight.data.flatten(1) for each in convolutions]))
        self.kernel, self.stride, self.padding = first.kernel_size, first.stride, first.padding

    def forward(self, x: Tensor) -> Tensor:
        batch, side = len(x), (x.shape[-1] - 1) // self.stride[0] + 1  # for kernels that keep the size
        count = len(self.weight)
        columns = unfold(x.reshape(batch * count, -1, *x.shape[2:]), self.kernel, 1, self.padding, self.stride)
        columns = columns.view(batch, count, -1, side * side).permute(1, 2, 0, 3).flatten(2)
        out = torch.bmm(self.weight, columns).view(count, -1, batch, side, side)
        return out.permute(2, 0, 1, 3, 4).flatten(1, 2)


class Linears(nn.Module):
    def __init__(self, layers: Sequence[nn.Linear]):
        super().__init__()
        self.weight = nn.Parameter(torch.stack([each.weight.data.T for each in layers]))
        biases = [each.bias for each in layers if each.bias is not None]
        self.bias = nn.Parameter(torch.cat([each.data for each in biases])) if biases else None

    def forward(self, x: Tensor) -> Tensor:
        out = torch.bmm(x.view(len(x), len(self.weight), -1).transpose(0, 1), self.weight).transpose(0, 1).flatten(1)
        return out if self.bias is None else out + self.bias
