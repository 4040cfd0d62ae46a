"""Specs: frozen descriptions of computations, their identities, and grids of them. No torch.

base           a spec: fields, rules, messages
errors         errors that the user can cure, by kind
identity       its description as JSON values, and the id computed from them
user_code      the digest of a user's class, a part of the id
code_used      what a class uses of its own file
schedule       learning rates over a training
compatibility  whether operators, method and evaluations fit the images' channels and labels
run            training, evaluations, run
grid           cells, experiments, pairwise grids and sweeps
metric         columns of numbers: names, labels, units
randomness     the address of every random number (imports torch)
"""

from ablation.spec.base import CONTROL, FORMAT, Spec, added_later, outside_identity, plain
from ablation.spec.code_used import imported_names
from ablation.spec.compatibility import check_fit, operators_in, stated, stated_channels, stated_labels
from ablation.spec.errors import AblationError, DataError, InvalidSpec, StorageError, UserCodeError, WorkerError
from ablation.spec.grid import COMPUTED, Cell, Experiment, check_labels, pairwise, sweep, written
from ablation.spec.identity import (
    canonical_json,
    content_of,
    contents_read_once,
    describe,
    identity,
    identity_of_description,
)
from ablation.spec.metric import HEADLINE, Measures, Metric, measures_of
from ablation.spec.run import PRECISIONS, Optimization, Run, Training, check_sizes, view_label
from ablation.spec.schedule import Constant, Cosine, Steps
from ablation.spec.user_code import EXPERIMENT, is_ours, source_digest

__all__ = [
    "COMPUTED",
    "CONTROL",
    "EXPERIMENT",
    "FORMAT",
    "HEADLINE",
    "PRECISIONS",
    "AblationError",
    "Cell",
    "Constant",
    "Cosine",
    "DataError",
    "Experiment",
    "InvalidSpec",
    "Measures",
    "Metric",
    "Optimization",
    "Run",
    "Spec",
    "Steps",
    "StorageError",
    "Training",
    "UserCodeError",
    "WorkerError",
    "added_later",
    "canonical_json",
    "check_fit",
    "check_labels",
    "check_sizes",
    "content_of",
    "contents_read_once",
    "describe",
    "identity",
    "identity_of_description",
    "imported_names",
    "is_ours",
    "measures_of",
    "operators_in",
    "outside_identity",
    "pairwise",
    "plain",
    "source_digest",
    "stated",
    "stated_channels",
    "stated_labels",
    "sweep",
    "view_label",
    "written",
]
