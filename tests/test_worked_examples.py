"""The worked examples in the documentation: what they say is done to a copy, and its tests pass."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILE = re.compile(r"^`([\w/]+\.py)`:\n\n```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
FUTURE = "from __future__ import annotations\n"


@pytest.mark.parametrize(
    ("page", "table", "dictionary", "tests"),
    [
        (
            "contributing-a-signal.md",
            "score/signals/catalogue.py",
            "SIGNALS",
            ["tests/score/test_signals.py", "tests/score/test_calibrate.py"],
        ),
        ("contributing-a-generator.md", "augment/video/methods.py", "METHODS", []),
    ],
)
def test_doing_what_the_page_says_works(
    page: str, table: str, dictionary: str, tests: list[str], tmp_path: Path
) -> None:
    for name in ("augment", "score", "finetune", "pipelines", "benchmarks", "tests"):
        shutil.copytree(
            ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors")
        )
    told = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert f"`{dictionary}`" in told
    assert f"`{table}`" in told
    files = dict(FILE.findall(told))
    assert len(files) == 2, "one code file beside the table, and a test"
    for path, code in files.items():
        (tmp_path / path).write_text(code, encoding="utf-8")
    others = [code for code in BLOCK.findall(told) if code not in files.values()]
    (entry,) = [code for code in others if code.startswith("    ")]
    imports = "".join(code for code in others if code.startswith("from "))
    source = (tmp_path / table).read_text(encoding="utf-8").replace(FUTURE, FUTURE + imports)
    source, entered = re.subn(rf"^({dictionary}: .* = {{\n)", rf"\g<1>{entry}", source, flags=re.MULTILINE)
    assert entered == 1
    (tmp_path / table).write_text(source, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    command += [path for path in files if path.startswith("tests/")]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
