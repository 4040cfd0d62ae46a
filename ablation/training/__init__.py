"""The training loop, checkpoints, optimizers and compilation."""
