"""The Hugging Face Hub: pushing a store there as a dataset repository."""
