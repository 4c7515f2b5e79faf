"""Push a store to the Hugging Face Hub as a dataset repository.

One commit holds the whole store, so readers see either the old dataset or the new one. Large files are sent
before the commit; files that the Hub has already are not sent again, so an interrupted push is repeated with
the same command. Afterwards every file's size and checksum are read back from the Hub and compared.

The data files that the card names, the card, and the records of how the rows were made are pushed, without
the paths of this machine. Work in progress, status and indices are not. A store that changes meanwhile is not
pushed, and a repository that somebody else changes meanwhile is left to them.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import UsageError, listed
from pipelines.hub.local_paths import clean_record, clean_shard
from pipelines.hub.request_retries import PushError, patience, told
from pipelines.hub.terms import check_store
from pipelines.store import StoreReader, shards

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.hf_api import RepoFile

# Files beside the data files; the card makes a folder a store, the others may be missing.
RECORDS = (
    "README.md", "settings.json", "calibration.json", "calibration.svg", "pairs.jsonl", "weights.json",
    "weights.svg", "failures.jsonl",
)  # fmt: skip
_OURS = re.compile(rf"data/[^/]+\.parquet|{'|'.join(map(re.escape, RECORDS))}")

Files = dict[str, Path | bytes]
"""What is sent by its path in the repository: a file, or a record's content."""
State = dict[str, tuple[int, ...]]


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
        LocalPathError: If a file cannot be rid of this machine's paths.
        PushError: If the Hub refuses, cannot be reached, or has other files afterwards, or the store changes.
    """
    _check_name(repo)
    before = _state(store)
    reader = StoreReader(store)
    if not i_have_the_rights:
        check_store(store, reader.table, repo, public=public)
    with tempfile.TemporaryDirectory(prefix="daq-msa-push-") as folder:
        files = _copies(store, Path(folder), say)
        say(f"{store} -> datasets/{repo} ({'public' if public else 'private'}), {len(reader)} rows")
        sizes = {path: _size(content) for path, content in files.items()}
        for path, size in sizes.items():
            say(f"{size:>15,}  {path}")
        say(f"{sum(sizes.values()):>15,}  bytes in {len(files)} files")
        if dry_run:
            say("dry run: nothing was sent")
            return None
        with patience(repo, token, say):
            url = _send(store, before, files, repo, private=not public, token=token)
    say(told(f"{len(reader)} rows in {len(files)} files, sizes and checksums as sent: {url}", token))
    return url


def files_of(store: Path) -> Iterator[str]:
    """The paths in a store that belong to the dataset, data files first."""
    yield from (path.relative_to(store).as_posix() for path in shards(store))
    yield from (name for name in RECORDS if (store / name).is_file())


def _state(store: Path) -> State:
    """What tells whether one of a store's files was replaced or written to."""
    stats = {path: (store / path).stat() for path in files_of(store)}
    return {path: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


def _check_state(store: Path, before: State) -> None:
    try:
        same = _state(store) == before
    except FileNotFoundError:
        same = False
    if not same:
        raise PushError(
            f"{store}: was changed while it was pushed, so it was not committed and the repository is as it"
            " was; push again when the stage that writes it has ended"
        )


def _copies(store: Path, folder: Path, say: Callable[[str], None]) -> Files:
    """The store's files without local paths; shards that had some are written anew to `folder`."""
    card = clean_record(store / "README.md")
    sent: Files = {}
    changed = []
    for shard in shards(store):
        copy = clean_shard(shard, folder)
        sent[f"{shard.parent.relative_to(store).as_posix()}/{copy.name}"] = copy
        if copy != shard:
            card = card.replace(shard.name.encode(), copy.name.encode())
            changed.append(shard.name)
    for name in (name for name in RECORDS if (store / name).is_file()):
        content = card if name == "README.md" else clean_record(store / name)
        sent[name] = content
        if content != (store / name).read_bytes():
            changed.append(name)
    if changed:
        say(f"without the paths of this machine: {listed(changed)}")
    return sent


def _size(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _check_name(repo_id: str) -> None:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UsageError(f"push: {repo_id!r} is no name of a repository: {error}") from error
    if "/" not in repo_id:
        raise UsageError(f"push: {repo_id!r} lacks its owner; give USER/NAME, as in your-name/{repo_id}")


def _send(store: Path, before: State, files: Files, repo_id: str, *, private: bool, token: str | None) -> str:
    """Create the repository, commit the files, and verify them; returns the commit's address."""
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(token=token)
    api.whoami()  # a missing or refused token is noticed before gigabytes are read
    api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
    head, is_private = _head(api, repo_id)
    if is_private != private:
        state, option = ("private", "without --public") if is_private else ("public", "with --public")
        raise PushError(
            f"{repo_id} exists and is {state}, so nothing was sent; push {option}, or change the repository's"
            " visibility in its settings on the Hub first"
        )
    # Files of an earlier push are deleted; those of others (.gitattributes, a licence) stay.
    gone = sorted(path for path in _remote_files(api, repo_id, head) if _OURS.fullmatch(path))
    gone = [path for path in gone if path not in files]
    try:
        additions = [CommitOperationAdd(path, content) for path, content in files.items()]
        api.preupload_lfs_files(repo_id, additions, repo_type="dataset", free_memory=False)
    except (OSError, ValueError, RuntimeError):
        _check_state(store, before)  # the reason, if a file has vanished
        raise
    _check_state(store, before)
    oid = _commit(api, repo_id, head, additions, gone)
    return f"{api.endpoint}/datasets/{repo_id}/commit/{oid}"


def _commit(api: HfApi, repo_id: str, head: str, additions: list[CommitOperationAdd], gone: list[str]) -> str:
    """Commit on top of `head`, and compare; returns the commit."""
    from huggingface_hub import CommitOperationDelete
    from huggingface_hub.errors import HfHubHTTPError

    deletions = [CommitOperationDelete(path) for path in gone]
    message, moved = f"Push {len(additions)} files with daq-msa", False
    try:
        oid = api.create_commit(
            repo_id,
            [*additions, *deletions],
            repo_type="dataset",
            commit_message=message,
            parent_commit=head,
        ).oid
    except HfHubHTTPError as error:
        if error.response.status_code != 412:
            raise
        # The head has moved: by this commit, if its first answer was lost, or by another's.
        moved, (oid, _) = True, _head(api, repo_id)
    difference = _difference(api, repo_id, oid, additions, gone)
    if difference and moved:
        raise PushError(
            f"{repo_id} was changed by somebody else meanwhile, so nothing was committed; run the same"
            " command again to replace what they pushed: what has arrived is not sent twice"
        )
    if difference:
        raise PushError(
            f"{repo_id}: {difference} in commit {oid}; push again, and if it stays so, tell the Hub's support"
        )
    return oid


def _head(api: HfApi, repo_id: str) -> tuple[str, bool]:
    """The repository's newest commit, and whether it is private."""
    info = api.dataset_info(repo_id)
    if not isinstance(info.sha, str) or not isinstance(info.private, bool):
        raise ValueError(f"it lacks the commit or the visibility of {repo_id}")
    return info.sha, info.private


def _remote_files(api: HfApi, repo_id: str, revision: str) -> dict[str, RepoFile]:
    from huggingface_hub.hf_api import RepoFile

    tree = api.list_repo_tree(repo_id, recursive=True, revision=revision, repo_type="dataset")
    return {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}


def _difference(
    api: HfApi, repo_id: str, commit: str, additions: list[CommitOperationAdd], gone: Iterable[str]
) -> str | None:
    """How a commit differs from what was to be pushed. Equal checksums are equal files, so equal rows."""
    there = _remote_files(api, repo_id, commit)
    for addition in additions:
        remote = there.get(addition.path_in_repo)
        if remote is None or not _same(addition, remote):
            state = f"there with {remote.size} bytes and another checksum" if remote else "not there"
            size = addition.upload_info.size
            return f"{addition.path_in_repo} ({size} bytes) was sent, and it is {state}"
    left = [path for path in gone if path in there]
    return f"{left[0]} of an earlier push was deleted, and it is there" if left else None


def _same(addition: CommitOperationAdd, remote: RepoFile) -> bool:
    from huggingface_hub.utils.sha import git_hash

    if remote.size != addition.upload_info.size:
        return False
    if remote.lfs:
        return remote.lfs.sha256 == addition.upload_info.sha256.hex()
    with addition.as_file() as file:
        return remote.blob_id == git_hash(file.read())
