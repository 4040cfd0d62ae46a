"""Checks that a user's classes keep their contracts, on a first batch.

The suite's tests cover our own classes. Every run checks classes from a user's file before its first step, and so do
`--dry-run` and `preview`: an operator that leaves [0, 1] or has its own random numbers would train without any error,
and its results could not be reproduced. `trace` keeps a few of their numbers beside results, for later runs. All errors
are InvalidSpec: class, rule, observation, cure.
"""
