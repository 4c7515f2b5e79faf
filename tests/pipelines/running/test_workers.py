"""Worker processes end with the process that started them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.pipelines.running.test_launching import ROOT, alive, wait_for

# A pool that is waiting for work when its process is killed.
PROGRAM = """
import multiprocessing, sys, time
from pipelines.running.workers import worker_pool
def main():
    with worker_pool(2, multiprocessing.get_context(sys.argv[2])) as pool:
        assert pool.submit(pow, 2, 3).result() == 8
        open(sys.argv[1], "w").close()
        time.sleep(60)
if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_end_with_a_process_that_is_killed(method: str, tmp_path: Path) -> None:
    program_file, ready = tmp_path / "program.py", tmp_path / "ready"
    program_file.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{PROGRAM}")
    program = subprocess.Popen([sys.executable, program_file, ready, method])
    wait_for(ready.exists)
    workers = [child.pid for child in psutil.Process(program.pid).children(recursive=True)]
    assert workers
    program.kill()
    program.wait()
    wait_for(lambda: not any(map(alive, workers)))
