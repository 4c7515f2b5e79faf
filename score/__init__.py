"""Stage 1b: how far each variant can be trusted, judged against its own source."""
