"""Stage 2: a multimodal language model learns to rate sentiment, each row counting as much as its weight."""
