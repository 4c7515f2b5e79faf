"""`ChatterboxVC` as far as a caller sees it.

What it makes is the source at 24 kHz and the reference's loudness, in whole tokens of 40 ms, with a little
noise that torch's seed decides. `MARKED` makes it a release that sets a watermark, here a constant;
`BEHAVIOUR` makes it err.
"""

from pathlib import Path

import torch

from pipelines import media

MARKED = False
BEHAVIOUR = "convert"
LOADED: list[tuple[str, str]] = []
MARK = 0.01
TOKEN = 960


class Watermarker:
    def apply_watermark(self, wav, watermark=None, sample_rate=44_100):
        assert sample_rate == 24_000
        return wav + MARK


class ChatterboxVC:
    def __init__(self, device):
        self.sr, self.device = 24_000, device
        if MARKED:
            self.watermarker = Watermarker()

    @classmethod
    def from_local(cls, ckpt_dir, device):
        if not (Path(ckpt_dir) / "s3gen.safetensors").is_file():
            raise FileNotFoundError(f"No such file or directory: {ckpt_dir}/s3gen.safetensors")
        LOADED.append((str(ckpt_dir), device))
        return cls(device)

    @classmethod
    def from_pretrained(cls, device):
        LOADED.append(("the Hub", device))
        return cls(device)

    def generate(self, audio, target_voice_path=None):
        source = torch.from_numpy(media.read_audio(Path(audio), sampling_rate=self.sr))
        target = torch.from_numpy(media.read_audio(Path(target_voice_path), sampling_rate=self.sr))
        whole = source[: max(1, len(source) // TOKEN) * TOKEN]
        made = whole * (target.std() / whole.std()) + 1e-3 * torch.randn(len(whole))
        if BEHAVIOUR == "nan":
            made[3] = torch.nan
        if BEHAVIOUR == "crash":
            raise RuntimeError("CUDA out of memory")
        if hasattr(self, "watermarker"):
            marked = self.watermarker.apply_watermark(made.numpy(), sample_rate=self.sr)
            made = torch.from_numpy(marked)
        return made[None]
