"""A stopped training resumes as if it had never stopped."""

import errno
import os
import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from helpers import SMALL, small_training

from ablation.data import loaded
from ablation.methods import BarlowTwins, SimCLR
from ablation.methods.base import mlp
from ablation.methods.simclr import SimCLRLearner
from ablation.operators import Blur, Crop, Noise
from ablation.spec import Optimization, identity
from ablation.training.checkpoint import Checkpoint, forget, how_far
from ablation.training.loop import compute_gradients, pretrain
from ablation.training.optimizers import LARS, SGD, AdamW

EPOCH = 100 // 16  # steps on the images without those for validation
STEPS = 4 * EPOCH
TOGETHER = 2  # batches whose views are computed together; checkpoints fall between such groups


@pytest.fixture(autouse=True)
def groups(monkeypatch):
    monkeypatch.setattr("ablation.training.views.TOGETHER", TOGETHER * 16)


def kept(step: int) -> int:
    """The step of the last checkpoint, if one is due after every step."""
    return step - step % EPOCH % TOGETHER


def training(optimizer, **changes):
    optimization = Optimization(epochs=4, batch=16, optimizer=optimizer, curve_every=2)
    return small_training(optimization=optimization, views=((Crop(), Noise(), Blur()), (Crop(),)), **changes)


class Stopped(Exception):
    pass


def stopped_after(step: int, of, folder) -> None:
    """Trains with a checkpoint after every group of batches, then stops."""

    def progress(fraction):
        if round(fraction * STEPS) == step + 1:  # the checkpoint of `step` is the last one written
            raise Stopped

    with pytest.raises(Stopped):
        pretrain(of, loaded(SMALL, "cpu"), progress, checkpoint=Checkpoint(folder, identity(of), every=0))


@pytest.mark.parametrize("step", [2, 5, 6, 17, STEPS - 1])
@pytest.mark.parametrize(
    "asked",
    [
        training(AdamW(learning_rate=1e-3)),
        training(SGD(learning_rate=1e-2), method=BarlowTwins(hidden=16, dimension=8)),
        training(LARS(learning_rate=0.1)),
    ],
    ids=["AdamW", "SGD", "LARS"],
)
def test_a_stopped_training_continues_bit_for_bit(asked, step, tmp_path):
    """Weights, running statistics and curve; stopped within an epoch, at its end, among batches
    whose views are made together."""
    whole = pretrain(asked, loaded(SMALL, "cpu"))
    stopped_after(step, asked, tmp_path)
    rest = []
    continued = pretrain(
        asked,
        loaded(SMALL, "cpu"),
        lambda fraction: rest.append(round(fraction * STEPS)),
        checkpoint=Checkpoint(tmp_path, identity(asked), every=1000),
    )
    assert rest[:2] == [kept(step), kept(step) + 1]
    assert [sitting["from_step"] for sitting in continued.sittings] == [0, kept(step)]
    assert continued.history == whole.history
    for name, tensor in whole.learner.state_dict().items():
        assert torch.equal(continued.learner.state_dict()[name], tensor), name


@dataclass(frozen=True, kw_only=True)
class Dropping(SimCLR):
    """SimCLR whose loss draws from torch's global generator, as dropout and masks do."""

    label = "dropping"

    def build(self, encoder, classes):
        learner = super().build(encoder, classes)
        learner.head = torch.nn.Sequential(torch.nn.Dropout(0.5), learner.head)
        return learner


def test_draws_inside_a_loss_have_an_address(tmp_path):
    """The same whatever was drawn before, and after resuming within an epoch; restores the global state."""
    asked = training(AdamW(learning_rate=1e-3), method=Dropping(hidden=16, dimension=8))
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(pretrain(asked, loaded(SMALL, "cpu")))
        after = torch.rand(3)
        torch.manual_seed(seed)
        assert torch.equal(torch.rand(3), after)
    assert found[0].history == found[1].history
    stopped_after(9, asked, tmp_path)
    torch.manual_seed(3)
    continued = pretrain(asked, loaded(SMALL, "cpu"), checkpoint=Checkpoint(tmp_path, identity(asked), every=1000))
    for name, tensor in found[0].learner.state_dict().items():
        assert torch.equal(continued.learner.state_dict()[name], tensor), name
    assert continued.history == found[0].history
    without = pretrain(asked.replace(method=SimCLR(hidden=16, dimension=8)), loaded(SMALL, "cpu"))
    assert without.history != found[0].history  # dropout has an effect


class Restless(SimCLRLearner):
    """Draws in every way after each step."""

    def after_step(self, progress):
        draw = torch.rand(()).item() + np.random.rand() + random.random()
        with torch.no_grad():
            self.head[-1].bias.add_(1e-3 * draw)


@dataclass(frozen=True, kw_only=True)
class AfterStep(SimCLR):
    """SimCLR with Restless."""

    label = "after step"

    def build(self, encoder, classes):
        return Restless(encoder, mlp(encoder.features, self.hidden, self.dimension), self.batch_norm, self.objective)


def test_draws_after_a_step_have_an_address_too():
    """The states of torch, NumPy and Python."""
    asked, found = training(AdamW(learning_rate=1e-3), method=AfterStep(hidden=16, dimension=8)), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        found.append(pretrain(asked, loaded(SMALL, "cpu")).learner.state_dict())
        after = np.random.rand(), random.random()
        np.random.seed(seed)
        random.seed(seed)
        assert (np.random.rand(), random.random()) == after
    assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())


def test_each_step_has_draws_of_its_own(monkeypatch):
    """And per seed."""
    drawn = []

    def draw(*arguments):
        drawn.append(torch.rand(4).tolist())
        return compute_gradients(*arguments)

    monkeypatch.setattr("ablation.training.loop.compute_gradients", draw)
    for seed in (0, 1):
        pretrain(training(AdamW(learning_rate=1e-3), seed=seed), loaded(SMALL, "cpu"))
    assert len(drawn) == len(set(map(tuple, drawn))) == 2 * STEPS


def test_stopped_many_times(tmp_path):
    asked = training(AdamW(learning_rate=1e-3))
    for step in (3, 4, 11, 20):
        stopped_after(step, asked, tmp_path)
    continued = pretrain(asked, loaded(SMALL, "cpu"), checkpoint=Checkpoint(tmp_path, identity(asked), every=1000))
    assert [sitting["from_step"] for sitting in continued.sittings] == [0, *map(kept, (3, 4, 11, 20))]
    assert continued.history == pretrain(asked, loaded(SMALL, "cpu")).history


def test_how_far_a_training_is(tmp_path):
    """Six steps per epoch; reads only the file's first lines."""
    asked = training(AdamW(learning_rate=1e-3))
    assert how_far(tmp_path, identity(asked)) is None
    for step, said in ((5, "epoch 1 of 4"), (6, "epoch 2 of 4"), (STEPS - 1, "epoch 4 of 4")):
        stopped_after(step, asked, tmp_path)
        assert how_far(tmp_path, identity(asked)) == said
    [path] = tmp_path.iterdir()
    path.write_bytes(b"ablation checkpoint 0" + path.read_bytes()[21:])
    assert how_far(tmp_path, identity(asked)) is None


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncated, "it is truncated or damaged"),
        (flipped, "it is truncated or damaged"),
        (lambda content: b"", "another format"),
        (lambda content: b"ablation checkpoint 0" + content[21:], "another format"),
    ],
    ids=["truncated", "flipped", "empty", "other version"],
)
def test_a_damaged_checkpoint_is_not_continued(damage, words, tmp_path, capsys):
    asked = training(AdamW(learning_rate=1e-3))
    stopped_after(9, asked, tmp_path)
    [path] = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    trained = pretrain(asked, loaded(SMALL, "cpu"), checkpoint=Checkpoint(tmp_path, identity(asked), every=1000))
    assert words in capsys.readouterr().err
    assert trained.history == pretrain(asked, loaded(SMALL, "cpu")).history
    assert len(trained.sittings) == 1


def test_a_checkpoint_of_another_training_is_not_continued(tmp_path, capsys):
    asked, other = training(AdamW(learning_rate=1e-3)), training(AdamW(learning_rate=2e-3))
    stopped_after(9, other, tmp_path)
    [path] = tmp_path.iterdir()
    path.rename(path.with_name(f"{identity(asked)}.checkpoint"))
    pretrain(asked, loaded(SMALL, "cpu"), checkpoint=Checkpoint(tmp_path, identity(asked), every=1000))
    assert "another training" in capsys.readouterr().err


def test_nothing_is_unpickled(tmp_path, capsys):
    """Refuses a file that would run code on unpickling, even with the right digest."""
    import hashlib
    import io

    from ablation.training.checkpoint import HEAD

    ran = tmp_path / "ran"

    class Code:
        def __reduce__(self):
            return os.mkdir, (str(ran),)

    payload = io.BytesIO()
    torch.save({"training_id": "0" * 12, "step": Code()}, payload)
    path = tmp_path / f"{'0' * 12}.checkpoint"
    path.write_bytes(HEAD + b"epoch 1 of 1\n" + hashlib.sha256(payload.getvalue()).digest() + payload.getvalue())
    assert Checkpoint(tmp_path, "0" * 12, every=1).read(torch.device("cpu")) is None
    assert "(UnpicklingError" in capsys.readouterr().err
    assert not ran.exists()


def test_a_training_outlives_a_checkpoint_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    asked = training(AdamW(learning_rate=1e-3))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    trained = pretrain(asked, loaded(SMALL, "cpu"), checkpoint=Checkpoint(tmp_path, identity(asked), every=0))
    assert "([Errno 28] No space left on device); the training continues" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert trained.history == pretrain(asked, loaded(SMALL, "cpu")).history


def test_forgotten_with_what_was_left_unfinished(tmp_path):
    for name in ("a.checkpoint", ".a.checkpoint.host.1.part", "b.checkpoint", ".b.checkpoint.host.1.part"):
        (tmp_path / name).touch()
    forget(tmp_path, "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.checkpoint.host.1.part", "b.checkpoint"]
