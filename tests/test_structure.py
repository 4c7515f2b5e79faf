"""The public names stay where they are, and every room stays small enough to be searched by eye."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("augment", "score", "finetune", "pipelines", "benchmarks")
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
MODULES_IN_A_FOLDER = {"pipelines": 28, "score/signals": 20}
"""More than the 14 that every other folder may hold."""

PUBLIC = {
    "augment.fatezero": ("FateZeroPipeline",),
    "augment.voice_conversion": ("VoiceConversionPipeline",),
    "score.weights": ("weights",),
    "score.calibrate": ("calibrate",),
    "finetune.msa_metrics": ("mosi", "sims", "mustard"),
    "finetune.objective": ("weighted_mean",),
    "finetune.fusion.conflict": ("ConflictPenalty",),
    "finetune.fusion.statistics": ("statistical_loss",),
    "pipelines.store": ("open_store",),
    "pipelines.media": ("read_video", "read_audio", "encode_video", "encode_audio"),
}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_imported_from_where_they_were(module: str) -> None:
    imported = importlib.import_module(module)
    for name in PUBLIC[module]:
        assert callable(getattr(imported, name))


@pytest.mark.parametrize("command", ["augment", "score", "finetune", "finetune.fusion"])
def test_help_waits_for_no_numpy_and_no_torch(command: str) -> None:
    program = (
        "import runpy, sys\n"
        f"sys.argv = ['{command}', '--help']\n"
        f"try: runpy.run_module('{command}', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end: assert not end.code, end\n"
        "slow = {'torch', 'numpy'} & {*sys.modules}\n"
        "assert not slow, f'imported {slow}'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_no_folder_is_crowded() -> None:
    folders = {file.parent for file in FILES}
    counts = {folder.relative_to(ROOT).as_posix(): len(list(folder.glob("*.py"))) for folder in folders}
    assert {
        folder: count for folder, count in counts.items() if count > MODULES_IN_A_FOLDER.get(folder, 14)
    } == {}


def test_no_module_and_no_function_is_long() -> None:
    long = []
    for file in FILES:
        source = file.read_text(encoding="utf-8")
        if len(source.splitlines()) > 500:
            long.append(f"{file.relative_to(ROOT)}: {len(source.splitlines())} lines")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 60:  # type: ignore[operator]
                long.append(f"{file.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert long == []


CLOCKS = {"now", "today", "time", "time_ns", "monotonic", "perf_counter", "getpid", "uuid4"}


def test_json_is_parsed_where_any_depth_is_an_error() -> None:
    own = {  # what they made themselves, or have no other module to import
        "augment/audio/seed_vc_worker.py",
        "augment/training/diffusion/model.py",
        "finetune/thinker/architecture.py",
        "finetune/training/run_folder.py",
        "pipelines/store_files/checksums.py",
        "pipelines/untrusted/plain_json.py",
    }
    parsing = {file.relative_to(ROOT).as_posix() for file in FILES if "json.loads(" in file.read_text()}
    assert {name for name in parsing if not name.startswith("benchmarks/")} == own


def test_no_test_reads_a_clock_before_it_runs() -> None:
    """Processes that share the tests collect them one after another, and must find the same ones."""
    read = []
    for file in sorted((ROOT / "tests").rglob("*.py")):
        for call in _calls_on_loading(ast.parse(file.read_text(encoding="utf-8"))):
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            if name in CLOCKS:
                read.append(f"{file.relative_to(ROOT)}:{call.lineno} {name}")
    assert read == []


def _calls_on_loading(node: ast.AST) -> Iterator[ast.Call]:
    """The calls that are made when a module is loaded, among them those of decorators and defaults."""
    if isinstance(node, ast.Call):
        yield node
    parts = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        parts = [*node.decorator_list, node.args]
    for part in parts if not isinstance(node, ast.Lambda) else [node.args]:
        yield from _calls_on_loading(part)
