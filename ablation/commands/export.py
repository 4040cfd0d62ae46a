"""`ablation export`: the encoder of a run in one file, for use elsewhere."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from safetensors.torch import load, save

from ablation.documents import an_id
from ablation.files import write_file
from ablation.results import Results
from ablation.specs import InvalidSpec


def export(options: argparse.Namespace) -> int:
    """Writes safetensors with torchvision's parameter names, and in its metadata what one needs to use them."""
    results = Results(options.results)
    training_id = _chosen(results, options.run)
    document, wrong = results.training(training_id)
    content, also_wrong = results.content(training_id, "encoder.safetensors")
    if document is None or content is None:
        raise InvalidSpec(
            f"RUN must be a finished training, but {training_id} is not: {wrong or also_wrong or 'nothing is there'}. "
            f"{f'Remove {results.folder(training_id)}, and run' if also_wrong else 'Run'} its experiment again."
        )
    path = Path(options.to or f"encoder-{training_id}.safetensors")
    if path.suffix != ".safetensors":
        raise InvalidSpec(f"--to must be FILE.safetensors, but got {options.to!r}.")
    metadata = {
        "format": "pt",
        "training_id": training_id,
        "training": json.dumps(document["training"]),
        "classes": json.dumps(document["classes"]),
        # (x - mean) / std of images in [0, 1], per channel, as in training
        "normalization": json.dumps(document["normalization"]),
        "features": "h, the mean of the last layer over places, before torchvision's fc, which is not part of it",
    }
    try:
        write_file(path, save(load(content), metadata))
    except OSError as error:
        raise InvalidSpec(
            f"--to must be a file that can be written, but {path} cannot: {error.strerror}. Name another: --to FILE."
        ) from error
    encoder = document["training"].get("encoder", {})
    print(path)
    print(f"{encoder.get('type')} of {training_id}: {json.dumps(encoder)}; normalization {metadata['normalization']}")
    if encoder.get("type") == "ResNet" and encoder.get("stem") != "cifar" and encoder.get("width", 1) == 1:
        print(
            f"torchvision: model = resnet{encoder['depth']}(); model.fc = torch.nn.Identity(); "
            f'model.load_state_dict(safetensors.torch.load_file("{path}"))'
        )
    return 0


def _chosen(results: Results, asked: str) -> str:
    """The training id that begins with `asked`."""
    found = []
    if re.fullmatch("[0-9a-f]{1,12}", asked):
        found = [path.parent.name for path in results.root.glob(f"{asked}*/training.json")]
        found = [name for name in found if an_id(name)]  # not a copy beside it, ID.bak
    if len(found) != 1:
        raise InvalidSpec(
            f"RUN must be the beginning of one training id in {results.root}/, but {asked!r} fits {len(found)}. "
            "They are in the column `training` of an experiment's table."
        )
    return found[0]
