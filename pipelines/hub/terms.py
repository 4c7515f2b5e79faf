"""Corpora that may not be re-published, recognised by their names and by what a store says of its rows.

A name counts in each of its usual spellings: `MUStARD++`, `mustard_pp` and `MUStARDpp` are MUStARD. It is
looked for in the rows' `corpus`, `license` and ids, in the card, in what `settings.json` says of the store's
origin, and in the repository's name, so a folder or a column that is renamed does not hide a corpus that
another of them names.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import UsageError
from pipelines.store import made_by

if TYPE_CHECKING:
    import pyarrow

_YOUTUBE = "its clips are people's own YouTube videos, given out for research, with no licence to pass on"
_TELEVISION = "its clips are cut from films and television, whose owners keep the copyright"
_TED = "its clips are cut from TED talks, licensed CC BY-NC-ND: no derivatives may be passed on"
_SIGNED = "it is given out to those who sign a release form, each for their own use"

# Why a corpus may not be re-published. A variant shows and says the same as its clip, so the terms hold for
# variants too.
TERMS = {
    "mosi": f"{_YOUTUBE} (Zadeh et al. 2016, arXiv:1606.06259)",
    "mosei": f"{_YOUTUBE} (Zadeh et al. 2018, ACL P18-1208)",
    "sims": f"{_TELEVISION} (Yu et al. 2020, ACL 2020.acl-main.343)",
    "simsv2": f"{_TELEVISION} (Liu et al. 2022, arXiv:2209.02604)",
    "mustard": f"{_TELEVISION} (Castro et al. 2019, ACL P19-1455)",
    "meld": f"{_TELEVISION} (Poria et al. 2019, arXiv:1810.02508)",
    "urfunny": f"{_TED} (Hasan et al. 2019, arXiv:1904.06618)",
    "iemocap": f"{_SIGNED} (Busso et al. 2008, doi:10.1007/s10579-008-9076-6)",
    "improv": f"{_SIGNED} (MSP-IMPROV, Busso et al. 2017, doi:10.1109/TAFFC.2016.2515617)",
}
# Corpora that anyone may publish: synthetic, without real people.
FREE = frozenset({"puppets"})

_GAP = r"[\W_]{0,3}"
# Names as they are written in lower case, those in full last; `mosi` is in no word such as `osmosis`.
_SPELLINGS = {
    "mosei": r"(?:cmu)?mosei|opinion sentiment and emotion intensity",
    "mosi": r"(?:cmu)?mosi|multimodal opinion(?:-level)? sentiment intensity",
    "simsv2": rf"(?:ch)?sims{_GAP}v?{_GAP}2(?:\.0)?s?",
    "sims": r"(?:ch)?sims",
    "mustard": r"mustard(?:pp|plus(?:plus)?)?|multimodal sarcasm detection dataset",
    "meld": r"meld|multimodal emotionlines dataset",
    "urfunny": rf"ur{_GAP}funny",
    "iemocap": r"iemocap|interactive emotional dyadic motion capture",
    "improv": r"(?:msp)?improv",
}
# What is written close behind a name: of a version, a part or a format.
_MORE = r"(?:v\d\w*|raw|data|dataset|full|clips?|videos?|train|valid|test|mini|small|aligned|unaligned)?"
_NAMES = {
    name: re.compile(rf"(?<![^\W\d_])(?:{spelling}){_MORE}(?![^\W\d_])")
    for name, spelling in _SPELLINGS.items()
}
# Licences that keep a row with whoever has it, whatever its corpus.
_KEPT = re.compile(
    r"\bND\b|no.?deriv|no.{0,20}redistribut|not.{0,20}redistribut|all rights reserved|research|proprietary",
    re.IGNORECASE,
)
_CARD_LICENSE = re.compile(r"^license(?:_name)?: *(.+)$", re.MULTILINE)
_RECIPE = re.compile(r"\S+\.ya?ml\b")  # a recipe that is named after a corpus is used with others, too


def guarded(text: str) -> str | None:
    """The key in `TERMS` of a corpus that a text names, in any of its spellings; None if it names none."""
    text = unicodedata.normalize("NFKC", text)
    # `rawMosi` is two words, and `MUStARD` is one.
    written = f"{text} {re.sub(r'(?<=[a-z])(?=[A-Z])', ' ', text)}".lower()
    return next((name for name, pattern in _NAMES.items() if pattern.search(written)), None)


def check_store(store: Path, table: pyarrow.Table, repo: str, *, public: bool) -> None:
    """Refuse a store whose rows may not be re-published.

    Args:
        store: Its folder.
        table: Its rows without the media.
        repo: The repository that it is pushed to.
        public: Whether that is public.

    Raises:
        UsageError: If they may not, or this cannot be known.
    """
    card = (store / "README.md").read_text(encoding="utf-8")
    told = {"the repository's name": repo, "README.md": card} | _origin(made_by(store))
    told["the rows' ids"] = " ".join(sorted({row_id.partition("/")[0] for row_id in _values(table, "id")}))
    licenses = _values(table, "license") | set(_CARD_LICENSE.findall(card))
    check_terms(_values(table, "corpus"), public=public, licenses=licenses, told=told)


def check_terms(
    corpora: Collection[str | None],
    *,
    public: bool,
    licenses: Collection[str | None] = (),
    told: Mapping[str, str] | None = None,
) -> None:
    """Refuse corpora that may not be re-published.

    A corpus with unknown terms may be kept in a private repository; publishing it is its owner's decision.

    Args:
        corpora: What the rows' column `corpus` has.
        public: Whether they would be public.
        licenses: What the rows' column `license` has.
        told: Other texts about the rows, by the place where they stand.

    Raises:
        UsageError: If one of them may not.
    """
    for corpus in sorted(corpora, key=str):
        name = guarded(str(corpus))
        reason = TERMS[name] if name else None
        if reason is None and public and corpus not in FREE:
            reason = "its terms are not known, and a public dataset shows people's faces and voices to all"
        if reason:
            raise _refusal(f"the corpus {corpus!r}", reason)
    for text in sorted(filter(None, licenses)):
        name = guarded(text)
        if name or _KEPT.search(text):
            reason = TERMS[name] if name else "it does not let others pass its rows on"
            raise _refusal(f"what has the license {text!r}", reason)
    for place, text in (told or {}).items():
        name = guarded(text)
        if name:
            raise _refusal(f"a store that names {name} in {place}", f"of {name}, {TERMS[name]}")


def _origin(settings: dict[str, Any]) -> dict[str, str]:
    """What a store's settings say of where its rows are from, by the key."""
    config = settings.get("config") or {}
    chosen = {key: config[key] for key in ("name", "path") if key in config}
    keys = ("title", "description", "notes", "inputs", "command", "corpus", "license")
    values = {key: settings[key] for key in keys if key in settings} | {"config": chosen}
    texts = {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
    return {f"settings.json, {key}": _RECIPE.sub("", text) for key, text in texts.items()}


def _values(table: pyarrow.Table, column: str) -> set[Any]:
    return set(table[column].unique().to_pylist()) if column in table.column_names else set()


def _refusal(what: str, reason: str) -> UsageError:
    return UsageError(
        f"push: {what} is not pushed: {reason}. If you have its owners' permission, give --i-have-the-rights"
    )
