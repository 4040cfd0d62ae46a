"""Checks of the contracts of encoders, methods (methods/base.py), optimizers and schedules."""

from __future__ import annotations

import copy
import hashlib
import math
import random
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from ablation.contracts.base import (
    ALONE,
    BFLOAT16,
    broken,
    by_a_user,
    equal,
    first_images,
    generators_untouched,
    say,
    shown,
)
from ablation.data import Data
from ablation.methods import Learner
from ablation.methods.base import Progress
from ablation.models.encoder import build_encoder
from ablation.operators.pipeline import annotate, normalize, render, sample
from ablation.spec import Optimization, Training
from ablation.spec.metric import OF_A_LOSS, is_reserved
from ablation.spec.randomness import global_draws_at
from ablation.system import distributed

STEPS = 3  # trial steps of a learner before its training


def check_schedule(optimization: Optimization, images: int) -> None:
    """Checks a user's schedule at every step of a training on `images` images, or at 1,000 of them."""
    schedule = optimization.schedule
    steps = optimization.epochs * (images // optimization.batch)
    after = max(1, steps - round(optimization.warmup * steps))
    tried = range(0, after, math.ceil(after / 1000))
    rule = "factor(step, steps) must return the rate as a fraction of the optimizer's, from 0 to 1"
    with generators_untouched(schedule, "factor", torch.device("cpu")):
        factors = [schedule.factor(step, after) for step in tried]
        again = [schedule.factor(step, after) for step in tried]
    for step, factor in zip(tried, factors, strict=True):
        number = isinstance(factor, (int, float)) and not isinstance(factor, bool)
        if not number or not 0 <= factor <= 1:
            seen = f"returned {shown(factor)} at step {step} of {after}"
            raise broken(schedule, rule, seen, "Return a Python float; the optimizer has the full learning rate.")
    if factors != again:
        cure = "Compute it from step, steps and fields alone."
        raise broken(
            schedule, "factor must return the same for the same step", "returned other values at a second call", cure
        )
    if not any(factors):
        raise broken(schedule, rule, f"returned 0 at all of {after} steps", "A training needs a rate above 0.")
    if max(factors) < 0.5:
        say(
            schedule,
            f"its largest factor is {max(factors):.3g}, so no step reaches the rate that tables and captions show",
        )


def check_encoder(spec: Any, encoder: Any) -> None:
    """Checks the result of `build`, before it gets a head."""
    if not isinstance(encoder, nn.Module):
        raise broken(spec, "build() must return a torch.nn.Module", f"returned {shown(encoder)}", "Return the network.")
    features = getattr(encoder, "features", None)
    if not isinstance(features, int) or isinstance(features, bool) or features < 1:
        raise broken(
            spec, "build() must return a module with `features`, the dimension of h, as a whole number",
            f"{type(encoder).__name__} has {'none' if features is None else f'features = {shown(features)}'}",
            "Write encoder.features = 512, say, before return encoder.",
        )  # fmt: skip


def check_learner(training: Training, data: Data, some: Tensor, build: Callable[[], Learner]) -> None:
    """Checks a learner on views of the first batch in training mode, and on clean images `some` (uint8) in evaluation
    mode."""
    method, device = training.method, data.device
    learner = build()
    _check_parts(training, learner)
    _check_built_again(training, learner, build())
    if by_a_user(training.encoder):
        _check_seeded(training.encoder, lambda: build_encoder(training, data))
    if by_a_user(method):
        _check_seeded(method, lambda: method.build(build_encoder(training, data), len(data.classes)))
    learner = learner.to(device, memory_format=torch.channels_last)
    views, labels, beside = _first_batch(training, data)
    clean = normalize(some.float().div_(255), data.mean, data.std)
    bfloat16 = training.optimization.precision == "bfloat16"
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        torch.autocast(device.type, torch.bfloat16, enabled=bfloat16),
    ):
        if by_a_user(training.encoder):
            _check_h(training.encoder, learner, views[0], clean)
        if by_a_user(method):
            _check_z(method, learner, clean)
        if by_a_user(method) and method.trains:
            _check_loss(method, learner, views, labels, beside)
            _warn_of_unused_views(method, build, views, labels, beside)
    if by_a_user(training.optimization.optimizer):
        _check_optimizer(training.optimization.optimizer, learner)
    if method.trains:
        check_steps(training, build, views, labels, beside)


def losses_of_first_steps(training: Training, data: Data, build: Callable[[], Learner]) -> list[float]:
    """On the views of the first batch, every time the same."""
    device, spec = data.device, training.method if by_a_user(training.method) else training.encoder
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        return _losses_of_steps(training, spec, build(), *_first_batch(training, data))


def _first_batch(training: Training, data: Data) -> tuple[list[Tensor], Tensor | None, list]:
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


def _check_parts(training: Training, learner: Learner) -> None:
    """A Learner with an encoder and a head, which evaluates two modules whose weights can be saved."""
    method = training.method
    if not isinstance(learner, Learner):
        raise broken(
            method, "build(encoder, classes) must return a Learner", f"returned {shown(learner)}",
            "Let the module inherit from ablation.methods.Learner.",
        )  # fmt: skip
    for part in ("encoder", "head"):
        if not isinstance(getattr(learner, part), nn.Module):
            raise broken(
                method, f"the learner's {part} must be a torch.nn.Module", "it is not", "nn.Identity() is one."
            )
    evaluated = learner.evaluated()
    pair = isinstance(evaluated, (tuple, list, nn.ModuleList)) and len(evaluated) == 2
    if not pair or not all(isinstance(each, nn.Module) for each in evaluated):
        raise broken(
            method, "evaluated() must return an encoder and a head, two torch.nn.Modules",
            f"returned {shown(evaluated)}", "Write return self.teacher.copies, say, of a Momentum(encoder, head).",
        )  # fmt: skip
    for part, module in zip(("encoder", "head"), evaluated, strict=True):
        try:
            save({name: value.contiguous() for name, value in module.state_dict().items()})
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            cause = str(error).strip().splitlines()[0][:100]
            cure = "Give each layer its own tensor, and keep recomputable tensors out of state_dict."
            spec = training.encoder if part == "encoder" and by_a_user(training.encoder) else method
            whose = "learner's" if module is getattr(learner, part) else "evaluated"
            rule = f"safetensors must be able to save the weights of the {whose} {part}"
            raise broken(spec, rule, cause, cure) from error


def _check_built_again(training: Training, learner: Learner, again: Learner) -> None:
    for (name, one), other in zip(learner.state_dict().items(), again.state_dict().values(), strict=True):
        if isinstance(one, Tensor) and not equal(one, other):
            spec = training.encoder if name.startswith("encoder.") else training.method
            raise broken(
                spec, "build must give the same weights for the same seed", f"{name} differs in a second build",
                "Draw initial weights with torch, whose generator is seeded before; not with NumPy or the clock.",
            )  # fmt: skip


_seeded: set[Any] = set()  # specs whose weights were compared in this process


def _check_seeded(spec: Any, build: Callable[[], nn.Module]) -> None:
    """Checks that weights come from the run's seed. Code that sets its own seed always ends in the same state."""
    if spec in _seeded:
        return
    built, states = [], []
    for seed in range(2):
        with global_draws_at(torch.device("cpu"), "contracts", "seed", seed):
            weights = build().state_dict().values()
            built.append([_content(each) for each in weights if isinstance(each, Tensor) and each.ndim > 1])
            states.append(torch.get_rng_state())
    if torch.equal(*states):
        raise broken(
            spec, "build must keep torch's seed, which is the run's", "it sets another, so all seeds start alike",
            "Remove torch.manual_seed.",
        )  # fmt: skip
    if built[0] and built[0] == built[1]:
        say(spec, "all seeds start with equal weights, so the spread over seeds comes from views and order alone")
    _seeded.add(spec)


@torch.no_grad()
def check_kept(training: Training, data: Data, learner: Learner, build: Callable[[], Learner]) -> None:
    """After a training: checks that the stored weights are everything that a user's encoder or method has learned."""
    if not by_a_user((training.encoder, training.method)):
        return
    again = build()
    again.load_state_dict(learner.state_dict())
    again = again.to(data.device, memory_format=torch.channels_last).eval()
    clean = normalize(first_images(data).float().div_(255), data.mean, data.std)
    for spec, name in (training.encoder, "encoder"), (training.method, "project"):
        kept, trained = (getattr(each, name)(clean).float() for each in (again, learner.eval()))
        apart = (kept - trained).abs().max().item()
        if not apart <= ALONE * max(1.0, trained.abs().max().item()):
            raise broken(
                spec, "all state that a training changes must be stored with the weights",
                f"{'h' if name == 'encoder' else 'z'} differs by up to {apart:.2g} after loading the weights",
                "Write self.register_buffer('centre', tensor) instead of self.centre = tensor.",
            )  # fmt: skip


@torch.no_grad()
def _check_h(spec: Any, learner: Learner, view: Tensor, clean: Tensor) -> None:
    encoder = learner.encoder
    results = {}
    for mode, images in ("training", view), ("evaluation", clean), ("evaluation, again,", clean):
        learner.train(mode == "training")
        with generators_untouched(spec, "forward", None):
            h = encoder(images)
        _check_matrix(spec, f"in {mode} mode the encoder", h, len(images), encoder.features)
        results[mode] = h.float()
    apart = (results["evaluation"] - results["evaluation, again,"]).abs().max().item()
    if apart > ALONE * max(1.0, results["evaluation"].abs().max().item()):
        raise broken(
            spec, "in evaluation mode the encoder must give the same h for the same images",
            f"h differs by up to {apart:.2g} at a second call", "Let dropout and noise follow self.training.",
        )  # fmt: skip
    half = clean.flip(0)[: -(-len(clean) // 2)]
    with generators_untouched(spec, "forward", None):
        among_others = encoder(half).float()
    largest = results["evaluation"].abs().max().item()
    apart = (among_others - results["evaluation"].flip(0)[: len(half)]).abs().max().item()
    if apart > (BFLOAT16 if torch.is_autocast_enabled(clean.device.type) else ALONE) * max(1.0, largest):
        raise broken(
            spec, "in evaluation mode the encoder must compute h of each image from that image alone",
            f"h differs by up to {apart:.2g} among other images",
            "Take means over the last dimensions, not over the batch (the first), and keep the images' order.",
        )  # fmt: skip


def _check_matrix(spec: Any, subject: str, result: Any, batch: int, features: int | None) -> None:
    wanted = f"({batch}, {features or 'dimension'})"
    fits = isinstance(result, Tensor) and result.is_floating_point() and result.ndim == 2 and len(result) == batch
    if not fits or (features is not None and result.shape[1] != features):
        raise broken(
            spec, f"{subject} must return floating-point numbers of shape {wanted}", f"returned {shown(result)}",
            "End with x.flatten(1), and set `features` to its width." if features else "End with x.flatten(1).",
        )  # fmt: skip
    if not result.isfinite().all():
        cure = "Look at its first layers and weights."
        raise broken(spec, f"{subject} must return finite numbers", "some are not", cure)


def _check_z(spec: Any, learner: Learner, clean: Tensor) -> None:
    with torch.no_grad():
        encoder, _ = learner.eval().evaluated()
        _check_matrix(spec, "the evaluated encoder", encoder(clean), len(clean), None)
        _check_matrix(spec, "project", learner.project(clean), len(clean), None)


def _check_loss(spec: Any, learner: Learner, views: list[Tensor], labels: Tensor | None, beside: list) -> None:
    with generators_untouched(spec, "loss", None):
        try:
            returned = learner.train().loss(views, copy.deepcopy(labels), *beside)
        except (AttributeError, TypeError) as error:
            if labels is not None:
                raise
            raise broken(
                spec, "a method that uses labels must declare it", f"loss fails without labels ({error})",
                "Write needs_labels = True in the class, or do not use the labels.",
            ) from error  # fmt: skip
    check_loss(spec, returned)
    stated, measured = vars(type(spec)).get("metrics", ()), returned[1]  # not inherited ones
    wrong = [*(set(stated) - set(measured)), *(set(measured) - {*stated, *OF_A_LOSS})]
    if stated and wrong:
        raise broken(
            spec, "loss must return the metrics that the class states",
            f"`metrics` has {', '.join(stated)}, and it returned {', '.join(measured) or 'none'}",
            f"Correct {wrong[0]!r} in `metrics` or in `loss`, or state none.",
        )  # fmt: skip


_viewed: set[Any] = set()  # (method, number of views) already checked in this process


def _warn_of_unused_views(
    spec: Any, build: Callable[[], Learner], views: list[Tensor], labels: Tensor | None, beside: list
) -> None:
    """Warns about a view that the loss ignores: a grid over its operators would find that they do not matter."""
    if (spec, len(views)) in _viewed:
        return
    device = views[0].device

    def loss_of(some: list[Tensor], training: bool) -> float:
        learner = build().to(device, memory_format=torch.channels_last).train(training)
        with global_draws_at(device, "contracts", "unused views"):
            return learner.loss([view.clone() for view in some], copy.deepcopy(labels), *beside)[0].item()

    whole = [loss_of(views, training) for training in (True, False)]
    for number in range(len(views)):
        others = [-view if place == number else view for place, view in enumerate(views)]
        which = f"view {number + 1} of {len(views)}"
        if loss_of(others, True) == whole[0]:
            say(spec, f"the loss does not depend on {which} or its operators")
        # In evaluation mode, batch norm passes nothing from one view to another.
        elif math.isclose(loss_of(others, False), whole[1], rel_tol=1e-6):
            say(spec, f"the loss depends on {which} only through the statistics of batch norm; does it use the view?")
    _viewed.add((spec, len(views)))


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
    training: Training, spec: Any, learner: Learner, views: list[Tensor], labels: Tensor | None, beside: list
) -> list[float]:
    optimization, device = training.optimization, views[0].device
    learner = learner.to(device, memory_format=torch.channels_last).train()
    optimizer = optimization.optimizer.build(learner)
    encoder = [parameter for parameter in learner.encoder.parameters() if parameter.requires_grad]
    begun = [parameter.detach().clone() for parameter in encoder]
    losses, states = [], []
    for step in range(STEPS):
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
            parts[0], "steps must change the encoder's weights", f"{STEPS} steps change none",
            "Look at the learning rate, at the optimizer's step, and at factors of 0 in the loss.",
        )  # fmt: skip
    for name, content in _beside_the_weights(learner, optimizer).items():
        if kept.get(name) != content:
            of_optimizer = name.startswith("optimizer.")
            rule = "checkpoints must hold all state that steps change, so that a training can resume"
            cure = "Write self.register_buffer('count', torch.zeros(())), say, instead of self.count = 0."
            cure = "Keep it in self.state[parameter]." if of_optimizer else cure
            seen = f"{name} changes from step to step and is not in the checkpoint"
            raise broken(optimization.optimizer if of_optimizer else spec, rule, seen, cure)
    return losses


def _beside_the_weights(learner: Learner, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """State of a learner and its optimizer outside their state_dicts, by name."""
    usual = set(vars(nn.Module())) | {"training"}
    state = {
        f"{name or 'learner'}.{key}": _content(value)
        for name, module in learner.named_modules()
        for key, value in vars(module).items()
        if key not in usual
    }
    plain = set(vars(torch.optim.SGD([torch.zeros(1)], lr=1.0)))
    return state | {f"optimizer.{k}": _content(v) for k, v in vars(optimizer).items() if k not in plain}


def _content(value: Any) -> Any:
    """A comparable form of a value; for an unknown kind of object, only its class."""
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().flatten()
        return tuple(value.shape), hashlib.sha256(flat.view(torch.uint8).numpy().tobytes()).hexdigest()
    if isinstance(value, np.ndarray):
        return value.shape, hashlib.sha256(value.tobytes()).hexdigest()
    if isinstance(value, nn.Module):
        return _content(value.state_dict())
    if isinstance(value, Mapping):
        return [(repr(key), _content(each)) for key, each in value.items()]
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return [_content(each) for each in value]
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


def check_loss(spec: Any, returned: Any) -> None:
    """Checks the result of `Learner.loss`."""
    rule = "loss must return (loss, metrics), a scalar with a gradient and a dict"
    cure = "Write return loss, {}, or return loss, {'accuracy': value.detach()}."
    pair = isinstance(returned, tuple) and len(returned) == 2
    if not pair or not isinstance(returned[0], Tensor) or not isinstance(returned[1], dict):
        raise broken(spec, rule, f"returned {shown(returned)}", cure)
    loss, metrics = returned
    if loss.ndim or not loss.is_floating_point() or not loss.requires_grad:
        graph = "" if loss.requires_grad else " without a gradient"
        raise broken(spec, rule, f"the loss is {shown(loss)}{graph}", "Take its mean; detach nothing on the way.")
    if not loss.isfinite():
        seen = f"it is {loss.item()} on the first batch, before any step"
        raise broken(spec, "the loss must be a finite number", seen, "Look at logarithms, roots and divisions.")
    for name, value in metrics.items():
        fits = isinstance(name, str) and isinstance(value, Tensor) and value.ndim == 0 and not value.requires_grad
        if fits and is_reserved(name):
            raise broken(
                spec, "metrics must not have names of columns", f"one is named {name!r}", "Give it another name."
            )
        if not fits:
            graph = " with a gradient" if isinstance(value, Tensor) and value.requires_grad else ""
            raise broken(
                spec, "metrics must be 0-dimensional tensors without a gradient, by name",
                f"{name!r} is {shown(value)}{graph}",
                "Write value.detach(), or value.detach().mean() for more dimensions.",
            )  # fmt: skip


def _check_optimizer(spec: Any, learner: Learner) -> None:
    built = spec.build(learner)
    if not isinstance(built, torch.optim.Optimizer) or not all("lr" in group for group in built.param_groups):
        raise broken(
            spec, "build(module) must return a torch.optim.Optimizer whose groups have a rate `lr`",
            f"returned {shown(built)}", "Return torch.optim.SGD(module.parameters(), lr=self.learning_rate), say.",
        )  # fmt: skip
    own = {id(parameter): name for name, parameter in learner.named_parameters()}
    given = {id(parameter) for group in built.param_groups for parameter in group["params"]}
    if not given or not given <= set(own):
        raise broken(spec, "build must use the learner's own parameters", "it uses others", "Use module.parameters().")
    stated, rates = getattr(spec, "learning_rate", None), {float(group["lr"]) for group in built.param_groups}
    if isinstance(stated, (int, float)) and not any(math.isclose(stated, rate, rel_tol=1e-6) for rate in rates):
        raise broken(
            spec, "build must use the field learning_rate, which tables and captions show",
            f"it is {stated!r} and the groups have {', '.join(map(repr, sorted(rates)))}",
            "Write lr=self.learning_rate, or give the field another name.",
        )  # fmt: skip
    encoder = {id(parameter) for parameter in learner.encoder.parameters()}
    groups = [group for group in built.param_groups if any(id(each) in encoder for each in group["params"])]
    rates = {float(group["lr"]) for group in groups}
    if isinstance(stated, (int, float)) and not any(math.isclose(stated, rate, rel_tol=1e-6) for rate in rates):
        say(spec, f"tables and captions show the rate {stated!r}, but the encoder has {sorted(rates)}")
    left = [
        name for name, parameter in learner.named_parameters() if parameter.requires_grad and id(parameter) not in given
    ]
    if left:
        raise broken(
            spec, "every parameter that requires a gradient must be in a group of the optimizer",
            f"{len(left)} of {len(own)} are in none, among them {left[0]}",
            "Use module.parameters(), or set requires_grad=False on frozen parameters.",
        )  # fmt: skip
