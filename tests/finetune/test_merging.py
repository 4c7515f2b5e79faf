"""A merged model rates as the one with the adapter, alone in its folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finetune import evaluation, merging
from finetune.__main__ import main as finetune
from finetune.inputs.batch import collate
from finetune.model.regressor import SentimentModel
from finetune.model.saved_model import open_model
from pipelines import provenance
from pipelines.durable.checkpoints import read_json_object
from pipelines.errors import UsageError
from pipelines.store import StoreReader
from tests import processes, tiny
from tests.tiny_families import qwen2

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [tiny.row(n) for n in range(4)] + [tiny.row(n, "test") for n in range(3)]
    rows[-1] |= {"video": None}
    return tiny.store(tmp_path_factory.mktemp("store"), rows)


@pytest.fixture(scope="module", params=["tiny", "embedded"])
def trained(request: pytest.FixtureRequest, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder whose adapter and head are far from where they start."""
    model = request.getfixturevalue("tiny_thinker") if request.param == "tiny" else request.param
    out = tmp_path_factory.mktemp("trained")
    settings = {"model": model, "epochs": 2, "batch_size": 2, "lora_rank": 2, "learning_rate": 0.02}
    given = [part for name, value in settings.items() for part in (f"--finetune.{name}", str(value))]
    finetune(["--data", str(store), "--out", str(out), *given])
    return out


@pytest.fixture(scope="module")
def merged(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("parent") / "merged"
    merging.main(["--model", str(trained), "--out", str(out)])
    return out


def outputs(model: Any, encoder: Any, store: Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ratings, last hidden states and logits of all rows."""
    batch = collate(
        [encoder(row) for row in StoreReader(store).rows()], encoder.processor.tokenizer.pad_token_id
    )
    with torch.no_grad():
        hidden = model.features(**batch)
        return model(**batch), hidden, model.logits(hidden.to(model.base.dtype))


def test_adapter_merged_and_saved_are_the_same(trained: Path, merged: Path, store: Path) -> None:
    model, encoder, record = open_model(trained, "cpu")
    with_adapter = outputs(model, encoder, store)
    with model.thinker.disable_adapter():
        without = outputs(model, encoder, store)
    assert (with_adapter[0] - without[0]).abs().max() > 1e-3  # there is an adapter to lose
    in_memory = SentimentModel(model.thinker.merge_and_unload(), model.head).eval()
    loaded, its_encoder, told = open_model(merged, "cpu")
    for found in (outputs(in_memory, encoder, store), outputs(loaded, its_encoder, store)):
        for value, wanted in zip(found, with_adapter, strict=True):
            torch.testing.assert_close(value, wanted, **CLOSE)
    assert (told["merged"], told["base"]) == (True, record["config"]["model"])


def test_a_merged_model_is_evaluated_like_any_other(trained: Path, merged: Path, store: Path) -> None:
    copy = Path(shutil.copytree(merged, merged.with_name("copy"), dirs_exist_ok=True))
    known = json.loads((trained / "metrics.json").read_text())["test"]
    assert json.loads((copy / "metrics.json").read_text())["test"] == known
    (copy / "metrics.json").unlink()
    evaluation.main(["--model", str(copy), "--data", str(store), "--overwrite"])
    found = json.loads((copy / "metrics.json").read_text())["test"]["after"]
    assert found == pytest.approx(known["after"], abs=1e-4)


def test_it_needs_neither_the_base_nor_the_adapter(tiny_thinker: Path, store: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_thinker, tmp_path / "base"))
    before = provenance.folder_digest(base)
    settings = ["--finetune.model", str(base), "--finetune.epochs", "1", "--finetune.batch_size", "4"]
    finetune(["--data", str(store), "--out", str(tmp_path / "trained"), *settings])
    merging.merge(tmp_path / "trained", tmp_path / "merged")
    assert provenance.folder_digest(base) == before
    shutil.rmtree(base)
    shutil.rmtree(tmp_path / "trained")
    model, encoder, _ = open_model(tmp_path / "merged", "cpu")
    assert torch.isfinite(outputs(model, encoder, store)[0]).all()


def test_weights_can_be_stored_in_half_the_room(trained: Path, store: Path, tmp_path: Path) -> None:
    merging.main(["--model", str(trained), "--out", str(tmp_path / "half"), "--precision", "bfloat16"])
    weights = load_file(tmp_path / "half" / "model.safetensors")
    assert {value.dtype for value in weights.values() if value.is_floating_point()} == {torch.bfloat16}
    model, encoder, _ = open_model(tmp_path / "half", "cpu")
    whole, _, _ = open_model(trained, "cpu")
    torch.testing.assert_close(
        outputs(model, encoder, store)[0], outputs(whole, encoder, store)[0], rtol=0, atol=0.2
    )


@pytest.mark.slow
def test_it_never_asks_the_hub(tiny_thinker: Path, store: Path, tmp_path: Path) -> None:
    """The base is a Hub model in the cache, offline is not asked for, and a connection ends the program."""
    snapshot = tmp_path / "cache" / "models--tiny--thinker" / "snapshots" / ("0" * 40)
    shutil.copytree(tiny_thinker, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    finetune(
        ["--data", str(store), "--out", str(tmp_path / "trained"), "--finetune.model", str(tiny_thinker)]
    )
    record = read_json_object(tmp_path / "trained" / "model.json")
    record["config"]["model"] = "tiny/thinker"
    (tmp_path / "trained" / "model.json").write_text(json.dumps(record))
    code = (
        "import os, socket, sys\n"
        "def refuse(*_, **__): os._exit(7)\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from finetune import merging\n"
        "from pathlib import Path\n"
        "merging.main(['--model', sys.argv[1], '--out', sys.argv[2]])\n"
        "from finetune.model import saved_model\n"
        "saved_model.open_model(Path(sys.argv[2]), 'cpu')\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment["HF_HUB_CACHE"] = str(tmp_path / "cache")
    command = [sys.executable, "-c", code, str(tmp_path / "trained"), str(tmp_path / "merged")]
    subprocess.run(command, cwd=processes.ROOT, check=True, env=environment)


def test_a_text_only_model_is_merged_with_its_tokenizer(store: Path, tmp_path: Path) -> None:
    settings = ["--finetune.model", str(qwen2(tmp_path / "base")), "--finetune.epochs", "1"]
    finetune(["--data", str(store), "--out", str(tmp_path / "trained"), *settings])
    merging.merge(tmp_path / "trained", tmp_path / "merged")
    with_adapter, merged = (open_model(tmp_path / name, "cpu")[:2] for name in ("trained", "merged"))
    for value, expected in zip(outputs(*merged, store), outputs(*with_adapter, store), strict=True):
        torch.testing.assert_close(value, expected, **CLOSE)


@pytest.mark.parametrize("holds", ["a file", "a folder"])
def test_it_overwrites_nothing(holds: str, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if holds == "a folder":
        out.mkdir()
        (out / "mine.txt").write_text("mine")
    else:
        out.write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=rf"--out: .*out is {holds}.*takes a new or empty folder"):
        merging.merge(trained, out)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_folder_is_taken_and_a_failure_leaves_none(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(merging, "_card", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            merging.merge(trained, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    merging.merge(trained, tmp_path / "out")
    assert (tmp_path / "out" / "model.json").is_file()


def test_a_merged_model_has_nothing_to_merge(merged: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds a merged model"):
        merging.merge(merged, tmp_path / "out")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--model: .* holds no model.json"):
        merging.merge(tmp_path, tmp_path / "out")
