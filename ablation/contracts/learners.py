"""Checks of the contracts of encoders and methods (methods/base.py)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

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
from ablation.contracts.optimizers import check_optimizer
from ablation.contracts.steps import check_steps, content, first_batch
from ablation.data import Data
from ablation.methods import Learner
from ablation.models.encoder import build_encoder
from ablation.operators.pipeline import normalize
from ablation.spec import Training
from ablation.spec.metric import OF_A_LOSS, is_reserved
from ablation.spec.randomness import global_draws_at


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


STATED_BY_METHODS = ("branches", "least", "multi_crop", "annotations", "masked", "metrics", "needs_labels")


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
    views, labels, beside = first_batch(training, data)
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
        check_optimizer(training.optimization.optimizer, learner)
    if method.trains:
        check_steps(training, build, views, labels, beside)


def _check_parts(training: Training, learner: Learner) -> None:
    """A Learner with an encoder and a head, which evaluates two modules whose weights can be saved."""
    method = training.method
    if not isinstance(learner, Learner):
        raise broken(
            method, "build(encoder, classes) must return a Learner", f"returned {shown(learner)}",
            "Let the module inherit from ablation.methods.Learner.",
        )  # fmt: skip
    for name in STATED_BY_METHODS:
        if name in vars(type(learner)):
            raise broken(
                method, f"the method's class must state {name!r}", f"its learner {type(learner).__name__} does",
                f"Move the line to the class {type(method).__name__}.",
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
            built.append([content(each) for each in weights if isinstance(each, Tensor) and each.ndim > 1])
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
        h = encoder(clean)
        _check_matrix(spec, "the evaluated encoder", h, len(clean), None)
        try:
            z = learner.project(clean)
        except Exception as error:
            raise broken(
                spec, "project must map images to z", f"head(encoder(images)) failed ({error})",
                f"The encoder gives {h.shape[1]} features: write mlp(encoder.features, ...), say.",
            ) from error  # fmt: skip
        _check_matrix(spec, "project", z, len(clean), None)


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
