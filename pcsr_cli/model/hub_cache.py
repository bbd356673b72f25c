"""The Hub's standard cache on this machine: what is in it, and whether it is still what it was.

The cache keeps each file as ``blobs/<etag>`` with a link from ``snapshots/<commit>/<file>``. The etag names the
content (sha256 for large files, git's blob sha1 for small ones), so damage shows without asking the Hub. Where the
system has no links the cache keeps plain files, whose names tell nothing.
"""

import hashlib
import re
from pathlib import Path

from pcsr_cli.model.hub_address import check_endpoint

check_endpoint()

from huggingface_hub import constants

from pcsr_cli.model.registry import HubLocation


def is_cached(location: HubLocation) -> bool:
    """Whether both files of a pinned location are in the cache (their content is checked on use)."""
    return all(path.is_file() for path in _paths(location))


def is_whole_here(location: HubLocation) -> bool:
    """Whether both files of a pinned location are in the cache and still what they were."""
    return all(is_whole(path) for path in _paths(location))


def _paths(location: HubLocation) -> tuple[Path, Path]:
    repository = Path(constants.HF_HUB_CACHE) / f"models--{location.repo.replace('/', '--')}"
    snapshot = repository / "snapshots" / location.revision
    return snapshot / location.config, snapshot / location.weights


def is_whole(cached: Path) -> bool:
    """Whether a cached file still has the content it is named after."""
    if not cached.is_symlink():
        return cached.is_file()
    return cached.is_file() and matches_etag(cached, cached.readlink().name) is not False


def matches_etag(path: Path, etag: str) -> bool | None:
    """Whether a file's content is what its etag says; None where the etag is no known kind of hash."""
    if re.fullmatch(r"[0-9a-f]{64}", etag):
        return file_sha256(path) == etag
    if re.fullmatch(r"[0-9a-f]{40}", etag):
        content = path.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == etag
    return None


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def revision_of(cached: Path) -> str:
    """The commit a cached file belongs to."""
    return cached.parent.name


def forget(cached: Path) -> None:
    """Remove a cached file and every link on the way to its content."""
    while cached.is_symlink():
        target = cached.parent / cached.readlink()
        cached.unlink()
        cached = target
    cached.unlink(missing_ok=True)
