"""Requests to the Hugging Face Hub, through the HTTP client of huggingface_hub, within limits of time and size.

The download of huggingface_hub is not used, because it has no limit in time or size and uses headers of the server as
file names."""

import contextlib
import math
import queue
import re
import ssl
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, Self

from pcsr_cli.errors import HubError
from pcsr_cli.model.client import client, endpoint, find_token, http_session, short_message, unreachable

COMMIT = re.compile(r"[0-9a-f]{40}")
ETAG = re.compile(r'(?:W/)?("?)([0-9a-f]{40}|[0-9a-f]{64})\1')
"""git's blob sha1 of a small file, or the sha256 of a large one."""
MAX_REDIRECTS = 10
NOTICE_EVERY = 10.0
"""Seconds between two messages about a slow download."""

CHECK_CONNECTION = "Check HF_ENDPOINT, and the proxy between this machine and the Hub."

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Bounds:
    """Limits of one download, in seconds.

    ``connect`` limits the connection, and ``stall`` the time without new bytes. ``total`` limits the whole download,
    plus one second for every ``rate`` bytes that arrive. After ``notice`` seconds, the user gets a message."""

    connect: float = 5.0
    stall: float = 15.0
    total: float = 20.0
    rate: float = 16 * 1024
    notice: float = 3.0


USUAL = Bounds()
BRIEF = Bounds(connect=2.0)
"""The limits of a download that is not necessary, because pcsr can use another model."""

QUICK = Bounds(stall=5.0, total=5.0)
"""The limits of requests that download no file."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository on the Hub, its sha256 if that is known, and the largest accepted size in bytes.

    ``model`` is the user's name for the model."""

    model: str
    repo: str
    revision: str
    name: str
    sha256: str | None
    max_size: int

    @property
    def url(self) -> str:
        """The address on the Hub. Raises HubError for an invalid repository name."""
        try:
            return str(client().hf_hub_url(self.repo, self.name, revision=self.revision))
        except ValueError as error:
            raise HubError(f"{self.repo!r} is not a valid repository name.", "Use the form user/repo.") from error


@dataclass(frozen=True)
class Answer:
    """The commit, the hash and the size of a file, as the Hub states them. The content of the answer starts at byte
    ``start``."""

    commit: str
    etag: str
    size: int | None
    start: int = 0


class UnavailableError(HubError):
    """The Hub cannot provide a file at this time. ``why`` states the reason as a clause."""

    why = ""

    @classmethod
    def of(cls, file: RemoteFile, why: str, next_step: str = "") -> Self:
        """Return the error about ``file``."""
        later = "once online, or use a folder with config.json and model.safetensors."
        error = cls(f"Cannot fetch {file.repo}: {why}.", next_step or f"Run `pcsr models fetch {file.model}` {later}")
        error.why = why
        return error


class BrokenError(UnavailableError):
    """A connection ended too early. A second attempt to connect may succeed."""


class DamagedError(HubError):
    """The Hub sent another file than the one requested."""

    @classmethod
    def of(cls, file: RemoteFile, why: str) -> Self:
        """Return the error about ``file``. ``why`` states how the file differs from the request."""
        return cls(f"{file.name} of {file.repo} arrived damaged: {why}.", f"The file is not used. {CHECK_CONNECTION}")


_Event = Answer | bytes | Exception | None
"""The description of a file, a piece of its content (empty once the connection exists), an error, or None at the
end."""


class Transfer:
    """Requests one file into memory, within limits of time and size.

    A thread makes the requests and puts the received content into a queue, so that a slow name server or slow headers
    cannot delay the caller. ``content`` holds the bytes received so far. A second attempt continues after these bytes.
    """

    def __init__(self, file: RemoteFile, bounds: Bounds, notify: Notify | None = None) -> None:
        self.file = file
        self.content = bytearray()
        self._notify = notify
        self._bounds = bounds
        self._answer: Answer | None = None
        self._started = time.monotonic()
        self._next_notice = self._started + bounds.notice if notify else math.inf

    def request_metadata(self) -> Answer:
        """Return the Hub's description of the file. Raises the errors of ``receive``."""
        with contextlib.closing(self._events("HEAD")) as events:
            answer = next(events)
        assert isinstance(answer, Answer)
        return answer

    def receive(self) -> Answer:
        """Receive the whole content of the file. Raises HubError, UnavailableError, DamagedError."""
        with contextlib.closing(self._events("GET")) as events:
            for event in events:
                if isinstance(event, Answer):
                    self._begin(event)
                else:
                    self.content += event
                    if len(self.content) > min(self._size() or self.file.max_size, self.file.max_size):
                        raise DamagedError.of(self.file, "the file is larger than it should be")
        assert self._answer is not None
        if len(self.content) < (self._size() or 0):
            raise BrokenError.of(self.file, f"the Hub ({endpoint()}) stopped sending: {self._progress()} arrived")
        return self._answer

    def _begin(self, answer: Answer) -> None:
        """Prepare for the content of an answer. This content may continue the content of an earlier answer."""
        if answer.start == 0 or self._answer is None or answer.etag != self._answer.etag:
            self.content.clear()
        if answer.start != len(self.content):
            raise DamagedError.of(self.file, "the rest does not continue where the download was interrupted")
        self._answer = answer

    def _events(self, method: str) -> Generator[Answer | bytes, None, None]:
        """Make a request. Yield the checked answer, then the content in pieces."""
        if client().constants.HF_HUB_OFFLINE:
            raise UnavailableError.of(self.file, "HF_HUB_OFFLINE forbids requests")
        events: queue.Queue[_Event] = queue.Queue(maxsize=16)
        stopped = threading.Event()
        timeout = 2 * self._bounds.stall  # only matters when nobody reads the events any more

        def put(event: _Event) -> None:
            if stopped.is_set():
                raise queue.Full
            events.put(event, timeout=timeout)

        def work() -> None:
            end: Exception | None = None
            try:
                _request(self.file, method, len(self.content), timeout, put)
            except Exception as error:  # the HTTP library raises more than documented
                end = error
            with contextlib.suppress(queue.Full):
                put(end)

        threading.Thread(target=work, daemon=True).start()
        connected = False
        try:
            while (event := self._next(events, connected)) is not None:
                if isinstance(event, Exception):
                    raise self._explained(event) from event
                connected = True
                if isinstance(event, Answer):
                    self._check(event)
                if event:
                    yield event
        finally:
            stopped.set()

    def _check(self, answer: Answer) -> None:
        """Raise DamagedError if the commit, hash or size is not the required one."""
        file = self.file
        if COMMIT.fullmatch(file.revision) and answer.commit != file.revision:
            raise DamagedError.of(file, f"the file comes from the commit {answer.commit} instead of {file.revision}")
        if file.sha256 and len(answer.etag) == 64 and answer.etag != file.sha256:
            raise DamagedError.of(file, f"the sha256 is {answer.etag} instead of {file.sha256}")
        if answer.size is not None and answer.size > file.max_size:
            raise DamagedError.of(file, f"the file has {answer.size:,} bytes instead of at most {file.max_size:,}")

    def _next(self, events: queue.Queue[_Event], connected: bool) -> _Event:
        """Wait for the next event. Raises UnavailableError if the wait is too long."""
        bounds, now = self._bounds, time.monotonic()
        last = self._started + bounds.total + len(self.content) / bounds.rate
        end = min(last, now + (bounds.stall if connected else bounds.connect))
        while now < end:
            if self._notify and now >= self._next_notice:
                self._next_notice = now + NOTICE_EVERY
                self._notify(f"Waiting for {self.file.name} of {self.file.repo}: {self._progress()}.")
            with contextlib.suppress(queue.Empty):
                return events.get(timeout=min(self._next_notice, end) - now)
            now = time.monotonic()
        if not connected:
            raise UnavailableError.of(self.file, unreachable())
        late = "does not respond" if self._answer is None else f"sends too slowly: {self._progress()} arrived"
        kind = UnavailableError if now >= last else BrokenError
        raise kind.of(self.file, f"the Hub ({endpoint()}) {late}")

    def _size(self) -> int | None:
        return self._answer.size if self._answer else None

    def _progress(self) -> str:
        size = self._size()
        return f"{len(self.content):,}{'' if size is None else f' of {size:,}'} bytes"

    def _explained(self, error: BaseException) -> Exception:
        """Convert an exception of a request to an error that states the reason."""
        if isinstance(error, HubError | MemoryError):
            return error
        hub = f"the Hub ({endpoint()})"
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                why = f"the certificate of {hub} is not accepted ({cause.verify_message})"
                return UnavailableError.of(self.file, why, "Check SSL_CERT_FILE, SSL_CERT_DIR, clock and proxy.")
            if isinstance(cause, ssl.SSLError) and self._answer is None:
                return UnavailableError.of(self.file, f"{hub} does not open a secure connection")
            if type(cause).__name__ == "ProxyError":
                return UnavailableError.of(self.file, f"the proxy refuses to connect to {hub} ({short_message(cause)})")
            cause = cause.__cause__ or cause.__context__
        if self._answer is None:
            return BrokenError.of(self.file, unreachable())
        return BrokenError.of(self.file, f"{hub} stopped sending: {self._progress()} arrived")


def _request(file: RemoteFile, method: str, offset: int, timeout: float, put: Callable[[_Event], None]) -> None:
    """Request a file, follow redirects, and ``put`` the answer and the content from byte ``offset``.

    The first response with a commit describes the file, because the Hub redirects to another host for large files. The
    HTTP client does not send the token to another host."""

    def trace(name: str, _: object) -> None:
        if name.endswith("send_request_headers.started"):
            put(b"")

    session, token, answer = http_session(), find_token(), None
    headers = {"User-Agent": "pcsr", "Accept-Encoding": "identity"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if offset:
        headers["Range"] = f"bytes={offset}-"
    extensions = {"trace": trace}
    request = session.build_request(method, file.url, headers=headers, timeout=timeout, extensions=extensions)
    for _ in range(MAX_REDIRECTS):
        with contextlib.closing(session.send(request, stream=True, follow_redirects=False)) as response:
            answer = answer or _read_headers(response.headers)
            if response.next_request and not (answer and method == "HEAD"):
                request = response.next_request
                continue
            if response.status_code >= 400:
                with_token = token is not None and "Authorization" in request.headers
                raise _refusal(file, response.status_code, response.headers.get("X-Error-Code"), with_token)
            if answer is None:
                break
            partial = re.match(r"bytes (\d{1,15})-", response.headers.get("Content-Range", ""))
            start = int(partial[1]) if partial else 0
            length = _length(response.headers.get("Content-Length"))
            if answer.size is None and length is not None:
                answer = replace(answer, size=start + length)
            put(replace(answer, start=start))
            if method == "GET":
                for piece in response.iter_raw():
                    put(piece)
            return
    raise UnavailableError.of(
        file, f"the server at {endpoint()} is not a Hub", "Check HF_ENDPOINT, or log in to the network."
    )


def _read_headers(headers: Any) -> Answer | None:
    """The file that a response describes; None unless the commit and the ETag of the response are hashes."""
    commit = COMMIT.fullmatch(headers.get("X-Repo-Commit", ""))
    etag = ETAG.fullmatch(headers.get("X-Linked-Etag") or headers.get("ETag", ""))
    return Answer(commit[0], etag[2], _length(headers.get("X-Linked-Size"))) if commit and etag else None


def _length(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"[0-9]{1,15}", text) else None


def _refusal(file: RemoteFile, status: int, code: str | None, with_token: bool) -> Exception:
    """The error for a response with an error status. ``code`` is the error code of the Hub."""
    repo, hub = file.repo, f"the Hub ({endpoint()})"
    if code == "GatedRepo":
        return HubError(f"{repo} is gated.", "Request access on the page of the repository, then set HF_TOKEN.")
    if code == "RevisionNotFound":
        step = "Use a branch, tag or commit of the repository."
        return HubError(f"{repo} has no revision {file.revision}.", step)
    if code == "EntryNotFound":
        return HubError(f"{repo} lacks {file.name}.", "Use a PCSR model.")
    if code == "RepoNotFound" or (status == 401 and not with_token):
        step = "If the repository is private, set HF_TOKEN to a valid token."
        return HubError(f"The Hub has no repository {repo}.", step)
    if status == 401:
        return HubError(f"Cannot fetch {repo}: {hub} refuses the token.", "Renew or unset HF_TOKEN or the saved token.")
    why = f"the proxy refuses the request to {hub}" if status == 407 else f"{hub} responds with error {status}"
    if status in {408, 429} or status >= 500:
        return UnavailableError.of(file, why)
    return HubError(f"Cannot fetch {repo}: {why}.", CHECK_CONNECTION)
