"""Model files from the Hugging Face Hub, in huggingface_hub's standard cache.

HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE have their usual effect. A file reaches the cache only after its
commit, hash, size and format have been checked. Cached files are checked before each use."""

import contextlib
import hashlib
import json
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from pcsr_cli.errors import HubError, OutputError
from pcsr_cli.images.files import atomic_write, is_file, read_bytes, reason, remove_leftovers
from pcsr_cli.model.client import client, endpoint
from pcsr_cli.model.transfer import (
    COMMIT,
    ETAG,
    QUICK,
    USUAL,
    Answer,
    Bounds,
    BrokenError,
    DamagedError,
    Notify,
    RemoteFile,
    Transfer,
    UnavailableError,
)

REVISION = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")
MAX_CONFIG = 2**20
MAX_DOWNLOAD = 2**28
"""The largest accepted sizes of files, in bytes."""


OUTAGE_SECONDS = 600
"""How long ``is_out`` is true after ``record_outage``."""


@dataclass(frozen=True)
class HubLocation:
    """Two files of a Hub repository; ``revision`` is a commit, a branch or a tag.

    The sha256 of each file and the ``size`` of the weights in bytes must match if they are given."""

    repo: str
    revision: str
    config: str = "config.json"
    weights: str = "model.safetensors"
    sha256: str | None = None
    config_sha256: str | None = None
    size: int | None = None

    def config_file(self, model: str) -> RemoteFile:
        """The config on the Hub. ``model`` is the user's name for the model."""
        return RemoteFile(model, self.repo, self.revision, self.config, self.config_sha256, MAX_CONFIG)

    def weights_file(self, model: str, commit: str) -> RemoteFile:
        """The weights of a commit on the Hub."""
        return RemoteFile(model, self.repo, commit, self.weights, self.sha256, self.size or MAX_DOWNLOAD)


@dataclass(frozen=True)
class Fetched:
    """A model's files in the cache, and their commit. ``new`` lists the files that were just downloaded."""

    config: Path
    weights: Path
    revision: str
    new: tuple[Path, ...] = ()


def fetch(location: HubLocation, name: str, notify: Notify | None = None, bounds: Bounds = USUAL) -> Fetched:
    """Download a model's files into the Hub cache, unless they are cached, and return their paths.

    ``name`` is the user's name for the model. ``notify`` is called with a message if a download is slow. A cached file
    of a commit is used without a request to the Hub. A damaged file is downloaded again. Raises HubError if the Hub is
    unreachable and a file is not cached, if the Hub refuses the request, or if a download is damaged."""
    if not REVISION.fullmatch(location.revision):
        raise HubError(f"{location.revision!r} is not a valid revision.", "Use a branch, tag or commit.")
    new: list[Path] = []
    config = _fetch_file(location.config_file(name), notify, bounds, new)
    commit = revision_of(config)
    weights = _fetch_file(location.weights_file(name, commit), notify, bounds, new)
    return Fetched(config, weights, commit, tuple(new))


def reach(location: HubLocation, name: str) -> None:
    """Request the metadata of a model's config. Raises HubError unless the Hub returns the metadata."""
    Transfer(location.config_file(name), QUICK).request_metadata()


def record_outage() -> bool:
    """Record in the cache folder that the Hub cannot be reached now. Returns whether that was possible.

    Without permission for requests (HF_HUB_OFFLINE), nothing is recorded."""
    if client().constants.HF_HUB_OFFLINE:
        return False
    try:
        _outage_file().parent.mkdir(parents=True, exist_ok=True)
        _outage_file().write_text(endpoint(), encoding="utf-8")
    except OSError:
        return False
    return True


def is_out() -> bool:
    """Whether ``record_outage`` made a record about this Hub in the last OUTAGE_SECONDS."""
    try:
        age = time.time() - _outage_file().stat().st_mtime
        return 0 <= age < OUTAGE_SECONDS and _outage_file().read_text(encoding="utf-8") == endpoint()
    except (OSError, UnicodeDecodeError):
        return False


def _outage_file() -> Path:
    """A file in the folder of locks, which huggingface_hub does not list as a model."""
    return Path(client().constants.HF_HUB_CACHE) / ".locks" / "pcsr-unreachable"


def is_cached(location: HubLocation) -> bool:
    """Whether both files of a pinned location are in the cache. The content of the files is checked by ``fetch``."""
    snapshot = _snapshot(location.repo, location.revision)
    return is_file(snapshot / location.config) and is_file(snapshot / location.weights)


def is_whole_here(location: HubLocation) -> bool:
    """Whether both files of a pinned location are in the cache and undamaged."""
    snapshot = _snapshot(location.repo, location.revision)
    config, weights = snapshot / location.config, snapshot / location.weights
    return is_whole(config, location.config_sha256) and is_whole(weights, location.sha256)


def is_whole(cached: Path, digest: str | None = None) -> bool:
    """Whether a cached file is undamaged.

    The content must match ``digest`` (sha256 or git's blob sha1), the hash in the file name, and the format."""
    try:
        name = cached.readlink().name if cached.is_symlink() else None
        return _is_valid(read_bytes(cached, MAX_DOWNLOAD), cached.suffix, digest, name)
    except OSError:
        return False


def _is_valid(content: bytes, suffix: str, *digests: str | None) -> bool:
    """Whether a file has these digests and the format of its suffix: a .json is JSON, a .safetensors has a header and
    all bytes."""
    from safetensors import SafetensorError, deserialize

    if not all(_has_digest(content, digest) for digest in set(digests) if digest):
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


def _repository(repo: str) -> Path:
    return Path(client().constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"


def _snapshot(repo: str, revision: str) -> Path:
    """The folder of a commit in the cache, or of the commit that a branch had when it was cached."""
    repository = _repository(repo)
    with contextlib.suppress(OSError, ValueError):
        commit = (repository / "refs" / revision).read_text(encoding="ascii").strip()
        if COMMIT.fullmatch(commit):
            revision = commit
    return repository / "snapshots" / revision


def _fetch_file(file: RemoteFile, notify: Notify | None, bounds: Bounds, new: list[Path]) -> Path:
    """The path of a file in the cache. A file that is downloaded is added to ``new``."""
    cached = _snapshot(file.repo, file.revision) / file.name
    whole = is_whole(cached, file.sha256)
    if whole and (COMMIT.fullmatch(file.revision) or client().constants.HF_HUB_OFFLINE):
        return cached
    try:
        if whole:
            answer = Transfer(file, QUICK, notify).request_metadata()
            if answer.commit == revision_of(cached) and is_whole(cached, answer.etag):
                return cached
        new.append(_download(file, notify, bounds))
        return new[-1]
    except UnavailableError as error:
        if whole:
            return cached
        if not cached.is_symlink() and not is_file(cached):
            raise
        damaged = f"{file.name} of {file.repo} is damaged in the cache, and {error.why}."
        raise HubError(damaged, error.next_step) from error
    except DamagedError:
        if not whole:
            with contextlib.suppress(OSError):
                remove(cached)
        raise
    except (OSError, OutputError) as error:
        why = error.sentence.rstrip(".") if isinstance(error, OutputError) else reason(error)
        raise HubError(
            f"The Hub cache {client().constants.HF_HUB_CACHE} cannot be used: {why}.",
            "Free space or point HF_HOME to a writable folder.",
        ) from error


def _download(file: RemoteFile, notify: Notify | None, bounds: Bounds) -> Path:
    """Download and check a file, with one more attempt, and put it into the cache."""
    transfer = Transfer(file, bounds, notify)
    for last in (False, True):
        try:
            answer = transfer.receive()
            content = bytes(transfer.content)
            if not _is_valid(content, Path(file.name).suffix, file.sha256, answer.etag):
                raise DamagedError.of(file, "the content does not match the checksum or the format")
            break
        except (BrokenError, DamagedError) as error:
            if last:
                raise
            if isinstance(error, DamagedError):
                transfer.content.clear()
    return _store(file, answer, content)


def _store(file: RemoteFile, answer: Answer, content: bytes) -> Path:
    """Put a checked file into the cache, as huggingface_hub does. Raises OSError, OutputError."""
    repository = _repository(file.repo)
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
    """Store the content under the name of its hash, and make a link to that file. Returns False on a file system
    without links."""
    _write(blob, content)
    if cached.is_symlink() and cached.readlink().name != blob.name:
        remove(cached)  # of the same commit, so its content is wrong
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
