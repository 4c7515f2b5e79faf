"""FateZero: inverts a clip, then denoises it to another prompt with the attention of the inversion."""

from augment.fatezero.pipeline import FateZeroPipeline as FateZeroPipeline
