"""A version stands for its numbers: a changed computation has another version, and so another id."""

import json

import pytest
from versions import FILE, decoded, default_ids, entries, split_and_ordered

KEPT = json.loads(FILE.read_bytes())
CURE = "raise its class's version, then run: python tests/versions.py"


@pytest.mark.parametrize(
    ("kind", "spec", "version", "compute", "tolerance"), [pytest.param(*each, id=each[1]) for each in entries()]
)
def test_numbers_change_only_with_the_version(kind, spec, version, compute, tolerance):
    assert spec in KEPT[kind], f"{spec} has no numbers yet: python tests/versions.py"
    kept, *numbers = KEPT[kind][spec]
    assert version == kept, f"{spec} has another version: python tests/versions.py"
    assert compute() == pytest.approx(numbers, rel=1e-5, abs=tolerance), f"{spec} computes other numbers: {CURE}"


def test_images_are_decoded_otherwise_only_with_the_version():
    assert decoded() == KEPT["decoding"], "images are decoded to other pixels: raise ImageData.version, then run: " + (
        "python tests/versions.py"
    )


def test_images_are_split_and_ordered_otherwise_only_with_the_version():
    cure = (
        "images of a folder are in other splits or orders: raise ImageData.version, then run: python tests/versions.py"
    )
    assert split_and_ordered() == KEPT["splits"]["of a folder"], cure


def test_ids_change_only_with_what_is_computed():
    """They contain every default and every version."""
    assert default_ids() == KEPT["ids"]


def test_everything_of_ours_has_numbers():
    """Covers every importable operator, objective, method, encoder, optimizer, schedule and evaluation."""
    import ablation.evaluate
    import ablation.methods
    import ablation.models
    import ablation.operators
    import ablation.spec
    import ablation.training.optimizers
    from ablation.operators import Operator
    from ablation.spec import Spec

    rooms = (ablation.operators, ablation.methods, ablation.models, ablation.evaluate, ablation.training.optimizers)
    classes = {c for room in rooms for c in vars(room).values() if isinstance(c, type) and issubclass(c, Spec)}
    classes |= {c for c in vars(ablation.spec).values() if hasattr(c, "factor")}  # schedules
    bases = {Spec, Operator, ablation.methods.Method, ablation.evaluate.base.Evaluation}
    named = {spec.partition("(")[0] for kind in KEPT.values() for spec in kind}
    assert {c.__name__ for c in classes - bases} <= named | {"Initialization", "FromKornia"}  # see test_kornia.py
