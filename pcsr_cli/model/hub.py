"""Model files from the Hugging Face Hub, in huggingface_hub's standard cache.

huggingface_hub provides the settings (HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE) and the HTTP client. Its own
download is not used: it has no limit in time or size, and uses headers of the server as file names. Here a file reaches
the cache only after its commit, hash, size and format have been checked. Cached files are checked before each use. The
functions import huggingface_hub when they are called, because the import is slow and fails on an invalid HF_ENDPOINT.
"""

import contextlib
import hashlib
import json
import logging
import math
import os
import queue
import re
import secrets
import ssl
import threading
import time
import urllib.request
import warnings
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from pcsr_cli.errors import HubError, HubSettingError, OutputError
from pcsr_cli.images.files import atomic_write, exists, is_file, reason, remove_leftovers

COMMIT = re.compile(r"[0-9a-f]{40}")
REVISION = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")
ETAG = re.compile(r'(?:W/)?("?)([0-9a-f]{40}|[0-9a-f]{64})\1')
"""git's blob sha1 of a small file, or the sha256 of a large one."""
TOKEN = re.compile(r"[!-~]+")
LOGIN = re.compile(r"//.*@", re.DOTALL)
"""The user and the password in an address."""

MAX_CONFIG = 2**20
MAX_WEIGHTS = 2**28
"""The largest accepted files, in bytes."""
MAX_REDIRECTS = 10
NOTICE_EVERY = 10.0
"""Seconds between two messages about a slow download."""

Notify = Callable[[str], None]
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
CHECK_CONNECTION = "Check HF_ENDPOINT, and the proxy between this machine and the Hub."


@dataclass(frozen=True)
class HubLocation:
    """Two files of a Hub repository; ``revision`` is a commit, a branch or a tag.

    If given, the sha256 of each file and the ``size`` of the weights in bytes must match.
    """

    repo: str
    revision: str
    config: str = "config.json"
    weights: str = "model.safetensors"
    sha256: str | None = None
    config_sha256: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Fetched:
    """A model's files in the cache, and their commit. ``new`` lists those that were downloaded now."""

    config: Path
    weights: Path
    revision: str
    new: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Bounds:
    """Limits of one download, in seconds.

    ``connect`` limits the connection, ``stall`` the time without new bytes, ``total`` the whole, plus one second for
    every ``rate`` bytes that arrive. After ``notice`` the user gets a message.
    """

    connect: float = 5.0
    stall: float = 15.0
    total: float = 20.0
    rate: float = 16 * 1024
    notice: float = 3.0


QUICK = Bounds(stall=5.0, total=5.0)
"""The limits where nothing is downloaded."""


@dataclass(frozen=True)
class _File:
    """One of the two files of a location, at a revision."""

    location: HubLocation
    name: str
    revision: str

    @property
    def sha256(self) -> str | None:
        """The required sha256."""
        return self.location.sha256 if self.name == self.location.weights else self.location.config_sha256

    @property
    def max_size(self) -> int:
        """The largest accepted size in bytes."""
        return (self.location.size or MAX_WEIGHTS) if self.name == self.location.weights else MAX_CONFIG

    @property
    def url(self) -> str:
        """The address on the Hub."""
        return str(client().constants.HUGGINGFACE_CO_URL_TEMPLATE).format(
            repo_id=self.location.repo, revision=quote(self.revision, safe=""), filename=quote(self.name)
        )


@dataclass(frozen=True)
class _Answer:
    """What the Hub states about a file. The content follows from byte ``start``."""

    commit: str
    etag: str
    size: int | None
    start: int = 0


class _UnavailableError(Exception):
    """The Hub does not provide a file now. The arguments are the reason, as a clause, and what to do, if special."""

    def __init__(self, why: str, next_step: str = "") -> None:
        super().__init__(why)
        self.next_step = next_step

    def explained(self, before: str, name: str) -> HubError:
        """The error for the user, with what to do to have the model ``name``."""
        later = f"Run `pcsr models fetch {name}` once online, or use a folder with config.json and model.safetensors."
        return HubError(f"{before} {self}.", self.next_step or later)


class _BrokenError(_UnavailableError):
    """A connection ended too early. A second attempt may succeed."""


class _DamagedError(Exception):
    """The Hub sent another file than the one requested. The argument is what differs."""


def client() -> ModuleType:
    """The module huggingface_hub. Raises HubSettingError if its environment variables are invalid."""
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        parts = urlsplit(endpoint)
        valid = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # for example a port that is not a number
        valid = False
    if not valid or not endpoint.isprintable() or any(letter.isspace() for letter in endpoint):
        raise HubSettingError(
            f"HF_ENDPOINT is {_without_login(endpoint)!r}, which is not an http(s) address.",
            "Unset HF_ENDPOINT, or use https://huggingface.co.",
        )
    disabled = logging.root.manager.disable
    logging.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about variables without effect on pcsr, such as HF_HUB_ENABLE_HF_TRANSFER
            import huggingface_hub.constants
            import huggingface_hub.utils.logging
    except ValueError as error:
        names = [name for name, value in os.environ.items() if name.startswith("HF_") and value and value in str(error)]
        name = names[0] if names else "a variable of huggingface_hub"
        raise HubSettingError(f"The value of {name} is invalid.", "Correct or unset it.") from error
    finally:
        logging.disable(disabled)
    return huggingface_hub


def endpoint() -> str:
    """The address of the Hub, without a user and a password. Raises HubSettingError."""
    return _without_login(client().constants.ENDPOINT)


def _without_login(text: str) -> str:
    return LOGIN.sub("//", text)


def fetch(location: HubLocation, name: str, notify: Notify | None = None, bounds: Bounds = Bounds()) -> Fetched:
    """Download a model's files into the Hub cache, unless they are cached, and return their paths.

    ``name`` is the user's name for the model. ``notify`` is called with a message if a download is slow. A cached file
    of a commit is used without a request to the Hub. A damaged file is downloaded again. Raises HubError if the Hub is
    unreachable and a file is not cached, if the Hub refuses the request, or if a download is damaged.
    """
    if not REVISION.fullmatch(location.revision):
        raise HubError(f"{location.revision!r} is not a valid revision.", "Use a branch, tag or commit.")
    try:
        client().utils.validate_repo_id(location.repo)
    except ValueError as error:
        raise HubError(f"{location.repo!r} is not a valid repository name.", "The form is user/repo.") from error
    config, new_config = _fetch_file(_File(location, location.config, location.revision), name, notify, bounds)
    commit = revision_of(config)
    weights, new_weights = _fetch_file(_File(location, location.weights, commit), name, notify, bounds)
    new = [path for path, is_new in ((config, new_config), (weights, new_weights)) if is_new]
    return Fetched(config, weights, commit, tuple(new))


def reach(location: HubLocation, name: str) -> None:
    """Request the metadata of a model's config. Raises HubError unless the Hub returns the metadata."""
    file = _File(location, location.config, location.revision)
    try:
        _request_metadata(file)
    except _UnavailableError as error:
        raise error.explained(f"Cannot fetch {location.repo}:", name) from error
    except _DamagedError as error:
        raise _wrong_file(file, error) from error


def is_cached(location: HubLocation) -> bool:
    """Whether both files of a pinned location are in the cache. ``fetch`` checks the content of the files."""
    snapshot = _snapshot(location, location.revision)
    return is_file(snapshot / location.config) and is_file(snapshot / location.weights)


def is_whole_here(location: HubLocation) -> bool:
    """Whether both files of a pinned location are in the cache and undamaged."""
    snapshot = _snapshot(location, location.revision)
    config, weights = snapshot / location.config, snapshot / location.weights
    return is_whole(config, location.config_sha256) and is_whole(weights, location.sha256)


def is_whole(cached: Path, digest: str | None = None) -> bool:
    """Whether a cached file is undamaged.

    The content must match ``digest`` (sha256 or git's blob sha1), the hash in the file name, and the format.
    """
    try:
        if not cached.is_file() or cached.stat().st_size > MAX_WEIGHTS:
            return False
        name = cached.readlink().name if cached.is_symlink() else None
        return _is_valid(cached.read_bytes(), cached.suffix, digest, name)
    except OSError:
        return False


def _is_valid(content: bytes, suffix: str, *digests: str | None) -> bool:
    """Whether a file has these digests and its format: a .json is JSON, a .safetensors has a header and all bytes."""
    from safetensors import SafetensorError, deserialize

    if not all(_has_digest(content, digest) for digest in digests if digest):
        return False
    try:
        if suffix == ".json":
            json.loads(content)
        elif suffix == ".safetensors":
            deserialize(content)  # type: ignore[no-untyped-call]
    except (ValueError, RecursionError, SafetensorError):
        return False
    return True


def _has_digest(content: bytes, digest: str) -> bool:
    if not ETAG.fullmatch(digest):
        return True  # an older version of the cache may use names that are not hashes
    if len(digest) == 64:
        return hashlib.sha256(content).hexdigest() == digest
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == digest


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def revision_of(cached: Path) -> str:
    """The commit of a cached file."""
    return cached.parent.name


def remove(cached: Path) -> None:
    """Remove a cached file and each link on the path to its content."""
    while cached.is_symlink():
        target = cached.parent / cached.readlink()
        cached.unlink()
        cached = target
    cached.unlink(missing_ok=True)


def _repository(location: HubLocation) -> Path:
    return Path(client().constants.HF_HUB_CACHE) / f"models--{location.repo.replace('/', '--')}"


def _snapshot(location: HubLocation, revision: str) -> Path:
    """The folder of a commit in the cache, or of the commit that a branch had when it was cached."""
    repository = _repository(location)
    with contextlib.suppress(OSError, ValueError):
        commit = (repository / "refs" / revision).read_text(encoding="ascii").strip()
        if COMMIT.fullmatch(commit):
            revision = commit
    return repository / "snapshots" / revision


def _fetch_file(file: _File, name: str, notify: Notify | None, bounds: Bounds) -> tuple[Path, bool]:
    """The path of a file in the cache, and whether it was downloaded now."""
    cached = _snapshot(file.location, file.revision) / file.name
    whole = is_whole(cached, file.sha256)
    if whole and (COMMIT.fullmatch(file.revision) or client().constants.HF_HUB_OFFLINE):
        return cached, False
    repo = file.location.repo
    try:
        if whole:
            answer = _request_metadata(file)
            if answer.commit == revision_of(cached) and is_whole(cached, answer.etag):
                return cached, False
        return _download(file, notify, bounds), True
    except _UnavailableError as error:
        if whole:
            return cached, False
        damaged = cached.is_symlink() or is_file(cached)
        before = f"{file.name} of {repo} is damaged in the cache, and" if damaged else f"Cannot fetch {repo}:"
        raise error.explained(before, name) from error
    except _DamagedError as error:
        if not whole:
            remove(cached)
        raise _wrong_file(file, error) from error
    except (OSError, OutputError) as error:
        why = error.sentence.rstrip(".") if isinstance(error, OutputError) else reason(error)
        raise HubError(
            f"The Hub cache {client().constants.HF_HUB_CACHE} cannot be used: {why}.",
            "Free space or point HF_HOME to a writable folder.",
        ) from error


def _wrong_file(file: _File, error: Exception) -> HubError:
    return HubError(
        f"{file.name} of {file.location.repo} arrived damaged: {error}.", f"The file is not used. {CHECK_CONNECTION}"
    )


def _request_metadata(file: _File) -> _Answer:
    with contextlib.closing(_Transfer(file, None, QUICK).events("HEAD")) as events:
        answer = next(events)
    assert isinstance(answer, _Answer)
    return answer


def _download(file: _File, notify: Notify | None, bounds: Bounds) -> Path:
    """Download and check a file, with one more attempt, and put it into the cache."""
    transfer = _Transfer(file, notify, bounds)
    for last in (False, True):
        try:
            answer = transfer.receive()
            content = bytes(transfer.content)
            if not _is_valid(content, Path(file.name).suffix, file.sha256, answer.etag):
                raise _DamagedError("its content does not match its checksum or its format")
        except _BrokenError:
            if last:
                raise
        except _DamagedError:
            transfer.content.clear()
            if last:
                raise
        else:
            return _store(file, answer, content)
    raise AssertionError


def _store(file: _File, answer: _Answer, content: bytes) -> Path:
    """Put a checked file into the cache, as huggingface_hub does. Raises OSError, OutputError."""
    repository = _repository(file.location)
    cached, blob = repository / "snapshots" / answer.commit / file.name, repository / "blobs" / answer.etag
    cached.parent.mkdir(parents=True, exist_ok=True)
    blob.parent.mkdir(exist_ok=True)
    remove_leftovers(blob.parent)
    if client().constants.HF_HUB_DISABLE_SYMLINKS or not _store_linked(cached, blob, content):
        if cached.is_symlink():
            cached.unlink()
        _write(cached, content)
    if file.revision != answer.commit:
        ref = repository / "refs" / file.revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        _write(ref, answer.commit.encode())
    return cached


def _store_linked(cached: Path, blob: Path, content: bytes) -> bool:
    """Store the content under the name of its hash, and a link to it. False on a file system without links."""
    _write(blob, content)
    link = cached.with_name(f".{secrets.token_hex(8)}")
    try:
        link.symlink_to(Path("../../blobs") / blob.name)
        link.replace(cached)
    except OSError:
        link.unlink(missing_ok=True)
        blob.unlink()
        return False
    return True


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


_Event = _Answer | bytes | Exception | None
"""The beginning of an answer; a piece of content, empty when connected; the error, or None at the end."""


class _Transfer:
    """Requests one file into memory, within limits of time and size.

    A thread makes the requests and puts what arrives into a queue, so that a slow name server or slow headers cannot
    delay the caller. ``content`` holds the bytes received so far, from where a second attempt continues.
    """

    def __init__(self, file: _File, notify: Notify | None, bounds: Bounds) -> None:
        self.file = file
        self.content = bytearray()
        self._notify = notify
        self._bounds = bounds
        self._answer: _Answer | None = None
        self._started = time.monotonic()
        self._next_notice = self._started + bounds.notice if notify else math.inf

    def receive(self) -> _Answer:
        """Receive the whole content. Raises HubError, _UnavailableError, _DamagedError."""
        for event in self.events("GET"):
            if isinstance(event, _Answer):
                if event.start == 0 or self._answer is None or event.etag != self._answer.etag:
                    self.content.clear()
                if event.start != len(self.content):
                    raise _DamagedError("the rest of it does not continue where the download was interrupted")
                self._answer = event
            else:
                self.content += event
                if len(self.content) > min(self._size() or self.file.max_size, self.file.max_size):
                    raise _DamagedError("it is larger than it should be")
        assert self._answer is not None
        if len(self.content) < (self._size() or 0):
            raise _BrokenError(f"the Hub ({endpoint()}) stopped sending: {self._progress()} arrived")
        return self._answer

    def events(self, method: str) -> Generator[_Answer | bytes, None, None]:
        """Make a request. Yield the checked answer, then the content in pieces. Raises as ``receive``."""
        if client().constants.HF_HUB_OFFLINE:
            raise _UnavailableError("HF_HUB_OFFLINE forbids requests")
        events: queue.Queue[_Event] = queue.Queue(maxsize=16)
        stopped = threading.Event()
        timeout = 2 * self._bounds.stall  # only matters when nobody reads the events any more

        def put(event: _Event) -> None:
            if stopped.is_set():
                raise queue.Full
            events.put(event, timeout=timeout)

        def work() -> None:
            with contextlib.suppress(queue.Full):
                try:
                    _request(self.file, method, len(self.content), timeout, put)
                    put(None)
                except queue.Full:
                    raise
                except Exception as error:  # the HTTP library raises more than documented
                    put(error)

        threading.Thread(target=work, daemon=True).start()
        connected = False
        try:
            while (event := self._next(events, connected)) is not None:
                if isinstance(event, Exception):
                    raise self._explained(event) from event
                connected = True
                if isinstance(event, _Answer):
                    self._check(event)
                if event:
                    yield event
        finally:
            stopped.set()

    def _check(self, answer: _Answer) -> None:
        """Raise _DamagedError for another commit, hash or size than required."""
        file = self.file
        if COMMIT.fullmatch(file.revision) and answer.commit != file.revision:
            raise _DamagedError(f"it comes from the commit {answer.commit} instead of {file.revision}")
        if file.sha256 and len(answer.etag) == 64 and answer.etag != file.sha256:
            raise _DamagedError(f"its sha256 is {answer.etag} instead of {file.sha256}")
        if answer.size is not None and answer.size > file.max_size:
            raise _DamagedError(f"it has {answer.size:,} bytes instead of at most {file.max_size:,}")

    def _next(self, events: queue.Queue[_Event], connected: bool) -> _Event:
        """Wait for the next event. Raises _UnavailableError if it takes too long."""
        bounds, now = self._bounds, time.monotonic()
        last = self._started + bounds.total + len(self.content) / bounds.rate
        end = min(last, now + (bounds.stall if connected else bounds.connect))
        while now < end:
            if self._notify and now >= self._next_notice:
                self._next_notice = now + NOTICE_EVERY
                self._notify(f"Downloading {self.file.name} of {self.file.location.repo}: {self._progress()}.")
            with contextlib.suppress(queue.Empty):
                return events.get(timeout=min(self._next_notice, end) - now)
            now = time.monotonic()
        if not connected:
            raise _UnavailableError(_unreachable())
        late = "does not respond" if self._answer is None else f"sends too slowly: {self._progress()} arrived"
        raise (_UnavailableError if now >= last else _BrokenError)(f"the Hub ({endpoint()}) {late}")

    def _size(self) -> int | None:
        return self._answer.size if self._answer else None

    def _progress(self) -> str:
        size = self._size()
        return f"{len(self.content):,}{'' if size is None else f' of {size:,}'} bytes"

    def _explained(self, error: BaseException) -> Exception:
        """The reason for an exception of a request."""
        if isinstance(error, HubError | _UnavailableError | MemoryError):
            return error
        hub = f"the Hub ({endpoint()})"
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                why = f"the certificate of {hub} is not accepted ({cause.verify_message})"
                return _UnavailableError(why, "Check SSL_CERT_FILE, the clock, and the proxy.")
            if isinstance(cause, ssl.SSLError):
                return _UnavailableError(f"{hub} does not open a secure connection")
            if type(cause).__name__ == "ProxyError":
                return _UnavailableError(f"the proxy refuses to connect to {hub} ({_short(cause)})")
            cause = cause.__cause__ or cause.__context__
        if self._answer is None:
            return _BrokenError(_unreachable())
        return _BrokenError(f"{hub} stopped sending: {self._progress()} arrived")


def _request(file: _File, method: str, offset: int, timeout: float, put: Callable[[_Event], None]) -> None:
    """Request a file, follow redirects, and ``put`` the answer and the content from byte ``offset``.

    The first answer with a commit describes the file, because the Hub redirects to another host for large files. The
    token is sent to the Hub's own address only.
    """

    def trace(name: str, _: object) -> None:
        if name.endswith("send_request_headers.started"):
            put(b"")

    session, token, url, answer = _session(), _token(), file.url, None
    headers = {"User-Agent": "pcsr", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    for _ in range(MAX_REDIRECTS):
        with_token = token is not None and _origin(url) == _origin(file.url)
        own = headers | ({"Authorization": f"Bearer {token}"} if with_token else {})
        options: dict[str, Any] = {"timeout": timeout, "extensions": {"trace": trace}, "follow_redirects": False}
        with session.stream(method, url, headers=own, **options) as response:
            answer = answer or _read_headers(response.headers)
            if response.has_redirect_location and not (answer and method == "HEAD"):
                url = urljoin(url, response.headers["Location"])
                continue
            if response.status_code >= 400:
                raise _refusal(file.location, response.status_code, response.headers.get("X-Error-Code"), with_token)
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
    raise _UnavailableError(f"the server at {endpoint()} is not a Hub", "Check HF_ENDPOINT, or log in to the network.")


def _read_headers(headers: Any) -> _Answer | None:
    """What an answer states about the file. None unless its commit and its ETag are hashes."""
    commit = COMMIT.fullmatch(headers.get("X-Repo-Commit", ""))
    etag = ETAG.fullmatch(headers.get("X-Linked-Etag") or headers.get("ETag", ""))
    return _Answer(commit[0], etag[2], _length(headers.get("X-Linked-Size"))) if commit and etag else None


def _length(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"[0-9]{1,15}", text) else None


def _refusal(location: HubLocation, status: int, code: str | None, with_token: bool) -> Exception:
    """The error for an answer with an error status. ``code`` is the Hub's own."""
    repo, hub = location.repo, f"the Hub ({endpoint()})"
    if code == "GatedRepo":
        return HubError(f"{repo} is gated.", "Request access on the page of the repository, then set HF_TOKEN.")
    if code == "RevisionNotFound":
        step = "Use a branch, tag or commit of the repository."
        return HubError(f"{repo} has no revision {location.revision}.", step)
    if code == "EntryNotFound":
        return HubError(f"{repo} lacks {location.config} or {location.weights}.", "Use a PCSR model.")
    if code == "RepoNotFound" or (status == 401 and not with_token):
        step = "If the repository is private, set HF_TOKEN to a valid token."
        return HubError(f"The Hub has no repository {repo}.", step)
    if status == 401:
        return HubError(
            f"Cannot fetch {repo}: {hub} refuses the token.", "Renew HF_TOKEN or the saved token, or unset it."
        )
    why = f"the proxy refuses the request to {hub}" if status == 407 else f"{hub} responds with error {status}"
    if status in {408, 429} or status >= 500:
        return _UnavailableError(why)
    return HubError(f"Cannot fetch {repo}: {why}.", CHECK_CONNECTION)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _unreachable() -> str:
    """The reason if no connection to the Hub is possible."""
    scheme, host, _ = _origin(client().constants.ENDPOINT)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    used = proxy and not urllib.request.proxy_bypass(host or "")
    through = f" through the proxy {_without_login(proxy)}" if proxy and used else ""
    return f"the Hub ({endpoint()}) cannot be reached{through}"


def _short(error: BaseException) -> str:
    return _without_login(" ".join(str(error).split()))[:100].rstrip(".")


def _session() -> Any:
    """The HTTP client of huggingface_hub. Raises HubSettingError for a proxy or certificates that it cannot use."""
    try:
        return client().get_session()
    except ImportError as error:
        raise HubSettingError(
            "The proxy settings name a SOCKS proxy, which needs the Python package socksio.",
            "Install it, use an http proxy, or unset ALL_PROXY, HTTP_PROXY and HTTPS_PROXY.",
        ) from error
    except OSError as error:
        paths = [(name, os.environ[name]) for name in CERTIFICATES if os.environ.get(name)]
        name, path = min(paths, key=lambda each: exists(Path(each[1])), default=("the system's certificates", ""))
        why = "there is no certificate" if isinstance(error, ssl.SSLError) else reason(error)
        raise HubSettingError(f"Cannot use {name} {path}: {why}.", "Correct or unset it.") from error
    except Exception as error:
        raise HubSettingError(
            f"The proxy settings are invalid: {_short(error)}.", "Correct ALL_PROXY, HTTP_PROXY and HTTPS_PROXY."
        ) from error


def _token() -> str | None:
    """The user's token, if any. Raises HubSettingError for one that cannot be sent."""
    hub, token = client(), None
    with contextlib.suppress(OSError, ValueError):  # a saved token that cannot be read
        token = None if hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else hub.get_token()
    if token is not None and not TOKEN.fullmatch(token):
        raise HubSettingError("HF_TOKEN contains characters that a token cannot have.", "Correct or unset it.")
    return token
