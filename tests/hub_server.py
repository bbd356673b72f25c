"""A Hub on the loopback interface that answers HEAD and GET of /{repo}/resolve/{revision}/{file} like the real one.

The Hub stores weights as large files: ``resolve`` redirects to another host and sends the file's sha256 and size in
extra headers. ``resolve`` sends small files itself, with git's blob sha1 as their ETag.
"""

import hashlib
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


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
    host: str
    token: str | None
    range: str | None


@dataclass
class Answer:
    """An answer before it is sent. ``raw`` replaces the status line, the headers and the body. ``content`` is the whole
    file, also if a part of it was requested. After ``raw`` or a wrong length, the connection is closed."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: Iterable[bytes] = ()
    raw: Iterable[bytes] | None = None
    content: bytes = b""


Tamper = Callable[[Request, Answer], None]


class Hub:
    """The server, in its own threads. A test may set ``tamper``, which changes the true answers, at any time."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.tamper: Tamper | None = None
        self.requests: list[Request] = []
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

    def use_tls(self, certificate: Path, key: Path) -> None:
        """Require TLS from now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def close(self) -> None:
        """Stop the server and free its port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: Request) -> Answer:
        """The true answer."""
        if request.path.startswith("/large/"):
            return self._large(request)
        repo, found, rest = request.path.removeprefix("/").partition("/resolve/")
        if not found or "/" not in rest:
            return Answer(404)
        revision, _, name = rest.rpartition("/")
        repository = self.repositories.get(repo)
        if repository is None or (repository.token is not None and request.token != repository.token):
            return Answer(401, {"X-Error-Code": "RepoNotFound"})
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            return Answer(404, {"X-Error-Code": "RevisionNotFound"})
        content = repository.commits[commit].get(name)
        if content is None:
            return Answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        headers = {"X-Repo-Commit": commit}
        if name.endswith(".safetensors"):
            sha256 = hashlib.sha256(content).hexdigest()
            headers |= {"Location": f"http://localhost:{self.port}/large/{sha256}", "X-Linked-Etag": f'"{sha256}"'}
            return Answer(302, headers | {"X-Linked-Size": str(len(content)), "Content-Length": "0"})
        return self._content(request, content, headers | {"ETag": f'"{git_sha1(content)}"'})

    def _large(self, request: Request) -> Answer:
        for repository in self.repositories.values():
            for files in repository.commits.values():
                for content in files.values():
                    if hashlib.sha256(content).hexdigest() == request.path.removeprefix("/large/"):
                        return self._content(request, content, {"ETag": '"of-another-kind"'})
        return Answer(404)

    def _content(self, request: Request, content: bytes, headers: dict[str, str]) -> Answer:
        if request.range is None:
            return Answer(200, headers | {"Content-Length": str(len(content))}, [content], content=content)
        start = int(request.range.removeprefix("bytes=").removesuffix("-"))
        headers |= {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        return Answer(206, headers | {"Content-Length": str(len(content) - start)}, [content[start:]], content=content)


def git_sha1(content: bytes) -> str:
    """git's hash of a file, the ETag of a small one."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def login_page(request: Request, answer: Answer) -> None:
    """Replace each answer by a page of HTML, as some networks do."""
    page = b"<html>Please log in to this network.</html>"
    answer.status, answer.headers, answer.body = 200, {"Content-Length": str(len(page))}, [page]


def on(part: str, change: Tamper) -> Tamper:
    """A change of the answers to requests whose path contains ``part``."""
    return lambda request, answer: change(request, answer) if part in request.path else None


def status(number: int, **headers: str) -> Tamper:
    """Answer with a status and nothing else."""

    def change(_: Request, answer: Answer) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer.status, answer.headers, answer.body = number, named, ()

    return change


def headers(**changed: str | None) -> Tamper:
    """Change or remove headers where they are."""

    def change(_: Request, answer: Answer) -> None:
        for name, value in changed.items():
            if name.replace("_", "-") in answer.headers and value is not None:
                answer.headers[name.replace("_", "-")] = value
            elif value is None:
                answer.headers.pop(name.replace("_", "-"), None)

    return change


def body(change: Callable[[bytes], Iterable[bytes]], **changed: str | None) -> Tamper:
    """Change the content."""

    def tamper(request: Request, answer: Answer) -> None:
        content = b"".join(answer.body)
        if content:
            answer.body = change(content)
            headers(**changed)(request, answer)

    return tamper


def redirect(target: str) -> Tamper:
    """Redirect to an address, which may contain the ``{path}`` and the ``{port}`` of the request."""

    def change(request: Request, answer: Answer) -> None:
        port = request.host.rpartition(":")[2]
        status(302, Location=target.format(path=request.path, port=port))(request, answer)

    return change


def raw(make: Callable[[], Iterable[bytes]]) -> Tamper:
    """Answer with these bytes and close the connection."""

    def change(_: Request, answer: Answer) -> None:
        answer.raw = make()

    return change


def once(change: Tamper) -> Tamper:
    """A change of the first answer only."""
    changes = iter([change])
    return lambda request, answer: next(changes, lambda request, answer: None)(request, answer)


def slowly(pieces: Iterable[bytes], seconds: float) -> Iterable[bytes]:
    """Pause before each piece."""
    for piece in pieces:
        time.sleep(seconds)
        yield piece


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], hub: Hub) -> None:
        super().__init__(address, handler)
        self.hub = hub

    def handle_error(self, request: object, client_address: object) -> None:
        """A client may close its connection at any time."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> None:
        assert isinstance(self.server, _Server)
        hub = self.server.hub
        authorization = self.headers.get("Authorization")
        token = None if authorization is None else authorization.removeprefix("Bearer ")
        path = unquote(self.path.partition("?")[0])
        request = Request(self.command, path, self.headers["Host"], token, self.headers.get("Range"))
        hub.requests.append(request)
        answer = hub.answer(request)
        if hub.tamper is not None:
            hub.tamper(request, answer)
        if answer.raw is not None:
            self.wfile.writelines(answer.raw)
            self.close_connection = True
            return
        self.send_response(answer.status)
        if not answer.body:
            answer.headers.setdefault("Content-Length", "0")
        for key, value in answer.headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            sent = 0
            for piece in answer.body:
                self.wfile.write(piece)
                sent += len(piece)
            self.close_connection = self.close_connection or str(sent) != answer.headers.get("Content-Length")
