"""Model files from the Hugging Face Hub, through huggingface_hub and its standard cache.

Each cached file is checked before use: against the sha256 in the registry, the hash that is its name in the cache, and
its format. HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE have their usual effect. The functions import
huggingface_hub when they are called, because huggingface_hub is slow to import and fails on an invalid HF_ENDPOINT.
"""

import hashlib
import json
import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from pcsr_cli.errors import HubError

TIMEOUT = 5.0
"""Seconds to wait for a connection to the Hub, and for its first response."""

COMMIT = re.compile(r"[0-9a-f]{40}")
REVISION = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")
ETAG = re.compile(r'(W/)?("?)([0-9a-f]{40}|[0-9a-f]{64})\2')
"""git's blob sha1 of a small file, or the sha256 of a large one."""


@dataclass(frozen=True)
class HubLocation:
    """Two files of a Hub repository; ``revision`` is a commit, a branch or a tag."""

    repo: str
    revision: str
    config: str = "config.json"
    weights: str = "model.safetensors"


@dataclass(frozen=True)
class Fetched:
    """A model's files in the cache, and their commit."""

    config: Path
    weights: Path
    revision: str


def client() -> ModuleType:
    """The module huggingface_hub. Raises HubError if HF_ENDPOINT is not an http(s) address."""
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        parts = urlsplit(endpoint)
        valid = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # for example a port that is not a number
        valid = False
    if not valid or any(letter.isspace() for letter in endpoint):
        raise HubError(
            f"HF_ENDPOINT is {endpoint!r}, which is not an http(s) address.",
            "Unset HF_ENDPOINT, or use https://huggingface.co.",
        )
    import huggingface_hub.constants

    return huggingface_hub


def fetch(location: HubLocation, name: str, sha256: str | None = None, show_progress: bool = False) -> Fetched:
    """Download a model's files into the Hub cache, unless they are cached, and return their paths.

    ``name`` is the user's name for the model, ``sha256`` the expected hash of its weights. A cached file of a commit is
    used without a request to the Hub. A damaged file is removed and downloaded again, once. Raises HubError if the Hub
    is unreachable and a file is not cached, if the Hub refuses the request, or if a download is damaged.
    """
    if not REVISION.fullmatch(location.revision):
        raise HubError(f"{location.revision!r} is not a valid revision.", "Use a branch, tag or commit.")
    with _clear_errors(location, name):
        config = _fetch_file(location, location.config, location.revision, name, None, show_progress)
        revision = revision_of(config)
        weights = _fetch_file(location, location.weights, revision, name, sha256, show_progress)
    return Fetched(config, weights, revision)


def reach(location: HubLocation, name: str) -> None:
    """Request the metadata of a model's config. Raises HubError unless the Hub returns the metadata."""
    with _clear_errors(location, name), _safe_headers():
        _request_metadata(location, location.config, location.revision)


def is_cached(location: HubLocation) -> bool:
    """Whether both files of a pinned location are in the cache. ``fetch`` checks the content of the files."""
    return all(path.is_file() for path in _snapshot_paths(location))


def is_whole_here(location: HubLocation, sha256: str | None = None) -> bool:
    """Whether both files of a pinned location are in the cache and undamaged."""
    config, weights = _snapshot_paths(location)
    return is_whole(config) and is_whole(weights, sha256)


def is_whole(cached: Path, digest: str | None = None) -> bool:
    """Whether a cached file is undamaged.

    The content must match ``digest`` (sha256 or git's blob sha1), the hash in the file name, and the format.
    """
    if not cached.is_file():
        return False
    name = cached.readlink().name if cached.is_symlink() else None
    return all(_has_digest(cached, each) for each in {digest, name} if each) and _has_format(cached)


def _has_digest(path: Path, digest: str) -> bool:
    if not ETAG.fullmatch(digest):
        return True  # an older version of the cache may use names that are not hashes
    if len(digest) == 64:
        return file_sha256(path) == digest
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == digest


def _has_format(path: Path) -> bool:
    """Whether a .json is valid JSON and a .safetensors has a valid header and all its bytes."""
    from safetensors import SafetensorError, safe_open

    try:
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="numpy"):
                pass
    except (ValueError, RecursionError, SafetensorError):
        return False
    return True


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


def _snapshot_paths(location: HubLocation) -> tuple[Path, Path]:
    repository = Path(client().constants.HF_HUB_CACHE) / f"models--{location.repo.replace('/', '--')}"
    snapshot = repository / "snapshots" / location.revision
    return snapshot / location.config, snapshot / location.weights


def _fetch_file(
    location: HubLocation, file: str, revision: str, name: str, sha256: str | None, show_progress: bool
) -> Path:
    found = client().try_to_load_from_cache(location.repo, file, revision=revision)
    cached = Path(found) if isinstance(found, str) else None
    whole = cached is not None and is_whole(cached, sha256)
    if cached is not None and whole and (COMMIT.fullmatch(revision) or client().constants.HF_HUB_OFFLINE):
        return cached
    with _safe_headers():
        try:
            metadata = _request_metadata(location, file, revision)
        except _connection_errors() as error:
            if cached is None or not _is_unavailable(error):
                raise
            if whole:
                return cached
            raise HubError(
                f"{file} of {location.repo} is damaged in the cache, and {_why_unavailable(error)}.", _fetch_later(name)
            ) from error
        damaged = cached is not None and not whole
        if cached is not None and damaged and not cached.is_symlink():
            remove(cached)  # a new download replaces the file behind a link, but not a file without one
        if not (sha256 and len(metadata.etag) == len(sha256) and metadata.etag != sha256):
            for again in (damaged, True):
                path = _download(location, file, revision, again, show_progress)
                if path is None:
                    continue
                # A branch may have moved since the metadata was requested.
                same_commit = revision_of(path) == metadata.commit_hash
                if is_whole(path, sha256 or (metadata.etag if same_commit else None)):
                    return path
                remove(path)
    raise HubError(
        f"{file} of {location.repo} arrived damaged: its content does not match its checksum or its format.",
        "The file is not used. Try again, or check HF_ENDPOINT and the proxy between this machine and the Hub.",
    )


def _request_metadata(location: HubLocation, file: str, revision: str) -> Any:
    hub = client()
    metadata = hub.get_hf_file_metadata(hub.hf_hub_url(location.repo, file, revision=revision), timeout=TIMEOUT)
    if metadata.commit_hash is None or metadata.etag is None:
        raise _hub_errors().FileMetadataError("no commit, or no ETag")
    return metadata


def _download(location: HubLocation, file: str, revision: str, again: bool, show_progress: bool) -> Path | None:
    """Download a file into the cache. Returns None if the Hub sends too few or too many bytes."""
    from huggingface_hub.utils.tqdm import silent_tqdm, tqdm

    bar = tqdm if show_progress else silent_tqdm
    try:
        # Pass the branch instead of its commit, so that the cache stores the branch as well.
        path = client().hf_hub_download(
            location.repo, file, revision=revision, force_download=again, etag_timeout=TIMEOUT, tqdm_class=bar
        )
    except OSError as error:
        if type(error) is OSError and error.errno is None:  # huggingface_hub raises it for a wrong size
            return None
        raise
    return Path(path)


def _hub_errors() -> ModuleType:
    client()
    import huggingface_hub.errors

    return huggingface_hub.errors


def _connection_errors() -> tuple[type[Exception], ...]:
    """The exceptions of a failed request. huggingface_hub decides which HTTP library raises them."""
    errors = _hub_errors()
    http_error: type[Exception] = errors.HfHubHTTPError.__bases__[0]
    return http_error, errors.OfflineModeIsEnabled


def _is_unavailable(error: Exception) -> bool:
    """Whether the Hub did not respond or has a temporary failure, so that a cached file may be used instead."""
    status = _status(error)
    return status is None or status in {408, 429} or status >= 500


def _why_unavailable(error: Exception) -> str:
    if isinstance(error, _hub_errors().OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE forbids requests"
    status = _status(error)
    reason = "cannot be reached" if status is None else f"responds with error {status}"
    return f"the Hub ({client().constants.ENDPOINT}) {reason}"


def _status(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def _fetch_later(name: str) -> str:
    return f"Run `pcsr models fetch {name}` once online, or use a folder with config.json and model.safetensors."


@contextmanager
def _clear_errors(location: HubLocation, name: str) -> Iterator[None]:
    """Prepare huggingface_hub for requests, and convert its exceptions to HubError.

    Inside the block huggingface_hub does not log. Inside the block, huggingface_hub also does not request a list of
    development tools, which can take seconds.
    """
    hub = client()
    from huggingface_hub.utils import logging as hub_logging

    verbosity, telemetry = hub_logging.get_verbosity(), hub.constants.HF_HUB_DISABLE_TELEMETRY
    hub_logging.set_verbosity(logging.ERROR)
    hub.constants.HF_HUB_DISABLE_TELEMETRY = True
    try:
        yield
    except (HubError, MemoryError):
        raise
    except Exception as error:  # the HTTP library, a proxy or hf_xet raise more than documented
        raise _explained(error, location, name) from error
    finally:
        hub_logging.set_verbosity(verbosity)
        hub.constants.HF_HUB_DISABLE_TELEMETRY = telemetry


@contextmanager
def _safe_headers() -> Iterator[None]:
    """Inside the block, reject responses to this thread whose ETag or commit is not a hash.

    huggingface_hub uses both as file names: a path in them could point outside the cache.
    """
    try:
        session = client().get_session()
    except Exception as error:  # a proxy address or a certificate file that the HTTP library does not accept
        reason = " ".join(str(error).split())
        raise HubError(
            f"Cannot open a connection to the Hub: {reason}.", "Check the proxy settings and SSL_CERT_FILE."
        ) from error
    thread = threading.get_ident()

    def check(response: Any) -> None:
        commit = response.headers.get("X-Repo-Commit")
        if threading.get_ident() != thread or response.request.method != "HEAD" or commit is None:
            return
        etag = response.headers.get("X-Linked-Etag") or response.headers.get("ETag")
        if not COMMIT.fullmatch(commit) or (etag is not None and not ETAG.fullmatch(etag)):
            raise _hub_errors().FileMetadataError("the commit or the ETag is not a hash")

    session.event_hooks["response"].append(check)
    try:
        yield
    finally:
        session.event_hooks["response"].remove(check)


def _explained(error: Exception, location: HubLocation, name: str) -> HubError:
    errors, constants, repo = _hub_errors(), client().constants, location.repo
    if isinstance(error.__cause__, errors.FileMetadataError):
        error = error.__cause__
    if isinstance(error, errors.GatedRepoError):
        return HubError(f"{repo} is gated.", "Request access on the page of the repository, then set HF_TOKEN.")
    if isinstance(error, errors.RepositoryNotFoundError):
        return HubError(
            f"The Hub has no repository {repo}.", "If the repository is private, set HF_TOKEN to a valid token."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return HubError(
            f"{repo} has no revision {location.revision}.", "Use a branch, tag or commit of the repository."
        )
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return HubError(f"{repo} lacks {location.config} or {location.weights}.", "Use a PCSR model.")
    if isinstance(error, errors.HFValidationError):
        return HubError(f"{repo!r} is not a valid repository name.", "The form is user/repo.")
    if isinstance(error, errors.FileMetadataError):
        return HubError(
            f"The server at {constants.ENDPOINT} is not a Hub.", "Check HF_ENDPOINT, or log in to the network."
        )
    if isinstance(error, (*_connection_errors(), errors.LocalEntryNotFoundError)):
        return HubError(f"Cannot fetch {repo}: {_why_unavailable(error)}.", _fetch_later(name))
    reason = " ".join(str(error).split())
    if isinstance(error, OSError):
        return HubError(
            f"The Hub cache {constants.HF_HUB_CACHE} cannot be used: {error.strerror or reason}.",
            "Free space or point HF_HOME to a writable folder.",
        )
    return HubError(f"Cannot request {repo}: {reason}.", "Check HF_ENDPOINT, HF_TOKEN and the proxy settings.")
