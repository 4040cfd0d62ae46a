import signal
from pathlib import Path

import matplotlib
import pytest
import torch

matplotlib.use("Agg")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a script's background job; tests interrupt their processes
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _a_cache_of_the_tests_own(tmp_path_factory):
    """Subprocesses inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABLATION_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _one_thread_and_no_hidden_randomness():
    """Tests share two cores and must not depend on the global random state."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def images() -> torch.Tensor:
    """(8, 3, 32, 32) in [0, 1], with structure at several scales."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.nn.functional.interpolate(torch.rand(8, 3, 6, 6, generator=generator), size=32, mode="bilinear")
    return (0.7 * coarse + 0.3 * torch.rand(8, 3, 32, 32, generator=generator)).clamp(0, 1)


@pytest.fixture
def place(tmp_path):
    def write(code: str, name: str = "question") -> Path:
        (tmp_path / f"{name}.py").write_text(code)
        return tmp_path

    return write


@pytest.fixture
def no_files(monkeypatch):
    """Pictures of one's own table are drawn and not written, for tests of what is said about it."""
    monkeypatch.setattr("ablation.commands.plot_csv.save", lambda *_: [])


@pytest.fixture
def no_pictures(no_files, monkeypatch):
    """Nor drawn."""
    monkeypatch.setattr("ablation.commands.plot_csv.Heatmap.draw", lambda *_: None)
