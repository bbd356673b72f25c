"""A real S3 server on loopback: that of moto, with faults on request."""

import logging
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

ENV = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "absent",
    "AWS_SHARED_CREDENTIALS_FILE": "absent",
    "NO_PROXY": "*",
}

CODES = {403: "AccessDenied", 500: "InternalError", 503: "SlowDown"}

Fault = Callable[[str, str], int | None]
"""Takes the method and the path of a request. Returns the status of an error, or None to answer the request."""


class S3Server:
    """The server. ``requests`` has the method and the path of each request, ``fault`` decides which of them fail.

    Requests are answered one at a time, because moto does not create objects exclusively with several threads."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.requests: list[tuple[str, str]] = []
        self.fault: Fault = lambda method, path: None
        self._lock = threading.Lock()
        self._moto: Any = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self.env = {**ENV, "AWS_ENDPOINT_URL": self.endpoint}
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def count(self, method: str, end: str) -> int:
        """Count the requests for paths that end like this."""
        return sum(one == method and path.endswith(end) for one, path in self.requests)

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        query = environ.get("QUERY_STRING", "")
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"] + (f"?{query}" if query else "")
        self.requests.append((method, path))
        status = self.fault(method, path)
        if status is None:
            with self._lock:
                return list(self._moto(environ, start_response))
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response(f"{status} Fault", [("Content-Type", "application/xml")])
        if method == "HEAD":
            return []
        return [f"<Error><Code>{CODES[status]}</Code><Message>A fault of the test.</Message></Error>".encode()]


class Bucket:
    """A bucket of the server. ``url`` is its address."""

    def __init__(self, server: S3Server, name: str) -> None:
        import s3fs

        self.server, self.name, self.url = server, name, f"s3://{name}"
        self._store: Any = s3fs.S3FileSystem(use_listings_cache=False)
        self._store.mkdir(name)

    def put(self, key: str, content: bytes) -> None:
        self._store.pipe_file(f"{self.name}/{key}", content)

    def read(self, key: str) -> bytes:
        return bytes(self._store.cat_file(f"{self.name}/{key}"))

    def remove(self, key: str) -> None:
        self._store.rm_file(f"{self.name}/{key}")

    def keys(self, below: str = "", suffix: str = "") -> list[str]:
        """The keys that start with ``below``, without it."""
        found = (key.removeprefix(f"{self.name}/") for key in self._store.find(self.name))
        return [key.removeprefix(below) for key in found if key.startswith(below) and key.endswith(suffix)]

    def uploads(self) -> int:
        """The multipart uploads that are neither complete nor aborted."""
        return len(self._store.call_s3("list_multipart_uploads", Bucket=self.name).get("Uploads", ()))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    for package in ("s3fs", "moto"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    server = S3Server()
    yield server
    server.close()


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A new bucket of a server without faults, which the environment names."""
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    s3_server.fault = lambda method, path: None
    made = Bucket(s3_server, f"bucket-{secrets.token_hex(4)}")
    s3_server.requests.clear()
    return made
