"""What a training step costs, and what each kind of variants and weights gains."""
