"""Stage 1a: makes video and audio variants of labelled clips, by diffusion and voice conversion."""
