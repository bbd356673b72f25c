"""Files from the Hugging Face Hub, through huggingface_hub and its standard cache, checked byte by byte.

The Hub names a file's content by its etag: sha256 for large files, git's blob sha1 for small ones. The
cache keeps that name, so a damaged entry is noticed without asking the Hub, and fetched again.
HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE work as they do everywhere.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import silent_tqdm, tqdm

from pcsr_cli.errors import HubError
from pcsr_cli.registry import HubLocation

TIMEOUT = 5.0
"""Seconds to wait for the Hub's first answer."""


@dataclass(frozen=True)
class Fetched:
    """The files of a model in the cache, and the commit they are from."""

    config: Path
    weights: Path
    revision: str


def fetch(location: HubLocation, show_progress: bool = False) -> Fetched:
    """Make sure a model's files are in the Hub cache, whole, and return where.

    A cached file of a pinned commit is used without asking the Hub; its content is checked all the same. Raises
    HubError if the Hub cannot be reached and the file is not cached, if it refuses, or if what it sends is damaged."""
    with _hub_errors(location):
        config, revision = _fetch_file(location, location.config, location.revision, show_progress)
        weights, revision = _fetch_file(location, location.weights, revision, show_progress)
    return Fetched(config, weights, revision)


def is_cached(location: HubLocation) -> bool:
    """Whether both files are in the cache (their content is checked on use)."""
    return all(_cached(location, name, location.revision) for name in (location.config, location.weights))


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def matches_etag(path: Path, etag: str) -> bool | None:
    """Whether a file's content is what its etag says; None where the etag is no known kind of hash."""
    if re.fullmatch(r"[0-9a-f]{64}", etag):
        return file_sha256(path) == etag
    if re.fullmatch(r"[0-9a-f]{40}", etag):
        content = path.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == etag
    return None


def _fetch_file(location: HubLocation, name: str, revision: str, show_progress: bool) -> tuple[Path, str]:
    pinned = re.fullmatch(r"[0-9a-f]{40}", revision) is not None
    cached = _cached(location, name, revision)
    if cached is not None and (pinned or constants.HF_HUB_OFFLINE) and _is_whole(cached):
        return cached, _revision_of(cached)
    try:
        url = hf_hub_url(location.repo, name, revision=revision)
        metadata = get_hf_file_metadata(url, timeout=TIMEOUT)
    except (httpx2.ConnectError, httpx2.TimeoutException, OfflineModeIsEnabled):
        if cached is not None and _is_whole(cached):
            return cached, _revision_of(cached)
        raise
    commit = metadata.commit_hash or revision
    damaged = (at_commit := _cached(location, name, commit)) is not None and not _is_whole(at_commit)
    bar = tqdm if show_progress else silent_tqdm
    downloaded = hf_hub_download(
        location.repo, name, revision=commit, force_download=damaged, etag_timeout=TIMEOUT, tqdm_class=bar
    )
    path = Path(downloaded)
    if metadata.etag is not None and matches_etag(path, metadata.etag) is False:
        _forget(path)
        raise HubError(
            f"What the Hub sent for {name} of {location.repo} does not match the checksum it names.",
            "Nothing was kept; try again, or check the proxy between here and the Hub.",
        )
    return path, commit


def _cached(location: HubLocation, name: str, revision: str) -> Path | None:
    found = try_to_load_from_cache(location.repo, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def _is_whole(cached: Path) -> bool:
    """Whether a cached file still has the content it is named after (its snapshot links to a blob of that name)."""
    if not cached.is_symlink():
        return cached.is_file()
    return cached.is_file() and matches_etag(cached, cached.readlink().name) is not False


def _revision_of(cached: Path) -> str:
    """The commit a cached file belongs to: the cache keeps snapshots/<commit>/<file>."""
    return cached.parent.name


def _forget(path: Path) -> None:
    blob = path.resolve()
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)


@contextmanager
def _hub_errors(location: HubLocation) -> Iterator[None]:
    """Turn what huggingface_hub and its HTTP client raise into one sentence and a next step."""
    repo = location.repo
    try:
        yield
    except GatedRepoError as error:
        raise HubError(f"{repo} is gated.", "Ask for access on its page, then set HF_TOKEN.") from error
    except RepositoryNotFoundError as error:
        raise HubError(f"The Hub has no repository {repo}.", "If it is private, set HF_TOKEN.") from error
    except RevisionNotFoundError as error:
        raise HubError(
            f"{repo} has no revision {location.revision}.", "Give a branch, tag or commit it has."
        ) from error
    except EntryNotFoundError as error:
        raise HubError(f"{repo} lacks {location.config} or {location.weights}: it is no PCSR model.") from error
    except HFValidationError as error:
        raise HubError(f"{repo!r} is not a name the Hub accepts.", "It has the form user/repo.") from error
    except OfflineModeIsEnabled as error:
        raise HubError(
            f"{repo} is not in the cache, or damaged there, and HF_HUB_OFFLINE forbids fetching it.",
            "Unset HF_HUB_OFFLINE once with a network, or give --model a folder.",
        ) from error
    except (httpx2.HTTPError, HfHubHTTPError) as error:
        raise HubError(
            f"The Hub ({constants.ENDPOINT}) cannot be reached for {repo}, and it is not in the cache.",
            "Run `pcsr models fetch` once with a network, or give --model a folder with config.json and "
            "model.safetensors.",
        ) from error
    except OSError as error:
        raise HubError(
            f"The Hub cache {constants.HF_HUB_CACHE} cannot be used: {error.strerror or error}.",
            "Free space or point HF_HOME to a folder that can be written.",
        ) from error
