"""The sheet of pictures, by the command and with the model that is shipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.fatezero.contact_sheet import COLUMNS, HEIGHT, main


def test_rows_are_the_source_and_styles_that_differ_from_it(tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    main(["--out", str(out), "--augment.video.steps", "2", "--augment.video.fps", "2"])
    picture = np.asarray(Image.open(out)).astype(float)
    assert picture.shape == (5 * HEIGHT, COLUMNS * HEIGHT, 3)
    rows = np.split(picture, 5)
    for index, row in enumerate(rows):
        assert all(np.abs(row - other).mean() > 4 for other in rows[:index])
