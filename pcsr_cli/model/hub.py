"""Files from the Hugging Face Hub, through huggingface_hub and its standard cache, checked byte by byte.

A damaged cache entry is noticed and fetched again; what the Hub sends is checked against the etag it names. HF_HOME,
HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE work as they do everywhere.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from pcsr_cli.model.hub_address import check_endpoint

check_endpoint()

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import logging as hub_logging
from huggingface_hub.utils.tqdm import silent_tqdm, tqdm

from pcsr_cli.errors import HubError
from pcsr_cli.model.hub_cache import forget, is_whole, matches_etag, revision_of
from pcsr_cli.model.registry import COMMIT, HubLocation

TIMEOUT = 5.0
"""Seconds to wait for the Hub's first answer."""

REVISION = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")


@dataclass(frozen=True)
class Fetched:
    """The files of a model in the cache, and the commit they are from."""

    config: Path
    weights: Path
    revision: str


def fetch(location: HubLocation, name: str, show_progress: bool = False) -> Fetched:
    """Make sure a model's files are in the Hub cache, whole, and return where; ``name`` is what a user calls it.

    A cached file of a pinned commit is used without asking the Hub; its content is checked all the same. Raises
    HubError if the Hub cannot be reached and the file is not cached, if it refuses, or if what it sends is damaged."""
    if not REVISION.fullmatch(location.revision):
        raise HubError(f"{location.revision!r} is no revision.", "Give a branch, tag or commit of the repository.")
    with _two_files_and_nothing_else(), _hub_errors(location, name):
        config, revision = _fetch_file(location, location.config, location.revision, name, show_progress)
        weights, revision = _fetch_file(location, location.weights, revision, name, show_progress)
    return Fetched(config, weights, revision)


def reach(location: HubLocation, name: str) -> None:
    """Ask the Hub for a model's config, and fetch nothing. Raises HubError unless it answers as it should."""
    with _two_files_and_nothing_else(), _hub_errors(location, name):
        try:
            url = hf_hub_url(location.repo, location.config, revision=location.revision)
            if get_hf_file_metadata(url, timeout=TIMEOUT).commit_hash is None:
                raise FileMetadataError("no commit")
        except (httpx2.HTTPError, OfflineModeIsEnabled) as error:
            if not _is_out_of_reach(error):
                raise
            raise HubError(
                f"No model can be fetched: {_why_not(error)}.",
                "What is cached, and builtin, work without; else check the network, HF_ENDPOINT and the proxy.",
            ) from error


def _fetch_file(location: HubLocation, file: str, revision: str, name: str, show_progress: bool) -> tuple[Path, str]:
    cached = _cached(location, file, revision)
    whole = cached is not None and is_whole(cached)
    if cached is not None and whole and (COMMIT.fullmatch(revision) or constants.HF_HUB_OFFLINE):
        return cached, revision_of(cached)
    try:
        metadata = get_hf_file_metadata(hf_hub_url(location.repo, file, revision=revision), timeout=TIMEOUT)
    except (httpx2.HTTPError, OfflineModeIsEnabled) as error:
        if cached is None or not _is_out_of_reach(error):
            raise
        if whole:
            return cached, revision_of(cached)
        raise HubError(
            f"{file} of {location.repo} is damaged in the cache, and {_why_not(error)}.",
            f"Run `pcsr models fetch {name}` once with a network, or name a folder with config.json and "
            "model.safetensors.",
        ) from error
    if metadata.commit_hash is None or metadata.etag is None:
        raise FileMetadataError("no commit, or no etag")
    at_commit = _cached(location, file, metadata.commit_hash)
    damaged = at_commit is not None and not is_whole(at_commit)
    # By the name asked for, so that the cache learns which commit a branch is at.
    path = _download(location, file, revision, damaged, show_progress)
    moved_meanwhile = revision_of(path) != metadata.commit_hash
    if not is_whole(path) or (not moved_meanwhile and matches_etag(path, metadata.etag) is False):
        forget(path)
        raise HubError(
            f"What the Hub sent for {file} of {location.repo} does not match the checksum it names.",
            "Nothing was kept; try again, or check the proxy between here and the Hub.",
        )
    return path, revision_of(path)


def _download(location: HubLocation, file: str, revision: str, again: bool, show_progress: bool) -> Path:
    bar = tqdm if show_progress else silent_tqdm
    try:
        return Path(
            hf_hub_download(
                location.repo, file, revision=revision, force_download=again, etag_timeout=TIMEOUT, tqdm_class=bar
            )
        )
    except OSError as error:
        # Too few or too many bytes: a plain OSError without a number, unlike those of the disk or the network.
        if type(error) is OSError and error.errno is None:
            raise HubError(
                f"What the Hub sent for {file} of {location.repo} does not match the checksum it names.",
                "Nothing was kept; try again, or check the proxy between here and the Hub.",
            ) from error
        raise


def _cached(location: HubLocation, file: str, revision: str) -> Path | None:
    found = try_to_load_from_cache(location.repo, file, revision=revision)
    return Path(found) if isinstance(found, str) else None


def _is_out_of_reach(error: Exception) -> bool:
    """Whether the Hub did not answer, or only with its own failure, so that the cache may stand in for it."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in {408, 429} or error.response.status_code >= 500
    return True


def _why_not(error: Exception) -> str:
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE forbids fetching it"
    if isinstance(error, HfHubHTTPError):
        return f"the Hub ({constants.ENDPOINT}) answers with error {error.response.status_code}"
    return f"the Hub ({constants.ENDPOINT}) cannot be reached"


@contextmanager
def _two_files_and_nothing_else() -> Iterator[None]:
    """While inside, huggingface_hub neither logs nor asks the Hub for anything but what it is told to fetch.

    It would else ask for a list of tools to recognise in the environment, which can hang for seconds."""
    verbosity, telemetry = hub_logging.get_verbosity(), constants.HF_HUB_DISABLE_TELEMETRY
    hub_logging.set_verbosity(logging.ERROR)
    constants.HF_HUB_DISABLE_TELEMETRY = True
    try:
        yield
    finally:
        hub_logging.set_verbosity(verbosity)
        constants.HF_HUB_DISABLE_TELEMETRY = telemetry


@contextmanager
def _hub_errors(location: HubLocation, name: str) -> Iterator[None]:
    """Turn what huggingface_hub and its HTTP client raise into one sentence and a next step."""
    repo = location.repo
    try:
        yield
    except GatedRepoError as error:
        raise HubError(f"{repo} is gated.", "Ask for access on its page, then set HF_TOKEN.") from error
    except RepositoryNotFoundError as error:
        raise HubError(
            f"The Hub has no repository {repo}.", "If it is private, set HF_TOKEN to a token that may read it."
        ) from error
    except RevisionNotFoundError as error:
        raise HubError(
            f"{repo} has no revision {location.revision}.", "Give a branch, tag or commit it has."
        ) from error
    except RemoteEntryNotFoundError as error:
        raise HubError(
            f"{repo} lacks {location.config} or {location.weights}.", "Give a repository that holds a PCSR model."
        ) from error
    except HFValidationError as error:
        raise HubError(f"{repo!r} is not a name the Hub accepts.", "It has the form user/repo.") from error
    except FileMetadataError as error:
        raise HubError(
            f"What answers at {constants.ENDPOINT} is not the Hub.", "Check HF_ENDPOINT and the network's login page."
        ) from error
    except (httpx2.HTTPError, OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        raise HubError(
            f"{repo} is not in the cache, and {_why_not(error)}.",
            f"Run `pcsr models fetch {name}` once with a network, or name a folder with config.json and "
            "model.safetensors.",
        ) from error
    except OSError as error:
        reason = error.strerror or error
        raise HubError(
            f"The Hub cache {constants.HF_HUB_CACHE} cannot be used: {reason}.",
            "Free space or point HF_HOME to a folder that can be written.",
        ) from error
    except (httpx2.InvalidURL, RuntimeError, ValueError) as error:
        # An address, proxy or token that makes no request, or hf_xet, which knows no better type.
        reason = " ".join(str(error).split())
        raise HubError(
            f"{repo} cannot be asked for: {reason}.", "Check HF_ENDPOINT, HF_TOKEN and the proxy settings."
        ) from error
