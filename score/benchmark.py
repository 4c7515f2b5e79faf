"""What the scorer sees and hears: clips spoiled by known means and grades, scored as any store is.

    python -m score.benchmark --out DIR [--clips 96 | --data STORE] [--seed 0]

    DIR/originals   a store of puppets, imported as any corpus is; not where a store is named
    DIR/spoiled     each training clip, and a variant of it for each means and grade (`score.spoiling`)
    DIR/scored      what `score.run` makes of them, settings as shipped

`benchmark.json` and `benchmark.md` there say, by means and grade, what became of their qualities and
weights. A generator's faults come together and in amounts that nobody knows; this says nothing of them.
"""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.atomic import write_json, write_text
from pipelines.errors import UsageError, call
from pipelines.media import encode_audio, encode_video, read_audio, read_video
from pipelines.provenance import versions
from pipelines.sample import Row, digest, media, provenance, row_seed, variant_id
from pipelines.settings import parse_stage
from pipelines.store import StoreReader, commit, committed_generation
from score.spoiling import MEANS, Means

CONTROLS = {"video": ("encoded again", "colours changed"), "audio": ("sound encoded again", "pitch moved")}
"""By track, the harmless means that a spoiled variant has to stand below: one changes nothing, one does."""
MEDIANS = ("quality", "quality_cross", "weight")


def import_puppets(out: Path, *, clips: int, seed: int) -> Path:
    """A store of puppets, as the section `corpus` of a recipe makes it.

    Raises:
        UsageError: If there are too few clips for a corpus.
    """
    from pipelines import importing

    argv = ["--out", str(out), "--seed", str(seed), "--corpus.clips", str(clips)]
    invocation = parse_stage(importing.ImportConfig, "corpus", argv, prog="daq-msa import", needs=("out",))
    importing.run(invocation)
    return out


def run(
    data: Path, out: Path, *, seed: int, means: Mapping[str, Means] = MEANS, command: str = ""
) -> dict[str, Any]:
    """Spoil the training clips of a store, score them, and write the report.

    Args:
        data: The store.
        out: The folder of `spoiled`, `scored`, `benchmark.json` and `benchmark.md`.
        seed: Of all that is drawn.
        means: How to spoil; with `CONTROLS` of each track.
        command: For the records.

    Returns:
        What `benchmark.json` holds.
    """
    from score.run import ScoreConfig
    from score.run import run as score

    made = write_spoiled(data, out / "spoiled", seed=seed, means=means, command=command)
    argv = ["--data", str(out / "spoiled"), "--out", str(out / "scored"), "--seed", str(seed)]
    started = time.process_time()
    score(parse_stage(ScoreConfig, "score", argv, prog="python -m score"))
    # Of the processor and not of the clock, so that a busy machine measures the same.
    seconds = time.process_time() - started
    summary = summarise(out / "scored", means)
    clips = StoreReader(out / "spoiled").table
    calibration = json.loads((out / "scored" / "calibration.json").read_text(encoding="utf-8"))
    report = {
        "command": command,
        "clips": clips.num_rows - made,
        "mean_duration_s": float(np.mean(clips["duration_s"].to_numpy())),
        "variants": made,
        "rejected": made - sum(grade["rows"] for told in summary.values() for grade in told["grades"]),
        "clips_per_processor_second": clips.num_rows / seconds,
        "predictor": calibration["predictor"],
        "left_out": calibration["left_out"],
        "means": summary,
    }
    write_json(out / "benchmark.json", report)
    write_text(out / "benchmark.md", markdown(report))
    return report


def write_spoiled(data: Path, out: Path, *, seed: int, means: Mapping[str, Means], command: str) -> int:
    """Write a store of another's training originals, each before its variants; returns how many these are."""
    reader = StoreReader(data)
    rows = reader.table.select(["id", "split", "kind"]).to_pylist()
    ids = [row["id"] for row in rows if row["split"] == "train" and row["kind"] == "original"]
    settings = {
        "stage": "benchmark", "title": "Clips spoiled by known means", "command": command, "seed": seed,
        "description": "Training clips, and variants of them that are worse, or no worse, by known amounts.",
        "config": {name: {"grades": way.grades, "unit": way.unit} for name, way in means.items()},
        "inputs": committed_generation(data), "versions": versions(),
    }  # fmt: skip
    spoiled = (made for row in reader.rows(ids) for made in (row, *variants(row, means, seed)))
    return commit(out, spoiled, generation=digest(settings), settings=settings)["train"] - len(ids)


def variants(row: Row, means: Mapping[str, Means], seed: int) -> Iterator[Row]:
    """One variant a means and grade, of the tracks that a clip has."""
    cases = [(name, grade) for name, way in means.items() for grade in way.grades]
    for number, (name, grade) in enumerate(cases):
        track = means[name].track
        if row[track] is None:
            continue
        made_id = variant_id(row["id"], track, number)
        rng, change = np.random.default_rng(row_seed(seed, made_id)), means[name].change
        if track == "video":
            clip = read_video(row["video"]["bytes"])
            encoded = encode_video(change(clip.frames, grade, rng), clip.fps)
        else:
            encoded = encode_audio(change(read_audio(row["audio"]["bytes"]), grade, rng))
        made = {"method": "spoiled", "means": name, "grade": grade, "seed": seed, "source": provenance(row)}
        yield row | {"id": made_id, "kind": track, track: media(encoded), "generator": json.dumps(made)}


def summarise(scored: Path, means: Mapping[str, Means]) -> dict[str, Any]:
    """What a scored store says of each means.

    Returns:
        By means its `track` and `unit`, and `grades`: for each its value, how many `rows` have it,
        and the medians of `quality` (of the means' own track), `quality_cross` and `weight`. Of what
        is not harmless also `tau`, and its middle grade's `area` against the control that changes
        nothing and `area_harmless` against the middle grade of the one that does.
    """
    rows = StoreReader(scored).table.to_pylist()
    originals = {row["id"]: at for at, row in enumerate(row for row in rows if row["kind"] == "original")}
    told = {name: np.full((len(way.grades), 4, len(originals)), np.nan) for name, way in means.items()}
    for row in (row for row in rows if row["kind"] != "original"):
        name, grade = itemgetter("means", "grade")(provenance(row))
        values = [row[f"quality_{means[name].track}"], row["quality_cross"], row["weight"], 1]
        told[name][means[name].grades.index(grade), :, originals[row["source_id"]]] = np.array(values, float)
    summary: dict[str, Any] = {}
    for name, way in means.items():
        grades: list[dict[str, Any]] = [
            {"grade": grade, "rows": int(np.nansum(values[3]))}
            | {key: _median(column) for key, column in zip(MEDIANS, values, strict=False)}
            for grade, values in zip(way.grades, told[name], strict=True)
        ]
        summary[name] = {"track": way.track, "unit": way.unit, "grades": grades}
        if not way.harmless:
            nothing, something = (_middle(told[control]) for control in CONTROLS[way.track])
            summary[name] |= {
                "tau": tau(told[name][:, 0].T),
                "area": area(nothing, _middle(told[name])),
                "area_harmless": area(something, _middle(told[name])),
            }
    return summary


def tau(values: np.ndarray) -> float | None:
    """How steadily values fall: Kendall's tau-a of each row with the reversed order of its columns, the mean.

    Args:
        values: (rows, grades); rows with a NaN do not count.

    Returns:
        In [-1, 1]; 1 where each row falls from every grade to any stronger one, 0 where none of them
        changes. None without a row.
    """
    whole = values[np.isfinite(values).all(axis=1)]
    first, second = np.triu_indices(values.shape[1], k=1)
    return float(np.sign(whole[:, first] - whole[:, second]).mean()) if len(whole) else None


def area(better: np.ndarray, worse: np.ndarray) -> float | None:
    """Area under the ROC curve: how often a better one has the higher value, ties counted half.

    Args:
        better: (n,); NaN does not count.
        worse: (m,), as `better`.

    Returns:
        In [0, 1]; 0.5 where the two cannot be told apart. None where either is empty.
    """
    better, worse = better[np.isfinite(better)], worse[np.isfinite(worse)]
    if not len(better) or not len(worse):
        return None
    return float((np.sign(better[:, None] - worse).mean() + 1) / 2)


def markdown(report: Mapping[str, Any]) -> str:
    """The report as a table: one row a means, its grades from light to strong."""
    lines = [
        f"`{report['command']}`: {report['clips']} training clips of {report['mean_duration_s']:.1f} s,"
        f" {report['variants']} variants, {report['rejected']} rejected. The predictor's correlation is"
        f" {_number(report['predictor'].get('correlation')) or 'unknown'}. Scored were"
        f" {report['clips_per_processor_second']:.0f} clips a second of processor time.",
        "",
        "| means | grades | quality | quality_cross | weight | tau | area | area, harmless |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, told in report["means"].items():
        grades = " · ".join(f"{grade['grade']:g}" for grade in told["grades"])
        medians = [" · ".join(_number(grade[key]) for grade in told["grades"]) for key in MEDIANS]
        measures = [_number(told.get(key)) for key in ("tau", "area", "area_harmless")]
        cells = [name, f"{grades} {told['unit']}", *medians, *measures]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> None:
    """Make the clips, score them, and print the table."""
    prog = "python -m score.benchmark"
    parser = argparse.ArgumentParser(prog=prog, description="Scores clips that are spoiled by known means.")
    parser.add_argument("--out", type=Path, required=True, help="a new or an empty folder")
    parser.add_argument("--clips", type=int, default=96, help="puppets over all splits (default: 96)")
    parser.add_argument("--data", type=Path, help="a store of clips to spoil instead of puppets")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (default: 0)")
    options = parser.parse_args(argv)
    if options.out.exists() and any(options.out.iterdir()):
        raise UsageError(f"--out: {options.out} is not empty, and speed is that of a whole run; name another")
    originals = options.data or import_puppets(
        options.out / "originals", clips=options.clips, seed=options.seed
    )
    run(originals, options.out, seed=options.seed, command=f"{prog} {shlex.join(argv)}")
    print((options.out / "benchmark.md").read_text(encoding="utf-8"), end="")


def _middle(told: np.ndarray) -> np.ndarray:
    """The qualities of the own track at the middle grade, (originals,)."""
    return told[len(told) // 2, 0]


def _median(values: np.ndarray) -> float | None:
    return float(np.nanmedian(values)) if np.isfinite(values).any() else None


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    call(main)
