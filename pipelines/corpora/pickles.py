"""Pickles of numpy arrays, read without running what is in them.

A pickle may name any function to call. This reader knows only those that rebuild arrays, numbers
and strings, and refuses a file that names another.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from pipelines.corpora.table import CorpusError


def read_arrays(path: Path) -> Any:
    """What a pickle holds: numpy arrays and plain containers; written by Python 2 or 3.

    Raises:
        CorpusError: If the file cannot be read, is no pickle, or holds anything else.
    """
    try:
        with path.open("rb") as file:
            return _ArrayUnpickler(file, encoding="latin1").load()
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from error
    except CorpusError as error:
        raise CorpusError(f"{path}: {error}") from error
    except Exception as error:
        raise CorpusError(f"{path}: is no pickle of arrays ({type(error).__name__}: {error})") from error


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        import numpy as np
        from numpy._core import multiarray

        # numpy 2 moved its core; old files carry the old name.
        allowed = {
            ("multiarray", "_reconstruct"): multiarray._reconstruct,
            ("multiarray", "scalar"): multiarray.scalar,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        short = module.removeprefix("numpy.core.").removeprefix("numpy._core.")
        if (short, name) not in allowed:
            raise CorpusError(
                f"names {module}.{name}, which is no array, number, string or container; refused"
            )
        return allowed[short, name]
