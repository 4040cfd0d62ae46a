"""Trial steps of a learner before its training."""

from __future__ import annotations

import copy
import hashlib
import random
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ablation.contracts.base import ALONE, broken, by_a_user
from ablation.data import Data
from ablation.methods import Learner
from ablation.methods.base import Progress
from ablation.operators.pipeline import annotate, normalize, render, sample
from ablation.spec import Training
from ablation.spec.randomness import global_draws_at
from ablation.system import distributed

STEPS = 3


def first_batch(training: Training, data: Data) -> tuple[list[Tensor], Tensor | None, list]:
    """Normalized views of this process's part of the first batch; the labels of the whole batch; and what the method
    asks of the views' draws, if anything."""
    batch = min(training.optimization.batch, len(data.train))
    labels = data.train.labels[:batch] if data.labelled else None
    rows = distributed.local_rows(torch.arange(batch, device=data.device))
    [stored] = data.batches(data.train.images, [rows])
    part = (distributed.rank(), distributed.count())
    address = ("contracts", "views")
    sampled = sample(training.shared, training.views, [address], len(stored), stored.shape[-1], data.device, part)
    views = [normalize(view, data.mean, data.std) for view in render(stored, sampled)]
    return views, labels, [annotate(sampled)] if getattr(training.method, "annotations", ()) else []


def losses_of_first_steps(training: Training, data: Data, build: Callable[[], Learner], steps: int) -> list[float]:
    """On the views of the first batch, every time the same."""
    device, spec = data.device, training.method if by_a_user(training.method) else training.encoder
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        return _losses_of_steps(training, spec, build(), *first_batch(training, data), steps)


def check_steps(
    training: Training, build: Callable[[], Learner], views: list[Tensor], labels: Tensor | None, beside: list
) -> None:
    """Takes a few steps with two learners that start alike, and checks that their losses are equal, that steps change
    the encoder's weights, and that they change no state outside checkpoints."""
    spec = training.method if by_a_user(training.method) else training.encoder
    losses = [_losses_of_steps(training, spec, build(), views, labels, beside) for _ in range(2)]
    apart = max(abs(one - other) / max(1.0, abs(one)) for one, other in zip(*losses, strict=True))
    if apart > (ALONE if views[0].device.type == "cpu" else 0.02):  # False if both are not-a-number
        raise broken(
            spec, "the loss must be the same for the same weights, views and draws",
            f"it differs by up to {apart:.2g} between two learners that start alike",
            "Draw with torch's functions, which are seeded at every step; keep no state outside the learner.",
        )  # fmt: skip


def _losses_of_steps(
    training: Training,
    spec: Any,
    learner: Learner,
    views: list[Tensor],
    labels: Tensor | None,
    beside: list,
    steps: int = STEPS,
) -> list[float]:
    optimization, device = training.optimization, views[0].device
    learner = learner.to(device, memory_format=torch.channels_last).train()
    optimizer = optimization.optimizer.build(learner)
    encoder = [parameter for parameter in learner.encoder.parameters() if parameter.requires_grad]
    begun = [parameter.detach().clone() for parameter in encoder]
    losses, states = [], []
    for step in range(steps):
        with global_draws_at(device, "contracts", "step", step):
            with torch.autocast(device.type, torch.bfloat16, enabled=optimization.precision == "bfloat16"):
                loss, _ = learner.loss([view.clone() for view in views], copy.deepcopy(labels), *beside)
            if step == 0:
                _check_leaves(spec, learner, loss)
            loss.backward()
            if step == 0:
                _check_gradient(spec, learner)
            pulled = any(bool(parameter.grad.any()) for parameter in encoder)
            learner.before_update(Progress(step, 0, step / 1000))
            if optimization.clip:
                nn.utils.clip_grad_norm_(learner.parameters(), optimization.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            learner.after_step(Progress(step + 1, 0, (step + 1) / 1000))
            states.append(torch.get_rng_state())
        losses.append(loss.item())
        if step == 0:
            kept = _beside_the_weights(learner, optimizer)  # a first call may create state, such as a table
    if torch.equal(*states[-2:]):
        raise broken(
            spec, "a step must keep torch's seed, which is set for every step",
            "it sets its own, so all steps draw the same numbers",
            "Remove torch.manual_seed.",
        )  # fmt: skip
    parts = [each for each in (training.optimization.optimizer, spec) if by_a_user(each)]
    # A first gradient may be 0, if the last layer starts with zeros; weight decay moves weights without a gradient.
    if encoder and (not pulled or all(map(torch.equal, begun, encoder))):
        raise broken(
            parts[0], "steps must change the encoder's weights", f"{steps} steps change none",
            "Look at the learning rate, at the optimizer's step, and at factors of 0 in the loss.",
        )  # fmt: skip
    for name, state in _beside_the_weights(learner, optimizer).items():
        if kept.get(name) != state:
            of_optimizer = name.startswith("optimizer.")
            rule = "checkpoints must hold all state that steps change, so that a training can resume"
            cure = (
                "Write self.register_buffer('count', torch.zeros(())), say, instead of self.count = 0; without "
                "persistent=False."
            )
            cure = "Keep it in self.state[parameter]." if of_optimizer else cure
            seen = f"{name} changes from step to step and is not in the checkpoint"
            raise broken(optimization.optimizer if of_optimizer else spec, rule, seen, cure)
    return losses


def _beside_the_weights(learner: Learner, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """State of a learner and its optimizer outside their state_dicts, by name."""
    usual = set(vars(nn.Module())) | {"training"}
    state = {
        f"{name or 'learner'}.{key}": content(value)
        for name, module in learner.named_modules()
        for key, value in {**vars(module), **_unsaved_buffers(module)}.items()
        if key not in usual
    }
    plain = set(vars(torch.optim.SGD([torch.zeros(1)], lr=1.0)))
    return state | {f"optimizer.{k}": content(v) for k, v in vars(optimizer).items() if k not in plain}


def _unsaved_buffers(module: nn.Module) -> dict[str, Any]:
    """Those that a state_dict leaves out (`persistent=False`)."""
    return {name: module._buffers[name] for name in module._non_persistent_buffers_set}


def content(value: Any) -> Any:
    """A comparable form of a value; for an unknown kind of object, only its class."""
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().flatten()
        return tuple(value.shape), hashlib.sha256(flat.view(torch.uint8).numpy().tobytes()).hexdigest()
    if isinstance(value, np.ndarray):
        return value.shape, hashlib.sha256(value.tobytes()).hexdigest()
    if isinstance(value, nn.Module):
        return content(value.state_dict())
    if isinstance(value, Mapping):
        return [(repr(key), content(each)) for key, each in value.items()]
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return [content(each) for each in value]
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, torch.Generator):
        return value.get_state().tolist()
    return value if isinstance(value, (bool, int, float, complex, str, bytes, type(None))) else type(value).__name__


def _check_leaves(spec: Any, learner: Learner, loss: Tensor) -> None:
    """Checks that all tensors which the loss trains are in modules of the learner."""
    own = {id(parameter) for parameter in learner.parameters()}
    others = [leaf for leaf in _leaves(loss) if id(leaf) not in own]
    if others:
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in others[:3])
        raise broken(
            spec, "the loss must use only parameters of the learner",
            f"{len(others)} are in none of its modules (shape {shapes}), so no step would change them",
            "Keep modules in an nn.ModuleList instead of a list, and tensors as nn.Parameter of the learner.",
        )  # fmt: skip


def _check_gradient(spec: Any, learner: Learner) -> None:
    """Checks that the loss trains the whole encoder."""
    trained = {name: each for name, each in learner.encoder.named_parameters() if each.requires_grad}
    without = [name for name, parameter in trained.items() if parameter.grad is None]
    if without:
        raise broken(
            spec, "the loss must give every parameter of the encoder a gradient",
            f"{len(without)} of {len(trained)} get none, among them {without[0]}",
            "Compute the loss from learner.encoder, not from a copy, and detach nothing on the way; set "
            "requires_grad=False on frozen parameters.",
        )  # fmt: skip


def _leaves(loss: Tensor) -> list[Tensor]:
    """The tensors that get a gradient from a backward pass."""
    leaves, waiting, seen = [], [loss.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            leaves += [node.variable] if hasattr(node, "variable") else []
            waiting += [following for following, _ in node.next_functions]
    return leaves
