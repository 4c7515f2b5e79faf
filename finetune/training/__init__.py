"""What is ours around transformers' Trainer: the weighted loss, validation, logs, checkpoints by schedule."""
