"""Corpora that may not be re-published, in every spelling and from every place that names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import UsageError
from pipelines.hub.terms import check_terms

SPELLINGS = {
    "mosi": "mosi MOSI CMU-MOSI cmu_mosi cmumosi CMUMOSI CMUMosi mosi_small MOSI2 mosiraw MosiRaw mosi-v2 ＭＯＳＩ",
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
    "mosi": ["Multimodal Opinion Sentiment Intensity", "Multimodal Opinion-level Sentiment Intensity"],
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
