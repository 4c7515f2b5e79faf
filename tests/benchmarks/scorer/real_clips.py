"""Real clips as stores, to try the scorer on: talking faces (GRID) and voices (EmoDB, LibriSpeech, VCTK).

    python -m tests.benchmarks.scorer.real_clips --out DIR

Writes both stores, and runs `benchmarks.scorer.sensitivity` on each.

They lie beside the checkout, in `shared/media`, and are no part of the project.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from pathlib import Path

from pipelines import importing
from pipelines.settings import parse_stage

MEDIA = Path(__file__).resolve().parents[3] / "shared/media"
VALENCE = {"W": -2.0, "E": -2.0, "A": -1.5, "T": -1.5, "L": -1.0, "N": 0.0, "F": 2.0}
"""Of EmoDB's emotions (the sixth character of a file's name): our guess, for want of ratings."""
COLUMNS = ("id", "path", "text", "label", "split", "group")


def faces() -> list[dict[str, object]]:
    """Eleven clips of ten speakers, 3 s of 360x288 px each; read without emotion."""
    with (MEDIA / "grid_corpus/label.csv").open(encoding="utf-8") as table:
        return [
            {
                "id": f"{row['video_id']}/{row['clip_id']}",
                "path": MEDIA / "grid_corpus/Raw" / row["video_id"] / f"{row['clip_id']}.mpg",
                "text": row["text"], "label": 0, "split": "train", "group": row["video_id"],
            }
            for row in csv.DictReader(table)
        ]  # fmt: skip


def voices() -> list[dict[str, object]]:
    """Acted emotions by six speakers, 2 s each; and seven voices that read for 5 to 11 s."""
    with (MEDIA / "MANIFEST.tsv").open(encoding="utf-8") as table:
        known = {row["file"]: row for row in csv.DictReader(table, delimiter="\t")}
    acted = [
        {
            "id": path.stem, "path": path, "text": known[f"emotional_speech/{path.name}"]["transcript"],
            "label": VALENCE[path.name[5]], "split": "train", "group": path.name[:2],
        }
        for path in sorted((MEDIA / "emotional_speech").glob("*.wav"))
    ]  # fmt: skip
    read = [
        {"id": path.stem, "path": path, "text": path.stem, "label": 0, "split": "train", "group": path.stem}
        for path in sorted((MEDIA / "voices").iterdir())
    ]
    return [*acted, *read]


STORES = {"faces": faces, "voices": voices}


def write(name: str, out: Path, *, clips: int | None = None) -> Path:
    """Import one of `STORES`, or its first clips, into `out`/`name`."""
    out.mkdir(parents=True, exist_ok=True)
    table = out / f"{name}.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(STORES[name]()[:clips])
    argv = ["--out", str(out / name), "--corpus.name", "folder", "--corpus.path", str(table)]
    importing.run(parse_stage(importing.ImportConfig, "corpus", argv, prog="daq-msa import", needs=("out",)))
    return out / name


def main() -> None:
    """Write the stores, and run the benchmark on each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    out = parser.parse_args().out
    for name in STORES:
        store = write(name, out / "stores")
        benchmark = ["benchmarks.scorer.sensitivity", "--data", str(store), "--out", str(out / name)]
        subprocess.run([sys.executable, "-m", *benchmark], check=True)


if __name__ == "__main__":
    main()
