"""Loads each file of a folder and prints a line of JSON: its name, the seconds, and the error.

Run with the folder as its argument. More than 256 MB of memory beside what the modules take is a MemoryError.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from pipelines.untrusted import pickles

SPARE_BYTES = 256 * 2**20


def main() -> None:
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + SPARE_BYTES,) * 2)
    for path in sorted(Path(sys.argv[1]).iterdir()):
        started, error = time.process_time(), None
        try:
            pickles.load(path)
        except pickles.PickleError as caught:
            error = str(caught)
        print(json.dumps([path.name, time.process_time() - started, error]), flush=True)


if __name__ == "__main__":
    main()
