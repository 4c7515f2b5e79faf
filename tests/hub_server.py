"""A small stand-in for the Hugging Face Hub, on the loopback address and in memory.

It speaks what the real client says when a dataset is created, uploaded and read back: who am I,
repository creation, the pre-upload question, the LFS batch protocol with verification, commits,
the tree, and files by revision. Large files go by LFS: clients run with HF_HUB_DISABLE_XET=1.
Nothing else of the Hub is here; an unknown address answers 404.

Each call can be made to fail as it does in the wild: see `Fault`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

BRANCH = "main"
INLINE_BYTES = 10 * 2**20  # larger files are stored by LFS, and .parquet always is
TIME = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class Stored:
    """A file in a repository."""

    content: bytes
    lfs: bool

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def git_oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        """The file as the tree lists it."""
        size = len(self.content)
        entry = {"type": "file", "path": path, "size": size, "oid": self.git_oid}
        if self.lfs:
            entry["lfs"] = {"oid": self.sha256, "size": size, "pointerSize": 130}
        return entry


@dataclass
class Repository:
    """A dataset: every commit's files by path."""

    private: bool
    head: str = "0" * 40
    commits: dict[str, dict[str, Stored]] = field(default_factory=lambda: {"0" * 40: {}})

    @property
    def files(self) -> dict[str, Stored]:
        return self.commits[self.head]

    def at(self, revision: str) -> tuple[str, dict[str, Stored]]:
        """The commit that a revision names, and its files."""
        oid = self.head if revision == BRANCH else revision
        if oid not in self.commits:
            raise Refusal(404, f"no revision {revision}", "RevisionNotFound")
        return oid, self.commits[oid]

    def commit(self, files: dict[str, Stored]) -> str:
        names = sorted((path, file.sha256) for path, file in files.items())
        self.head = hashlib.sha1(json.dumps([self.head, names]).encode()).hexdigest()
        self.commits[self.head] = files
        return self.head


@dataclass(frozen=True)
class Request:
    """One request, for tests to look at."""

    call: str
    """The name of its method below, empty if there is none."""
    method: str
    path: str
    authorized: bool


@dataclass
class Fault:
    """What goes wrong with a call."""

    call: str
    """As in `Request`."""
    times: int = 1
    """How often, from the first request after `skip` on."""
    skip: int = 0
    """Requests before it that go well."""
    status: int | None = None
    """The status of an answer in the place of the right one; None lets the call happen."""
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""
    """Body of the answer in the place of the right one."""
    keep: float = 1.0
    """The share of the answer's bytes after which the connection is reset; below 0, there is none at all."""
    delay_s: float = 0.0
    """Seconds before the answer."""
    before: Callable[[], object] = lambda: None
    """Called first, while the client waits."""


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, code: str = "", **more: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Code": code, "X-Error-Message": message}
        self.content = json.dumps({"error": message, **more}).encode()


class StandInHub:
    """The server and what it holds; serves while it is entered.

    Args:
        tokens: The user that each access token belongs to.
    """

    def __init__(self, tokens: dict[str, str]) -> None:
        self.tokens = tokens
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.loses: set[str] = set()
        """Paths that commits leave out without a word, to try the client's check."""
        self.faults: list[Fault] = []
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: StandInHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer's body would wait for 40 ms

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""

    def do_GET(self) -> None:
        self._answer("GET")

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        self.body = self._read_body()
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query)
        handle, arguments = self._find(method, parts.path)
        call = handle.__name__ if handle else ""
        self.hub.requests.append(Request(call, method, parts.path, self._user() is not None))
        fault = self._fault(call)
        fault.before()
        if fault.status is not None:
            status, headers, content = fault.status, fault.headers, fault.content
        else:
            status, headers, content = self._handled(handle, arguments)
        time.sleep(fault.delay_s)
        if fault.keep < 0:
            return self._reset()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if method != "HEAD":
            self.wfile.write(content[: int(fault.keep * len(content))])
        if fault.keep < 1:
            self._reset()

    def _fault(self, call: str) -> Fault:
        for fault in self.hub.faults:
            if fault.call == call and fault.skip:
                fault.skip -= 1
            elif fault.call == call and fault.times:
                fault.times -= 1
                return fault
        return Fault("")

    def _reset(self) -> None:
        """Close the connection as a crashed machine's does, by RST."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _find(self, method: str, path: str) -> tuple[Callable[..., Any] | None, list[str]]:
        for methods, pattern, handle in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method in methods:
                return handle, [unquote(part or "") for part in match.groups()]
        return None, []

    def _handled(
        self, handle: Callable[..., Any] | None, arguments: list[str]
    ) -> tuple[int, dict[str, str], bytes]:
        try:
            if handle is None:
                raise Refusal(404, f"the stand-in knows no {self.command} {self.path}")
            result = handle(self, *arguments)
        except Refusal as refusal:
            return refusal.status, refusal.headers, refusal.content
        if isinstance(result, tuple):
            return result
        return 200, {"Content-Type": "application/json"}, json.dumps(result).encode()

    def _user(self) -> str | None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        return self.hub.tokens.get(token)

    def _known_user(self) -> str:
        user = self._user()
        if user is None:
            raise Refusal(401, "Invalid username or password.")
        return user

    def _writable(self, repo_id: str) -> Repository:
        if self._known_user() != repo_id.split("/")[0]:
            raise Refusal(403, "You don't have the rights to write to this repository.")
        return self._readable(repo_id)

    def _readable(self, repo_id: str) -> Repository:
        repository = self.hub.repositories.get(repo_id)
        owner = self._user() == repo_id.split("/")[0]
        if repository is None or (repository.private and not owner):
            raise Refusal(404 if self._user() else 401, "Repository not found", "RepoNotFound")
        return repository

    def whoami(self) -> Any:
        return {"type": "user", "name": self._known_user(), "orgs": [], "auth": {"type": "access_token"}}

    def create(self) -> Any:
        asked, user = json.loads(self.body), self._known_user()
        owner = asked.get("organization") or user
        if owner != user:
            raise Refusal(403, f"You don't have the rights to create a dataset under the namespace {owner!r}")
        repo_id = f"{owner}/{asked['name']}"
        url = f"{self.hub.endpoint}/datasets/{repo_id}"
        if repo_id in self.hub.repositories:
            raise Refusal(409, "You already created this dataset repo", url=url)
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.repositories[repo_id] = Repository(private)
        return {"url": url}

    def harnesses(self) -> Any:
        """What the client asks for once a day, for its statistics, and can do without."""
        raise Refusal(404, "no list of agents")

    def validate_yaml(self) -> Any:
        return {"errors": [], "warnings": []}

    def preupload(self, repo_id: str, revision: str) -> Any:
        _, files = self._writable(repo_id).at(revision)
        asked = json.loads(self.body)["files"]
        return {"files": [self._upload_mode(file, files.get(file["path"])) for file in asked]}

    @staticmethod
    def _upload_mode(asked: dict[str, Any], there: Stored | None) -> dict[str, Any]:
        lfs = asked["path"].endswith(".parquet") or asked["size"] > INLINE_BYTES
        answer = {"path": asked["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
        if there:
            answer["oid"] = there.sha256 if there.lfs else there.git_oid
        return answer

    def batch(self, repo_id: str) -> Any:
        self._writable(repo_id)
        return {"transfer": "basic", "objects": list(map(self._actions, json.loads(self.body)["objects"]))}

    def _actions(self, asked: dict[str, Any]) -> dict[str, Any]:
        answer = {"oid": asked["oid"], "size": asked["size"]}
        if asked["oid"] not in self.hub.objects:
            href = f"{self.hub.endpoint}/objects/{asked['oid']}"
            answer["actions"] = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
        return answer

    def put_object(self, oid: str) -> Any:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refusal(400, "the content has another SHA-256")
        self.hub.objects[oid] = self.body
        return {}

    def verify(self, oid: str) -> Any:
        if len(self.hub.objects.get(oid, b"")) != json.loads(self.body)["size"]:
            raise Refusal(422, "the object is missing or of another size")
        return {}

    def commit(self, repo_id: str, revision: str) -> Any:
        repository = self._writable(repo_id)
        files = dict(repository.at(revision)[1])
        for line in map(json.loads, self.body.splitlines()):
            if (
                line["key"] == "header"
                and line["value"].get("parentCommit", repository.head) != repository.head
            ):
                raise Refusal(412, "A commit has happened since. Please refresh and try again.")
            self._apply(line, files)
        oid = repository.commit({path: file for path, file in files.items() if path not in self.hub.loses})
        url = f"{self.hub.endpoint}/datasets/{repo_id}/commit/{oid}"
        return {"success": True, "commitUrl": url, "commitOid": oid, "pullRequestUrl": None}

    def _apply(self, line: dict[str, Any], files: dict[str, Stored]) -> None:
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = Stored(base64.b64decode(value["content"]), lfs=False)
        elif line["key"] == "lfsFile":
            if value["oid"] not in self.hub.objects:
                raise Refusal(400, f"no object {value['oid']} was uploaded")
            files[value["path"]] = Stored(self.hub.objects[value["oid"]], lfs=True)
        elif line["key"] == "deletedFile":
            if value["path"] not in files:
                raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
            del files[value["path"]]

    def info(self, repo_id: str, revision: str) -> Any:
        repository = self._readable(repo_id)
        oid, files = repository.at(revision or BRANCH)
        siblings = [{"rfilename": path} for path in files]
        about = {"id": repo_id, "sha": oid, "private": repository.private, "siblings": siblings}
        return {**about, "gated": False, "disabled": False, "tags": [], "lastModified": TIME}

    def tree(self, repo_id: str, revision: str, folder: str) -> Any:
        _, files = self._readable(repo_id).at(revision)
        recursive = self.query.get("recursive", ["false"])[0].lower() == "true"
        entries = _listing(files, folder.strip("/"), recursive)
        if folder and not entries:
            raise Refusal(404, f"no folder {folder}", "EntryNotFound")
        return entries

    def paths_info(self, repo_id: str, revision: str) -> Any:
        _, files = self._readable(repo_id).at(revision)
        asked = parse_qs(self.body.decode())["paths"]
        everything = {entry["path"]: entry for entry in _listing(files, "", recursive=True)}
        return [everything[path] for path in asked if path in everything]

    def resolve(self, repo_id: str, revision: str, path: str) -> tuple[int, dict[str, str], bytes]:
        oid, files = self._readable(repo_id).at(revision)
        if path not in files:
            raise Refusal(404, f"no file {path}", "EntryNotFound")
        file = files[path]
        etag = file.sha256 if file.lfs else file.git_oid
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": oid, "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not wanted:
            return 200, headers, file.content
        start, end = int(wanted[1]), int(wanted[2] or len(file.content) - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{len(file.content)}"
        return 206, headers, file.content[start : end + 1]


def _listing(files: dict[str, Stored], folder: str, recursive: bool) -> list[dict[str, Any]]:
    """The folders and files below a folder, as the tree lists them."""
    start = f"{folder}/" if folder else ""
    entries = [file.entry(path) for path, file in files.items() if path.startswith(start)]
    folders = {path.rsplit("/", 1)[0] for path in files if "/" in path and path.startswith(start)} - {folder}
    entries += [
        {"type": "directory", "path": path, "oid": hashlib.sha1(path.encode()).hexdigest()}
        for path in folders
    ]
    return [entry for entry in entries if recursive or "/" not in entry["path"].removeprefix(start)]


_REPOSITORY = r"([^/]+/[^/]+)"
_ROUTES: list[tuple[tuple[str, ...], str, Callable[..., Any]]] = [
    (("GET",), r"/api/whoami-v2", _Handler.whoami),
    (("POST",), r"/api/repos/create", _Handler.create),
    (("GET",), r"/api/agent-harnesses", _Handler.harnesses),
    (("POST",), r"/api/validate-yaml", _Handler.validate_yaml),
    (("POST",), rf"/api/datasets/{_REPOSITORY}/preupload/([^/]+)", _Handler.preupload),
    (("POST",), rf"/datasets/{_REPOSITORY}\.git/info/lfs/objects/batch", _Handler.batch),
    (("PUT",), r"/objects/([0-9a-f]{64})", _Handler.put_object),
    (("POST",), r"/objects/([0-9a-f]{64})/verify", _Handler.verify),
    (("POST",), rf"/api/datasets/{_REPOSITORY}/commit/([^/]+)", _Handler.commit),
    (("GET",), rf"/api/datasets/{_REPOSITORY}(?:/revision/([^/]+))?", _Handler.info),
    (("GET",), rf"/api/datasets/{_REPOSITORY}/tree/([^/]+)(?:/(.+))?", _Handler.tree),
    (("POST",), rf"/api/datasets/{_REPOSITORY}/paths-info/([^/]+)", _Handler.paths_info),
    (("GET", "HEAD"), rf"/datasets/{_REPOSITORY}/resolve/([^/]+)/(.+)", _Handler.resolve),
]
