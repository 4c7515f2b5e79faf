"""What the fusion model costs, and what each of its losses gains."""
