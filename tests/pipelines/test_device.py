"""Where a stage computes, and in what, on machines that this one is not: CUDA is stood in for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipelines import whole_run
from pipelines.device import check_bfloat16, has_bfloat16, pick, summing_dtype
from pipelines.errors import UsageError
from tests.gpus import pretend_gpus

ROOT = Path(__file__).resolve().parents[2]
DOUBLE = {"float64", "double"}
# Where torch's float64 may stand, and why no MPS device sees it.
ON_THE_CPU = {
    "augment/voice_conversion/pitch.py": "contours come from a tracker on the CPU",
    "finetune/inputs/audio_in_video.py": "times of tokens, computed where rows are encoded",
    "finetune/model/head_init.py": "ridge gets what was read off the model, on the CPU",
    "finetune/tower_cache/frozen_towers.py": "a clip's frame rate, kept on the CPU",
    "pipelines/device.py": "tells who may have it",
}


@pytest.mark.parametrize(("rank", "wanted"), [("0", "cuda:0"), ("2", "cuda:2"), ("5", "cuda:1")])
def test_each_process_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch, rank: str, wanted: str) -> None:
    """Whether it is left to choose or told to take a GPU."""
    pretend_gpus(monkeypatch, 4)
    monkeypatch.setenv("LOCAL_RANK", rank)
    assert pick("auto") == pick("cuda") == wanted


@pytest.mark.parametrize("value", ["true", "True", "1"])
def test_a_launch_on_the_cpu_stays_there(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """accelerate launch --cpu sets the variable; `daq-msa run` then starts no process a GPU."""
    pretend_gpus(monkeypatch, 2)
    monkeypatch.setenv("ACCELERATE_USE_CPU", value)
    assert pick("auto") == pick("cpu") == "cpu"
    assert whole_run._gpus() == 0
    with pytest.raises(UsageError, match=r"device: got 'cuda', and accelerate was told .* CPU .*; take auto"):
        pick("cuda")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")
    assert pick("auto") == "cuda:0"


@pytest.mark.parametrize(
    ("capability", "has"), [((7, 0), False), ((7, 5), False), ((8, 0), True), ((9, 0), True), ((12, 0), True)]
)
def test_bfloat16_is_asked_of_gpus_that_have_it(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], has: bool
) -> None:
    pretend_gpus(monkeypatch, 1, capability)
    assert has_bfloat16("cuda:0") is has
    assert has_bfloat16("cpu")
    if has:
        check_bfloat16("key: got bfloat16", "cuda:0", "float32")
    else:
        with pytest.raises(
            UsageError, match=r"key: got bfloat16, and cuda:0 \(Pretended\) does not .*float32"
        ):
            check_bfloat16("key: got bfloat16", "cuda:0", "float32")


def test_sums_are_in_the_longest_type_that_a_device_has() -> None:
    assert summing_dtype("mps") == summing_dtype(torch.device("mps:0")) == torch.float32
    assert summing_dtype("cpu") == summing_dtype("cuda:1") == torch.float64


def test_no_other_code_makes_tensors_in_float64() -> None:
    """MPS has no such type; what sums on a device asks `summing_dtype`."""
    files = {
        str(path.relative_to(ROOT))
        for package in ("augment", "score", "finetune", "pipelines")
        for path in (ROOT / package).rglob("*.py")
        if any(_doubles(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert files == set(ON_THE_CPU)


def _doubles(tree: ast.AST) -> Iterator[ast.AST]:
    """`torch.float64`, `torch.double` and `x.double()`; numpy's are others."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or node.attr not in DOUBLE:
            continue
        of_torch = isinstance(node.value, ast.Name) and node.value.id == "torch"
        if of_torch or node.attr == "double":
            yield node
