"""Experiment files, and scales (data, encoder, budget)."""

from ablation.study.scales import Scale

__all__ = ["Scale"]
