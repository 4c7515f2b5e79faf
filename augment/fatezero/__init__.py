"""FateZero: a clip is inverted, then denoised to another prompt by the attention of its own inversion."""

from augment.fatezero.pipeline import FateZeroPipeline as FateZeroPipeline
