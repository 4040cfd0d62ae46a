"""The shipped experiments as a package: `from ablation.experiments.pairwise import experiment`.

In the repository they are beside `ablation`, in an installed wheel inside it.
"""

from pathlib import Path

_INSIDE = Path(__file__).with_suffix("")
__path__ = [str(_INSIDE if _INSIDE.is_dir() else _INSIDE.parent.parent / "experiments")]
