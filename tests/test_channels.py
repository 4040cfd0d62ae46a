"""Images of one, four and other numbers of channels: storage, checks, and pair grids from end to end."""

import io
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from helpers import SMALL, SMALL_EXPERIMENT, small_training
from PIL import Image
from safetensors.torch import load_file

from ablation.cli import main
from ablation.data import Data, DataSet, ImageData, Shapes, Split, loaded
from ablation.evaluate import Invariance, Probe
from ablation.execution.executor import Job, Work
from ablation.execution.plan import DataChecks
from ablation.execution.store import Results
from ablation.operators import (
    Blur,
    Color,
    ColorDrop,
    ColorJitter,
    Crop,
    CropFlip,
    Cutout,
    Flip,
    Noise,
    Resize,
    Rotate,
    Sobel,
    Solarize,
)  # fmt: skip
from ablation.operators.pipeline import make_views
from ablation.plots.samples import contact_sheet, save_strips, strips
from ablation.spec import DataError, Experiment, InvalidSpec, Run, identity, pairwise

GREY = SMALL.replace(channels=1)
ANY = (Blur(), Crop(), CropFlip(), Cutout(), Flip(), Noise(), Resize(size=12), Rotate(), Sobel(), Solarize())


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ABLATION_CACHE", str(tmp_path / "cache"))


# --------------------------------------------------------------------------------------------------
# Stored images


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    Image.fromarray(pixels).save(held := io.BytesIO(), kind)
    return held.getvalue()


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_folder(place, make, count: int = 8):
    """Two classes of pictures, make(number) their pixels."""
    for number in range(2 * count):
        folder = place / ("ant", "bee")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:02d}.png").write_bytes(encoded(make(number)))
    return place


def write_parquet(place, make, count: int = 80):
    import datasets

    rows = [{"image": {"bytes": encoded(make(i)), "path": None}, "label": i % 2} for i in range(count)]
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["ant", "bee"])}
    place.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_list(rows, features=datasets.Features(kinds)).to_parquet(place)
    return place


def all_images(data: Data) -> torch.Tensor:
    return torch.cat([split.images for split in data.splits().values()])


def sorted_bytes(images) -> list[bytes]:
    return sorted(np.ascontiguousarray(image).tobytes() for image in images)


def test_grey_images_keep_their_values(tmp_path):
    place = write_folder(tmp_path / "set", lambda i: noise(i, 8, 8))
    data = ImageData(path=place, test=0.25, validation=0.25, channels=1).load()
    assert data.channels == 1
    assert data.train.images.shape[1:] == (1, 8, 8)
    assert sorted_bytes(all_images(data).numpy()) == sorted_bytes([noise(i, 8, 8) for i in range(16)])


def test_one_channel_of_a_color_image_is_its_luma(tmp_path):
    place = write_folder(tmp_path / "set", lambda i: noise(i, 8, 8, 3))
    data = ImageData(path=place, test=0.25, validation=0.25, channels=1).load()
    by_hand = [noise(i, 8, 8, 3) @ [0.299, 0.587, 0.114] for i in range(16)]
    for image in all_images(data):
        assert min(np.abs(image[0].numpy() - luma).max() for luma in by_hand) <= 0.51  # rounding


@pytest.mark.parametrize("form", ["folder", "parquet"])
def test_four_channels_are_stored_as_the_file_has_them(tmp_path, form):
    """Keeps colors under transparency: the fourth channel may mean something else."""
    write = write_folder if form == "folder" else write_parquet
    place = write(
        tmp_path / "set" / "train.parquet" if form == "parquet" else tmp_path / "set", lambda i: noise(i, 8, 8, 4), 16
    )
    data = ImageData(path=place, test=0.25, validation=0.25, channels=4).load()
    assert data.train.images.shape[1:] == (4, 8, 8)
    assert data.mean.shape == data.std.shape == (4,)
    count = len(all_images(data))
    expected = [noise(i, 8, 8, 4).transpose(2, 0, 1) for i in range(count)]
    assert sorted_bytes(all_images(data).numpy()) == sorted_bytes(expected)


def test_each_of_four_channels_is_resized_by_itself(tmp_path):
    """If transparency multiplied the colors, black under transparent white would not give grey at half the size."""
    board = np.zeros((8, 8, 4), np.uint8)
    board[:, ::2, :3] = 200  # opaque columns beside transparent black ones
    board[:, ::2, 3] = 100
    place = write_folder(tmp_path / "set", lambda i: np.roll(board, i, 0) + np.uint8(i))
    image = ImageData(path=place, test=0.25, validation=0.25, channels=4, size=4).load().train.images[0]
    inner = image[:, 1:-1, 1:-1].float()
    shift = inner[3].mean() - 50
    torch.testing.assert_close(inner[:3].mean(), 100 + shift, rtol=0, atol=2)


def test_a_fourth_channel_that_shows_nothing_is_refused(tmp_path):
    place = write_folder(tmp_path / "set", lambda i: noise(i, 8, 8, 3))
    for _ in range(2):  # while decoding, and from the cache
        with pytest.raises(DataError, match=r"ImageData\.channels 4: .*is 255 in all training images.*channels=3"):
            ImageData(path=place, test=0.25, validation=0.25, channels=4).load()


def test_dark_images_are_named_also_under_transparency(tmp_path):
    dark = lambda i: np.concatenate([noise(i, 8, 8, 3) // 8, noise(-i - 1 & 255, 8, 8, 1)], 2)  # noqa: E731
    data = ImageData(path=write_folder(tmp_path / "set", dark), test=0.25, validation=0.25, channels=4)
    data.load()
    assert "the brightest value of the 9 training images is 31 of 255" in data.warning


@pytest.mark.parametrize("channels", [1, 4])
def test_channels_are_a_part_of_the_identity_and_have_images_of_their_own(tmp_path, channels):
    place = write_folder(tmp_path / "set", lambda i: noise(i, 8, 8, 4))
    color = ImageData(path=place, test=0.25, validation=0.25)
    other = color.replace(channels=channels)
    assert identity(color) == identity(color.replace(channels=3)) != identity(other)
    assert [each.load().channels for each in (color, other, color, other)] == [3, channels, 3, channels]
    with pytest.raises(InvalidSpec, match=r"ImageData\.channels must be 3 .* or 4 .*but got 2"):
        color.replace(channels=2)


def test_grey_shapes_are_the_luma_of_the_colored_ones():
    one, three = (Shapes(train=40, validation=10, test=10, noise=0, channels=c).load() for c in (1, 3))
    assert one.train.images.shape == (30, 1, 32, 32)
    assert torch.equal(one.train.labels, three.train.labels)
    luma = torch.einsum("nchw,c->nhw", three.train.images.float(), torch.tensor([0.299, 0.587, 0.114]))
    inside = (three.train.images > 0).all(1) & (three.train.images < 255).all(1)  # where no channel was clamped
    assert (one.train.images[:, 0] - luma)[inside].abs().max() <= 1  # two roundings
    assert identity(Shapes()) == identity(Shapes(channels=3)) != identity(Shapes(channels=1))
    with pytest.raises(InvalidSpec, match=r"Shapes\.channels must be 3 .* but got 4"):
        Shapes(channels=4)


# --------------------------------------------------------------------------------------------------
# Operators


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
@pytest.mark.parametrize("operator", ANY, ids=lambda o: o.label)
def test_an_operator_of_any_channels_treats_each_as_it_treats_three(operator, channels):
    """Operators keep repeated channels equal, whatever their number; noise does not."""
    grey = torch.randint(256, (4, 1, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    made, color = (make_views(grey.expand(-1, c, -1, -1), (), ((operator,),), (0,))[0] for c in (channels, 3))
    assert made.shape == (4, channels, *color.shape[2:])
    if not isinstance(operator, Noise):
        torch.testing.assert_close(made, color[:, :1].expand_as(made))


@pytest.mark.parametrize("operator", [Color(), ColorJitter(), ColorDrop()], ids=lambda o: o.label)
@pytest.mark.parametrize("place", ["shared", "views"])
def test_an_operator_of_three_channels_is_refused_when_the_training_is_built(operator, place):
    changes = {"shared": (operator,)} if place == "shared" else {"views": ((Crop(), operator), ())}
    small_training(**changes)
    name = type(operator).__name__
    with pytest.raises(InvalidSpec, match=rf"Training\.{place}.*{name} .*3 channels.*'shapes' has 1.*channels=3"):
        small_training(dataset=GREY, **changes)


def test_an_operator_inside_an_evaluation_is_refused_when_the_run_is_built():
    for evaluation in (Probe(task="color", versions=((), (ColorDrop(),))), Invariance(operators=(Crop(), Color()))):
        Run(training=small_training(), evaluations=(evaluation,))
        with pytest.raises(InvalidSpec, match=r"Run\.evaluations\[0\].*Color.*3 channels.*'shapes' has 1"):
            Run(training=small_training(dataset=GREY), evaluations=(evaluation,))


@dataclass(frozen=True, kw_only=True)
class Bands(DataSet):
    """Six channels, as from a satellite, in an array; the class does not state the number."""

    label = "bands"

    def load(self) -> Data:
        def split(count: int, seed: int) -> Split:
            pixels = torch.from_numpy(noise(seed, count, 6, 16, 16))
            labels = torch.arange(count) % 2
            return Split(pixels // 2 + 60 * labels.byte()[:, None, None, None], labels)

        return Data(train=split(80, 0), validation=split(20, 1), test=split(20, 2), classes=("land", "sea"))


@dataclass(frozen=True, kw_only=True)
class Misstated(Bands):
    channels = 5


def test_where_a_data_set_does_not_state_its_channels_the_images_tell(tmp_path):
    data = loaded(Bands(), "cpu")
    assert data.channels == 6
    assert data.mean.shape == (6,)
    training = small_training(dataset=Bands(), views=((Color(),), ()))
    job = Job(identity(training), (), "", Work(training, ()))
    with pytest.raises(InvalidSpec, match=r"Color .*3 channels.*'bands' has 6"):
        DataChecks(Results(tmp_path)).check([job], [])


def test_a_data_set_that_states_other_channels_than_it_has_is_refused():
    with pytest.raises(DataError, match=r"Misstated .*images of 5 channels.*they have 6.*channels = 6"):
        loaded(Misstated(), "cpu")


# --------------------------------------------------------------------------------------------------
# From end to end


def run_grid(dataset: str, operators: str, place, folder) -> dict[str, torch.Tensor]:
    """Runs a pair grid; the weights of one of its encoders."""
    place(
        SMALL_EXPERIMENT
        + f"""
from ablation import ImageData, Resize

def experiment(scale):
    scale = small(scale).replace(dataset={dataset})
    cells = pairwise({operators}, lambda view: scale.run(scale.simclr(), views=(view, ())), seeds=[0])
    return Experiment(cells=cells, figures={{"heatmap": Heatmap(rows="first", columns="second")}})
"""
    )
    assert main(["run", str(folder / "question.py"), "--workers", "1", "--results", str(folder / "results"),
                 "--figures", str(folder / "figures")]) == 0  # fmt: skip
    assert list((folder / "figures").glob("question-*-heatmap.png"))
    return load_file(next((folder / "results").glob("*/encoder.safetensors")))


def test_a_pair_grid_of_grey_shapes(place, tmp_path):
    dataset = "Shapes(train=140, validation=40, test=60, size=16, channels=1)"
    weights = run_grid(dataset, "(Crop(), Sobel())", place, tmp_path)
    assert weights["conv1.weight"].shape == (4, 1, 3, 3)


def test_a_pair_grid_of_a_parquet_file_of_four_channels(place, tmp_path):
    path = write_parquet(
        tmp_path / "set" / "train.parquet", lambda i: noise(i, 12, 12, 4) // 2 + np.uint8(60 * (i % 2))
    )
    dataset = f"ImageData(path={str(path)!r}, test=0.25, validation=0.25, channels=4)"
    weights = run_grid(dataset, "(Crop(), Blur())", place, tmp_path)
    assert weights["conv1.weight"].shape == (4, 4, 3, 3)


def test_a_refused_operator_ends_the_command_with_a_sentence(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(place(SMALL_EXPERIMENT + """
def experiment(scale):
    scale = small(scale).replace(dataset=Shapes(train=140, validation=40, test=60, size=16, channels=1))
    make = lambda view: scale.run(scale.simclr(), views=(view, ()))
    return Experiment(cells=pairwise((Crop(), scale.color()), make, seeds=[0]), figures={})
"""))  # fmt: skip
    assert main(["run", "question.py"]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    for word in ("Color", "3 channels", "has 1", "Remove the operator"):
        assert word in said


@pytest.mark.parametrize(("dataset", "channels"), [(GREY, 1), (Bands(), 6)], ids=["1", "6"])
def test_previews_show_any_number_of_channels(dataset, channels, tmp_path):
    make = lambda view: Run(training=small_training(dataset=dataset, views=(view, ())), evaluations=())  # noqa: E731
    experiment = Experiment(cells=pairwise((Crop(), Sobel()), make, seeds=[0]), figures={})
    shown = strips(experiment)
    assert [view.images.shape[1:] for strip in shown for view in strip.views] == [(channels, 16, 16)] * 4
    assert all(path.stat().st_size > 1000 for path in save_strips(experiment, tmp_path / "views"))
    assert len(contact_sheet(experiment, 3).axes) == 3 * 4
