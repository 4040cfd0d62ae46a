"""Hyper-parameter search with Optuna: on validation images only, resumable, with the executors of `ablation run`.

spec         `Search`: search space and objective
session      one call: the file, its cases and budgets, its studies
study        the question and the trials of a study; storage: SQLite or PostgreSQL
queue        trials as jobs: asks Optuna for settings, tells it the means
load         the searches of a file, and the run of a trial
checks       of runs against their images, before each of them
holdout      the best settings against the default, with fresh seeds, on test images
tables       trials and importances; cost: the missing ones
console, status                  lines for a terminal, and for `ablation status`
"""

from ablation.search.spec import Search

__all__ = ["Search"]
