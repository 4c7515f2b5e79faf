"""Stage 1a: labelled clips in, diffusion-made video and audio variants of them out."""
