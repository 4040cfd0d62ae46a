"""Hyper-parameter search with Optuna: on validation images only, resumable, by several workers and machines."""

from ablation.search.spec import Search

__all__ = ["Search"]
