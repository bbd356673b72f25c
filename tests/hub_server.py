"""A Hub on the loopback interface that answers HEAD and GET of /{repo}/resolve/{revision}/{file} like the real one.

The Hub stores weights as large files: ``resolve`` redirects to another host and sends the file's sha256 and size in
extra headers. ``resolve`` sends small files itself, with git's blob sha1 as their ETag.
"""

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


class Trouble(Enum):
    """A fault of the Hub."""

    NO_REPOSITORY = auto()
    GATED = auto()
    FORBIDDEN = auto()
    BROKEN = auto()
    DAMAGES = auto()
    CUTS_SHORT = auto()
    SILENT = auto()
    CLOSES_CONNECTION = auto()
    NOT_A_HUB = auto()


@dataclass
class Repository:
    """One repository: files by commit, commits by branch. ``token`` is the token that a private one requires."""

    commits: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    token: str | None = None

    def add(self, folder: Path, branch: str = "main") -> str:
        """Commit the files of a folder to a branch. Returns the commit."""
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        content = b"".join(name.encode() + data for name, data in files.items())
        commit = hashlib.sha1(content + branch.encode()).hexdigest()
        self.commits[commit] = files
        self.branches[branch] = commit
        return commit


@dataclass(frozen=True)
class Request:
    """One request to the Hub."""

    method: str
    path: str
    token: str | None


class Hub:
    """The server, in its own threads. A test may set ``trouble`` and ``forged`` at any time.

    ``forged`` headers replace those of the answers to HEAD requests, after the first ``honest`` requests.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.trouble: Trouble | None = None
        self.forged: dict[str, str] = {}
        self.honest = 0
        self.requests: list[Request] = []
        self.released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler, self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def endpoint(self) -> str:
        """The value of HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.port}"

    def add(self, repo: str, folder: Path, branch: str = "main") -> str:
        """Commit the files of a folder to a branch of a repository. Returns the commit."""
        return self.repositories.setdefault(repo, Repository()).add(folder, branch)

    def paths(self, method: str = "GET") -> list[str]:
        """The paths of the requests with one method."""
        return [request.path for request in self.requests if request.method == method]

    def close(self) -> None:
        """Stop the server and free its port."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], hub: Hub) -> None:
        super().__init__(address, handler)
        self.hub = hub


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        pass

    @property
    def hub(self) -> Hub:
        assert isinstance(self.server, _Server)
        return self.server.hub

    def _answer(self) -> None:
        path = unquote(self.path)
        authorization = self.headers.get("Authorization")
        token = None if authorization is None else authorization.removeprefix("Bearer ")
        self.hub.requests.append(Request(self.command, path, token))
        if path.startswith("/large/"):
            return self._send_large(path.removeprefix("/large/"))
        repo, found, rest = path.removeprefix("/").partition("/resolve/")
        if not found or "/" not in rest:
            return self._refuse(404)
        revision, _, name = rest.rpartition("/")
        if self._in_trouble():
            return None
        return self._resolve(repo, revision, name, token)

    def _in_trouble(self) -> bool:
        """Answer according to ``trouble``. False if the request is to be answered normally."""
        match self.hub.trouble:
            case Trouble.NO_REPOSITORY:
                self._refuse(404, "RepoNotFound")
            case Trouble.GATED:
                self._refuse(403, "GatedRepo")
            case Trouble.FORBIDDEN:
                self._refuse(403)
            case Trouble.BROKEN:
                self._refuse(500)
            case Trouble.SILENT:
                self.hub.released.wait(60)
                self.close_connection = True
            case Trouble.CLOSES_CONNECTION:
                self.close_connection = True
            case Trouble.NOT_A_HUB:
                self._send(b"<html>Please log in to this network.</html>", {})
            case _:
                return False
        return True

    def _resolve(self, repo: str, revision: str, name: str, token: str | None) -> None:
        repository = self.hub.repositories.get(repo)
        if repository is None or (repository.token is not None and token != repository.token):
            return self._refuse(401, "RepoNotFound")
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            return self._refuse(404, "RevisionNotFound")
        content = repository.commits[commit].get(name)
        if content is None:
            return self._refuse(404, "EntryNotFound", {"X-Repo-Commit": commit})
        if name.endswith(".safetensors"):
            return self._redirect_to_large(commit, content)
        etag = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return self._send(content, {"X-Repo-Commit": commit, "ETag": f'"{etag}"'})

    def _redirect_to_large(self, commit: str, content: bytes) -> None:
        sha256 = hashlib.sha256(content).hexdigest()
        self.send_response(302)
        self.send_header("Location", f"http://localhost:{self.hub.port}/large/{sha256}")
        self._send_header("X-Repo-Commit", commit)
        self._send_header("X-Linked-Etag", f'"{sha256}"')
        self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_large(self, sha256: str) -> None:
        for repository in self.hub.repositories.values():
            for files in repository.commits.values():
                for content in files.values():
                    if hashlib.sha256(content).hexdigest() == sha256:
                        return self._send(content, {"ETag": '"of-another-kind"'})
        return self._refuse(404)

    def _send(self, content: bytes, headers: Mapping[str, str]) -> None:
        if self.command == "GET" and self.hub.trouble is Trouble.DAMAGES:
            content = content[:-1] + bytes([content[-1] ^ 1])
        if self.command == "GET" and self.hub.trouble is Trouble.CUTS_SHORT:
            content = content[: len(content) // 2]
        self.send_response(200)
        for key, value in headers.items():
            self._send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _refuse(self, status: int, code: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        if code is not None:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_header(self, key: str, value: str) -> None:
        forged = self.command == "HEAD" and len(self.hub.paths("HEAD")) > self.hub.honest
        self.send_header(key, self.hub.forged.get(key, value) if forged else value)
