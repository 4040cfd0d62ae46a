"""`ablation export`: the encoder of a run in one file, for use elsewhere."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from safetensors.torch import load, save

from ablation.execution.documents import an_id
from ablation.execution.store import Results
from ablation.spec import InvalidSpec, StorageError
from ablation.system.files import write_file

FEATURES = {
    "ResNet": "h, the mean of the last layer over places, before torchvision's fc, which is not part of it",
    "SmallResNet": "h, the mean of the last layer over places",
    "mean": "h, the mean of the last layer over patches",
    "class": "h, the class token of the last layer",
}


def export(options: argparse.Namespace) -> int:
    """Writes safetensors, for a ResNet with torchvision's names; the metadata has run, classes and normalization."""
    results = Results(options.results)
    training_id = _chosen(results, options.run)
    document, wrong = results.training(training_id)
    content, also_wrong = results.content(training_id, "encoder.safetensors")
    if document is None or content is None:
        raise InvalidSpec(
            f"RUN must be a finished training, but {training_id} is not: {wrong or also_wrong or 'it has no files'}. "
            f"{f'Remove {results.folder(training_id)}, and run' if also_wrong else 'Run'} its experiment again."
        )
    path = Path(options.to or f"encoder-{training_id}.safetensors")
    if path.suffix != ".safetensors":
        raise InvalidSpec(f"--to must be FILE.safetensors, but got {options.to!r}.")
    encoder = document["training"].get("encoder", {})
    kind = encoder["type"] if encoder.get("type") in FEATURES else encoder.get("pool")
    metadata = {
        "format": "pt",
        "training_id": training_id,
        "training": json.dumps(document["training"]),
        "classes": json.dumps(document["classes"]),
        # (x - mean) / std of images in [0, 1], per channel, as in training
        "normalization": json.dumps(document["normalization"]),
        "features": FEATURES.get(kind, "h, the output of the encoder"),
    }
    try:
        write_file(path, save(load(content), metadata))
    except OSError as error:
        raise StorageError(
            f"--to must be a writable file, but {path} is not: {error.strerror}. Name another: --to FILE."
        ) from error
    print(path)
    print(f"{encoder.get('type')} of {training_id}: {json.dumps(encoder)}; normalization {metadata['normalization']}")
    if encoder.get("type") == "ResNet" and encoder.get("stem") != "cifar" and encoder.get("width", 1) == 1:
        print(
            f"torchvision: model = resnet{encoder['depth']}(); model.fc = torch.nn.Identity(); "
            f'model.load_state_dict(safetensors.torch.load_file("{path}"))'
        )
    return 0


def _chosen(results: Results, beginning: str) -> str:
    """The one training id with this beginning."""
    ids = []
    if re.fullmatch("[0-9a-f]{1,12}", beginning):
        ids = [path.parent.name for path in results.root.glob(f"{beginning}*/training.json")]
        ids = [name for name in ids if an_id(name)]  # not a copy beside it, ID.bak
    if len(ids) != 1:
        raise InvalidSpec(
            f"RUN must be the beginning of one training id in {results.root}/, but {beginning!r} fits {len(ids)}. "
            "The column `training` of an experiment's table has the ids."
        )
    return ids[0]
