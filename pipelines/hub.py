"""Push a store to the Hugging Face Hub as a dataset repository.

One commit holds the whole store, so readers see either the old dataset or the new one. Large files are sent
before the commit; files that the Hub has already are not sent again, so an interrupted push is repeated with
the same command. Afterwards every file's size and checksum are read back from the Hub and compared.

The data files that the card names, the card, and the records of how the rows were made are pushed. Work in
progress, status and indices are not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import RunError, UsageError
from pipelines.store import StoreReader, shards

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import RepoFile

# Files beside the data files; the card makes a folder a store, the others may be missing.
RECORDS = (
    "README.md", "settings.json", "calibration.json", "calibration.svg", "weights.json", "weights.svg",
    "failures.jsonl",
)  # fmt: skip

_YOUTUBE = "its clips are people's own YouTube videos, given out for research, with no licence to pass on"
_TELEVISION = "its clips are cut from films and television, whose owners keep the copyright"
_TED = "its clips are cut from TED talks, licensed CC BY-NC-ND: no derivatives may be passed on"
_SIGNED = "it is given out to those who sign a release form, each for their own use"

# Why a corpus may not be re-published, by a word of its name. A variant shows and says the same as its clip,
# so the terms hold for variants too.
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


class PushError(RunError):
    """A store could not be pushed, or its files on the Hub differ from those that were sent."""


def push(
    store: Path,
    repo: str,
    *,
    public: bool = False,
    dry_run: bool = False,
    i_have_the_rights: bool = False,
    token: str | None = None,
    say: Callable[[str], None] = print,
) -> str | None:
    """Push a store to a dataset repository, which then holds the store's files.

    The Hub is that of huggingface_hub (`HF_ENDPOINT`).

    Args:
        store: The store's folder.
        repo: `user/name` or `organization/name`; created if it does not exist.
        public: Make the repository public. An existing repository must have this visibility already.
        dry_run: Print what would be sent, check what can be checked without the Hub, and send nothing.
        i_have_the_rights: Push although the corpus' terms forbid it, or are unknown and the push is public.
        token: An access token; by default the one of `hf auth login` or `HF_TOKEN`.
        say: Prints the lines of the report.

    Returns:
        The address of the commit; None for a dry run.

    Raises:
        UsageError: If `repo` is not a repository's name, or the corpus may not be published.
        StoreError: If there is no store.
        PushError: If the Hub refuses, cannot be reached, or has other files afterwards.
    """
    _check_name(repo)
    reader = StoreReader(store)
    files = list(files_of(store))
    visibility = "public" if public else "private"
    say(f"{store} -> datasets/{repo} ({visibility}), {len(reader)} rows")
    sizes = {path: (store / path).stat().st_size for path in files}
    for path in files:
        say(f"{sizes[path]:>15,}  {path}")
    say(f"{sum(sizes.values()):>15,}  bytes in {len(files)} files")
    if not i_have_the_rights:
        check_terms(set(reader.table["corpus"].to_pylist()), public=public)
    if dry_run:
        say("dry run: nothing was sent")
        return None
    with _explained(repo):
        commit = _send(store, files, repo, private=not public, token=token)
    say(f"{len(reader)} rows in {len(files)} files, sizes and checksums as sent: {commit.commit_url}")
    return commit.commit_url


def files_of(store: Path) -> Iterator[str]:
    """The paths in a store that belong to the dataset, data files first."""
    yield from (path.relative_to(store).as_posix() for path in shards(store))
    yield from (name for name in RECORDS if (store / name).is_file())


def check_terms(corpora: set[str | None], *, public: bool) -> None:
    """Refuse corpora that may not be re-published.

    Names are compared word by word, so `CMU-MOSI` and `mosi_small` are MOSI. A corpus with unknown terms may
    be kept in a private repository; publishing it is its owner's decision.

    Raises:
        UsageError: If one of them may not.
    """
    for corpus in sorted(corpora, key=str):
        words = re.split(r"[\W_]+", str(corpus).lower())
        reason = next((TERMS[word] for word in words if word in TERMS), None)
        if reason is None and public and corpus not in FREE:
            reason = "its terms are not known, and a public dataset shows people's faces and voices to all"
        if reason:
            raise UsageError(
                f"push: the corpus {corpus!r} is not pushed: {reason}."
                " If you have its owners' permission, give --i-have-the-rights"
            )


def _check_name(repo_id: str) -> None:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UsageError(f"push: {repo_id!r} is no name of a repository: {error}") from error
    if "/" not in repo_id:
        raise UsageError(f"push: {repo_id!r} lacks its owner; give USER/NAME, as in your-name/{repo_id}")


def _send(store: Path, files: list[str], repo_id: str, *, private: bool, token: str | None) -> CommitInfo:
    """Create the repository, commit the files, and verify them."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(token=token)
    api.whoami()  # a missing or refused token is noticed before gigabytes are read
    api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
    is_private = bool(api.dataset_info(repo_id).private)
    if is_private != private:
        state, option = ("private", "without --public") if is_private else ("public", "with --public")
        raise PushError(
            f"{repo_id} exists and is {state}, so nothing was sent; push {option}, or change the repository's"
            " visibility in its settings on the Hub first"
        )
    additions = [CommitOperationAdd(path, store / path) for path in files]
    # Files of an earlier push are deleted; those of others (.gitattributes, a licence) stay.
    there = _remote_files(api, repo_id, "main")
    ours = {path for path in there if path in RECORDS or re.fullmatch(r"data/[^/]+\.parquet", path)}
    deletions = [CommitOperationDelete(path) for path in sorted(ours - set(files))]
    commit = api.create_commit(
        repo_id,
        [*additions, *deletions],
        repo_type="dataset",
        commit_message=f"Push {len(additions)} files with daq-msa",
    )
    _verify(api, repo_id, commit.oid, additions)
    return commit


def _remote_files(api: HfApi, repo_id: str, revision: str) -> dict[str, RepoFile]:
    from huggingface_hub.hf_api import RepoFile

    tree = api.list_repo_tree(repo_id, recursive=True, revision=revision, repo_type="dataset")
    return {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}


def _verify(api: HfApi, repo_id: str, commit: str, additions: list[CommitOperationAdd]) -> None:
    """Equal checksums are equal files, so the rows on the Hub are the store's."""
    there = _remote_files(api, repo_id, commit)
    for addition in additions:
        remote = there.get(addition.path_in_repo)
        if remote is None or not _same(addition, remote):
            state = f"there with {remote.size} bytes and another checksum" if remote else "not there"
            raise PushError(
                f"{repo_id}: {addition.path_in_repo} ({addition.upload_info.size} bytes) was sent, and in"
                f" commit {commit} it is {state}; push again, and if it stays so, tell the Hub's support"
            )


def _same(addition: CommitOperationAdd, remote: RepoFile) -> bool:
    from huggingface_hub.utils.sha import git_hash

    if remote.size != addition.upload_info.size:
        return False
    if remote.lfs:
        return remote.lfs.sha256 == addition.upload_info.sha256.hex()
    with addition.as_file() as file:
        return remote.blob_id == git_hash(file.read())


@contextmanager
def _explained(repo_id: str) -> Iterator[None]:
    """Turn the client's errors into messages that say what to do next, without the token."""
    from huggingface_hub import errors
    from huggingface_hub.constants import ENDPOINT

    try:
        yield
    except errors.LocalTokenNotFoundError as error:
        raise PushError("the Hub needs a token: log in with `hf auth login`, or set HF_TOKEN") from error
    except errors.OfflineModeIsEnabled as error:
        raise PushError("HF_HUB_OFFLINE is set, so nothing can be pushed; unset it and push again") from error
    except errors.HfHubHTTPError as error:
        raise PushError(f"{ENDPOINT} refused the push to {repo_id}: {_next_step(error, repo_id)}") from error
    except (errors.HTTPError, OSError, RuntimeError) as error:
        raise PushError(
            f"the push to {repo_id} on {ENDPOINT} broke off ({type(error).__name__}: {error});"
            " run the same command again: what has arrived is not sent twice"
        ) from error


def _next_step(error: HfHubHTTPError, repo_id: str) -> str:
    steps = {
        401: "it does not accept the access token; log in again with `hf auth login`, or renew HF_TOKEN",
        403: f"the access token may not write to {repo_id.split('/')[0]!r}; use one that may",
        404: "no such repository for this account; check the name and whose token it is",
        429: "too many requests; wait for some minutes and run the same command again",
    }
    status = error.response.status_code
    other = f"HTTP {status}, {error.server_message or 'no reason given'}; run the same command again"
    return steps.get(status, other)
