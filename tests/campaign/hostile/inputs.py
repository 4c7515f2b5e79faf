"""Hostile media, tables, recipes, pickles and model folders: each is one line, or that row's rejection.

A canary, which the files try to make, shows whether anything was executed or written outside; a program may
take 1 GiB more than it has at its start, and may print no escape that a terminal obeys.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from pipelines.durable.checkpoints import read_json_object
from tests.campaign.findings import Finding, Trial, contents, last_line, of_end, of_escapes
from tests.campaign.hostile.files import GOOD, HEAD, MEDIA, PICKLES, RECIPES, TABLES, write_corpus
from tests.campaign.programs import Ended
from tests.campaign.stages import CLASSIC, STAGES, Bench

MOST_MB = 1024
LIMIT_S = 45.0
EVIL_PICKLE = PICKLES["os.system"]
REMOTE = {"auto_map": {name: f"evil.{name}" for name in ("AutoConfig", "AutoModel", "AutoModelForCausalLM")}}


class Canary:
    """A folder that nothing may touch, with a secret that nothing may read."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, str(folder / "canary")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "canary.secret").write_text("the secret")
        self._before = contents(folder)

    def findings(self) -> list[Finding]:
        """Whether it was touched."""
        return (
            [] if contents(self.folder) == self._before else [Finding("executed", "the canary was touched")]
        )


def trials(bench: Bench, _: str = "", short: bool = False) -> Iterator[Trial]:
    """Everything hostile, or every sixth of it."""
    step = 6 if short else 1
    for of, table in (("media", MEDIA), ("table", TABLES), ("recipe", RECIPES), ("pickle", PICKLES)):
        for name, make in list(table.items())[::step]:
            canary = Canary(bench.folder / "bench" / "canary")
            shutil.rmtree(bench.out, ignore_errors=True)
            ended = _RUNS[of](bench, canary, name, make(canary.path))
            yield Trial("hostile", of, repr(name)[1:-1][:40], tuple(_of(canary, ended, of)))
    for name, spoil in list(MODELS.items())[::step]:
        canary = Canary(bench.folder / "bench" / "canary")
        stage = STAGES["evaluate"]
        bench.read(stage, "now")
        bench.begin(stage)
        spoil(bench.out, canary.path)
        yield Trial("hostile", "model folder", name, tuple(_of(canary, bench.run(stage), "model")))


def _of(canary: Canary, ended: Ended, of: str) -> list[Finding]:
    findings = [*of_end(ended, 0 if of == "media" else None), *canary.findings(), *of_escapes(ended)]
    more = ended.peak_mb - psutil.Process().memory_info().rss // 2**20
    if more > MOST_MB:
        findings.append(Finding("wrong", f"takes {more} MiB"))
    if ended.code and not last_line(ended.told).startswith("error:"):
        findings.append(Finding("wrong", f"its last line is no error: {last_line(ended.told)}"))
    if ended.code and len(last_line(ended.told)) >= 200 and len(ended.told) > 4000:
        findings.append(Finding("wrong", f"its message has {len(ended.told)} characters"))
    return findings


def _import(bench: Bench, table: bytes, clips: dict[str, bytes]) -> Ended:
    folder = bench.folder / "bench" / "hostile"
    shutil.rmtree(folder, ignore_errors=True)
    path = write_corpus(folder, table, clips)
    return bench.program("pipelines", ["import", "folder", str(path), "--out", str(bench.out)]).wait(LIMIT_S)


def _media(bench: Bench, canary: Canary, name: str, content: bytes) -> Ended:
    return _import(bench, f'{HEAD}{GOOD}"{name}",x,1,train,c\n'.encode(), {name: content})


def _table(bench: Bench, canary: Canary, name: str, content: bytes) -> Ended:
    return _import(bench, content, {})


def _recipe(bench: Bench, canary: Canary, name: str, content: bytes) -> Ended:
    path = bench.folder / "bench" / "recipe.yaml"
    path.write_bytes(content)
    bench.read(STAGES["augment"], "now")
    data, out = str(bench.inputs / "read" / "originals"), str(bench.out)
    given = ["--config", str(path), "--data", data, "--out", out, "--augment.device", "cpu", *CLASSIC]
    return bench.program("augment", given).wait(LIMIT_S)


def _pickle(bench: Bench, canary: Canary, name: str, content: bytes) -> Ended:
    path = bench.folder / "bench" / "features.pkl"
    path.write_bytes(content)
    return bench.program("finetune.fusion", ["--data", str(path), "--out", str(bench.out)]).wait(LIMIT_S)


_RUNS: dict[str, Callable[[Bench, Canary, str, bytes], Ended]] = {
    "media": _media, "table": _table, "recipe": _recipe, "pickle": _pickle,
}  # fmt: skip


def _content(name: str, make: Callable[[str], bytes]) -> Callable[[Path, str], None]:
    """A file of the folder with another content."""

    def spoil(model: Path, canary: str) -> None:
        (model / name).write_bytes(make(canary))

    return spoil


def _json(name: str, **changes: Any) -> Callable[[Path, str], None]:
    """A JSON file of the folder with other values; `None` takes a key away."""

    def spoil(model: Path, canary: str) -> None:
        values = json.loads((model / name).read_text()) | changes
        (model / name).write_text(json.dumps({key: each for key, each in values.items() if each is not None}))

    return spoil


def _base(make: Callable[[Path, str], None]) -> Callable[[Path, str], None]:
    """A base model that the folder names, with something in it."""

    def spoil(model: Path, canary: str) -> None:
        base = model / "base"
        shutil.copytree(model.parent / "inputs" / "read" / "thinker", base)
        record = read_json_object(model / "model.json")  # without its digest, as whoever made it would
        record["config"]["model"] = str(base)
        (model / "model.json").write_text(json.dumps(record))
        make(base, canary)

    return spoil


def _remote_code(base: Path, canary: str) -> None:
    (base / "evil.py").write_text(f"open({canary!r}, 'w')\n")
    config = json.loads((base / "config.json").read_text()) | REMOTE | {"model_type": "evil"}
    (base / "config.json").write_text(json.dumps(config))


def _pickled_weights(base: Path, canary: str) -> None:
    (base / "model.safetensors").unlink()
    (base / "pytorch_model.bin").write_bytes(EVIL_PICKLE(canary))


def _pickled_adapter(model: Path, canary: str) -> None:
    (model / "adapter_model.safetensors").unlink()
    (model / "adapter_model.bin").write_bytes(EVIL_PICKLE(canary))


def _linked(model: Path, canary: str) -> None:
    (model / "metrics.json").unlink()
    (model / "metrics.json").symlink_to(f"{canary}.secret")


_HUGE_HEADER = struct.pack("<Q", 2**62) + b"{}"
_TENSOR = json.dumps({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}}).encode()
_LYING = struct.pack("<Q", len(_TENSOR)) + _TENSOR

# By name, what is done to the folder of a model that is whole.
MODELS: dict[str, Callable[[Path, str], None]] = {
    "remote code": _base(_remote_code),
    "pickled weights": _base(_pickled_weights),
    "a pickled adapter": _pickled_adapter,
    "a model that is a link": _linked,
    "no base": _json("model.json", config=None),
    "no scale": _json("model.json", scale=None),
    "an unknown scale": _json("model.json", scale="\x1b[31mred"),
    "an unknown setting": _json("model.json", config={"model": "embedded", "evil": 1}),
    "a config that is a list": _json("model.json", config=[1]),
    "a record that is a list": _content("model.json", lambda _: b"[1]"),
    "a record that is empty": _content("model.json", lambda _: b""),
    "a record in utf-16": _content("model.json", lambda _: "{}".encode("utf-16")),
    "a deep record": _content("model.json", lambda _: b"[" * 100_000),
    "a long header": _content("adapter_model.safetensors", lambda _: _HUGE_HEADER),
    "a lying header": _content("adapter_model.safetensors", lambda _: _LYING),
    "a pickle for an adapter": _content("adapter_model.safetensors", EVIL_PICKLE),
    "a pickle for a head": _content("head.safetensors", EVIL_PICKLE),
    "an empty head": _content("head.safetensors", lambda _: b""),
    "another adapter": _json("adapter_config.json", peft_type="EVIL"),
    "an adapter of a large rank": _json("adapter_config.json", r=2**40),
    "an adapter of code": _json(
        "adapter_config.json", auto_mapping={"parent_library": "os", "base_model_class": "x"}
    ),
    "an adapter that is a list": _content("adapter_config.json", lambda _: b"[]"),
    "metrics that are none": _content("metrics.json", lambda _: b"[1, 2"),
}  # fmt: skip
