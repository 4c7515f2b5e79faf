"""Corpora that may not be re-published, in every spelling and from every place that names them."""

from __future__ import annotations

from pathlib import Path

import pyarrow
import pytest

from pipelines.errors import UsageError
from pipelines.hub.push import push
from pipelines.hub.terms import TERMS, check_store, check_terms, guarded
from pipelines.row import digest
from pipelines.store import StoreReader, commit
from tests.pipelines.hub.conftest import SETTINGS, make_store, rows

SPELLINGS = {
    "mosi": "mosi MOSI CMU-MOSI cmu_mosi cmumosi CMUMOSI CMUMosi mosi_small MOSI2 mosiraw MosiRaw mosi-v2",
    "mosei": "mosei CMU-MOSEI cmumosei CMU_MOSEI_raw MOSEI/Raw mosei_unaligned moseidata",
    "sims": "sims SIMS ch_sims CH-SIMS chsims CHSIMS CHSims CH–SIMS ch.sims sims_raw",
    "simsv2": "simsv2 SIMSv2 SIMS-v2 chsimsv2 CH-SIMSv2 CH-SIMS_v2.0 sims2 ch_sims_v2s CHSIMSv2s",
    "mustard": "mustard MUStARD MUStARD++ mustard_pp mustardpp MUStARD-plus-plus mustardplusplus MUSTARD_raw",
    "meld": "meld MELD MELD.Raw meld_raw meldraw MELD-FAIR meld/train",
    "urfunny": "urfunny UR-FUNNY ur_funny UR_FUNNY_v2 URFUNNY UR-FUNNY-V2 urfunnyv2 ur.funny URFunny",
    "iemocap": "iemocap IEMOCAP IEMOCAP_full_release iemocap-4class iemocapraw",
    "improv": "improv MSP-IMPROV msp_improv mspimprov MSPIMPROV",
}
# The same with spaces, and in full.
SPOKEN = {
    "simsv2": ["CH-SIMS v2", "the CH-SIMS v2.0 corpus", "sims v2(s)"],
    "urfunny": ["UR FUNNY", "clips of UR-FUNNY, version 2"],
    "mosi": [
        "ＭＯＳＩ",
        "Multimodal Opinion Sentiment Intensity",
        "Multimodal Opinion-level Sentiment Intensity",
    ],
    "mosei": ["CMU Multimodal Opinion Sentiment and Emotion Intensity"],
    "meld": ["the Multimodal EmotionLines Dataset"],
    "mustard": ["Multimodal Sarcasm Detection Dataset"],
}
OTHERS = [
    "osmosis",
    "formosa",
    "cosmosis",
    "simsalabim",
    "melding",
    "Meldung",
    "mustardy",
    "improvised",
    "improvement",
    "funny",
    "your-funny",
    "our_funny",
    "puppets",
    "folder",
    "interviews",
    "mo-si",
    "samosil",
    "mosier",
    "UR",
    "fun",
    "demo",
    "assimsv2",
]


@pytest.mark.parametrize("corpus", ["mosi", "CMU-MOSEI", "ch_sims", "mustard", "meld", "IEMOCAP"])
def test_corpora_that_may_not_be_published(corpus: str) -> None:
    for public in (False, True):
        with pytest.raises(UsageError, match=r"is not pushed: .*--i-have-the-rights"):
            check_terms({"puppets", corpus}, public=public)


def test_unknown_corpora_may_be_kept_in_private(tmp_path: Path) -> None:
    check_terms({"my interviews", "puppets"}, public=False)
    check_terms({"puppets"}, public=True)
    with pytest.raises(UsageError, match="'my interviews' is not pushed: its terms are not known"):
        check_terms({"my interviews"}, public=True)


@pytest.mark.parametrize(
    ("name", "spelling"),
    [(name, each) for name, all_ in SPELLINGS.items() for each in all_.split()]
    + [(name, each) for name, all_ in SPOKEN.items() for each in all_],
)
def test_spellings(name: str, spelling: str) -> None:
    for text in (spelling, f"/data/{spelling}/label.csv", f"the clips of {spelling}.", f"x_{spelling}_y"):
        assert guarded(text) == name, text
    with pytest.raises(UsageError, match="is not pushed") as refused:
        check_terms({spelling}, public=False)
    assert TERMS[name] in str(refused.value)


@pytest.mark.parametrize("text", OTHERS)
def test_other_words(text: str) -> None:
    assert guarded(text) is None


def test_every_corpus_has_a_spelling() -> None:
    assert set(SPELLINGS) == set(TERMS)


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"command": "daq-msa import folder /data/CMU-MOSI/label.csv --out x"}, "settings.json, command"),
        ({"config": {"name": "folder", "path": "/data/ch-sims/label.csv"}}, "settings.json, config"),
        ({"inputs": {"missing": ["meld/dia0/utt1"]}}, "settings.json, inputs"),
        ({"title": "Talking-face clips: UR-FUNNY"}, "README.md"),
        ({"notes": ["Made of MUStARD++."]}, "README.md"),
    ],
)
@pytest.mark.parametrize("public", [False, True])
def test_a_store_that_names_a_guarded_corpus_elsewhere(
    tmp_path: Path, settings: dict[str, object], place: str, public: bool
) -> None:
    store = tmp_path / "store"
    commit(store, rows("puppets", 3), generation=digest("a"), settings=SETTINGS | settings)
    with pytest.raises(UsageError, match=f"names .* in {place} is not pushed: .*--i-have-the-rights"):
        push(store, "ann/clips", public=public, dry_run=True)
    assert push(store, "ann/clips", public=public, dry_run=True, i_have_the_rights=True) is None


def test_the_repository_and_the_ids_tell_too(tmp_path: Path) -> None:
    store = make_store(tmp_path / "a")
    with pytest.raises(UsageError, match="names mosi in the repository's name"):
        push(store, "ann/mosi-variants", dry_run=True)
    table = StoreReader(store).table
    ids = pyarrow.array([f"iemocap/{number}" for number in range(len(table))])
    renamed = table.set_column(table.column_names.index("id"), "id", ids)
    with pytest.raises(UsageError, match="names iemocap in the rows' ids"):
        check_store(store, renamed, "ann/clips", public=False)


@pytest.mark.parametrize(
    "text",
    [
        "CC-BY-NC-ND-4.0", "no derivatives", "CH-SIMS terms", "for research only", "All rights reserved",
        "may not be redistributed", "no redistribution",
    ],
)  # fmt: skip
def test_licenses(tmp_path: Path, text: str) -> None:
    store = make_store(tmp_path / "store")
    table = StoreReader(store).table
    table = table.drop_columns(["license"]) if "license" in table.column_names else table
    column = pyarrow.array([None, text] * (len(table) // 2))
    with pytest.raises(UsageError, match=r"what has the license '.*' is not pushed"):
        check_store(store, table.append_column("license", column), "ann/clips", public=False)
    card = store / "README.md"
    card.write_text(card.read_text().replace("tags:", f"license: {text}\ntags:"))
    with pytest.raises(UsageError, match=r"what has the license|in README\.md"):
        check_store(store, table, "ann/clips", public=False)


@pytest.mark.parametrize(
    "text", ["CC-BY-4.0", "cc-by-nc-sa-4.0", "MIT", "apache-2.0", "CreativeML OpenRAIL-M"]
)
def test_licenses_that_let_rows_be_passed_on(text: str) -> None:
    check_terms({"puppets"}, public=True, licenses={text, None})


def test_a_recipe_named_after_a_corpus_is_no_sign_of_it(tmp_path: Path) -> None:
    command = "daq-msa run --config pipelines/recipes/mosi_qwen2_5_omni.yaml --corpus.path mine/label.csv"
    store = tmp_path / "store"
    commit(store, rows("folder", 3), generation=digest("a"), settings=SETTINGS | {"command": command})
    assert push(store, "ann/clips", dry_run=True) is None
