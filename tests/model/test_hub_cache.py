"""A cached file is known by the hash it is named after."""

import hashlib
from pathlib import Path

import pytest
from huggingface_hub import constants

from pcsr_cli.model import hub_cache as cache
from pcsr_cli.model.registry import HubLocation

LOCATION = HubLocation("someone/tiny", "0" * 40)
CONTENT = b"weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
GIT_SHA1 = hashlib.sha1(b"blob 7\0weights").hexdigest()


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the cache keeps the files of LOCATION."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--someone--tiny" / "snapshots" / LOCATION.revision
    folder.mkdir(parents=True)
    return folder


def put(snapshot: Path, name: str, etag: str, content: bytes = CONTENT) -> Path:
    blob = snapshot.parent.parent / "blobs" / etag
    blob.parent.mkdir(exist_ok=True)
    blob.write_bytes(content)
    (snapshot / name).symlink_to(blob)
    return snapshot / name


def test_both_files_have_to_be_cached(snapshot: Path) -> None:
    assert not cache.is_cached(LOCATION)
    put(snapshot, "config.json", "a")
    assert not cache.is_cached(LOCATION)
    put(snapshot, "model.safetensors", "b").resolve().unlink()
    assert not cache.is_cached(LOCATION)
    put(snapshot, "config.json.old", "b")
    assert cache.is_cached(LOCATION)


@pytest.mark.parametrize("etag", [SHA256, GIT_SHA1, "W/of-another-kind".replace("/", "-")])
def test_content_that_fits_its_name_is_whole(snapshot: Path, etag: str) -> None:
    assert cache.is_whole(put(snapshot, "file", etag))


@pytest.mark.parametrize("etag", [SHA256, GIT_SHA1])
@pytest.mark.parametrize("content", [b"", b"Weights", b"weights\n"])
def test_content_that_does_not_is_damaged(snapshot: Path, etag: str, content: bytes) -> None:
    assert not cache.is_whole(put(snapshot, "file", etag, content))


def test_a_plain_file_tells_nothing_of_itself(snapshot: Path) -> None:
    (snapshot / "file").write_bytes(b"anything")
    assert cache.is_whole(snapshot / "file")
    assert not cache.is_whole(snapshot / "no file")


def test_the_revision_is_the_snapshots_name(snapshot: Path) -> None:
    assert cache.revision_of(snapshot / "file") == LOCATION.revision


def test_forgetting_follows_links_to_the_end(snapshot: Path, tmp_path: Path) -> None:
    # As in the cache's store of blobs that several repositories share.
    shared = tmp_path / "shared"
    shared.write_bytes(CONTENT)
    blob = put(snapshot, "file", SHA256).resolve()
    blob.unlink()
    blob.symlink_to(shared)
    cache.forget(snapshot / "file")
    assert not (snapshot / "file").is_symlink()
    assert not blob.is_symlink()
    assert not shared.exists()


def test_forgetting_what_is_gone_is_no_error(snapshot: Path) -> None:
    cache.forget(snapshot / "file")
    put(snapshot, "file", SHA256).resolve().unlink()
    cache.forget(snapshot / "file")
    assert not (snapshot / "file").is_symlink()
