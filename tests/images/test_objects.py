"""Objects in stores: their paths, their states, and puts that are whole and exclusive."""

import hashlib
import os
import pickle
from pathlib import Path

import pytest

from pcsr_cli.errors import StoreError, UsageError
from pcsr_cli.images import objects
from pcsr_cli.images.objects import ObjectPath, check_whole, etag_of, look_up, to_path
from tests.failing import fails
from tests.s3_server import Bucket

MIB = 2**20


def test_a_url_keeps_its_form() -> None:
    path = to_path("memory://a/b")
    child = path / "c:" / "d.png"
    assert str(child) == "memory://a/b/c:/d.png"
    assert str(child.relative_to(path)) == "c:/d.png"
    assert type(child.relative_to(path)) is type(Path())
    assert (str(child.parent), child.suffix) == ("memory://a/b/c:", ".png")
    assert pickle.loads(pickle.dumps(child)) == child


def test_only_the_urls_of_stores_are_objects() -> None:
    for text in ("in.png", "C:/in.png", "http://host/in.png", "HTTPS://host/in.png"):
        assert to_path(text) == Path(text)
    assert to_path("file:///images/in.png") == Path("/images/in.png")


def test_an_object_is_never_a_file_of_this_machine() -> None:
    with pytest.raises(TypeError, match="not a file of this machine"):
        os.fspath(to_path("memory://a"))


def test_a_missing_package_is_named() -> None:
    pytest.importorskip("fsspec")
    with fails(UsageError, "gs://a/in.png needs a package that is not installed. Install it: pip install gcsfs."):
        to_path("gs://a/in.png")
    with fails(UsageError, "fsspec has no protocol nonsense"):
        to_path("nonsense://a")


def test_results_go_only_to_stores_without_half_objects() -> None:
    check_whole(to_path("memory://a"))
    with fails(UsageError, "Results cannot be written to ftp://host/a: that store may show incomplete results."):
        check_whole(to_path("ftp://host/a"))


@pytest.mark.parametrize("store", ["memory", "s3"])
def test_an_object_is_put_once_unless_it_is_replaced(bucket: Bucket, tmp_path: Path, store: str) -> None:
    path = to_path(f"{store}://{bucket.name}/sub/a.png")
    assert isinstance(path, ObjectPath)
    (tmp_path / "a").write_bytes(b"1")
    assert not path.exists()
    path.put(tmp_path / "a", replace=False)
    (tmp_path / "a").write_bytes(b"22")
    with pytest.raises(FileExistsError):
        path.put(tmp_path / "a", replace=False)
    with pytest.raises(FileExistsError):
        path.create(b"22")
    assert path.read_bytes() == b"1"
    path.put(tmp_path / "a", replace=True)
    assert (path.read_bytes(), path.read_bytes(1), path.state().size) == (b"22", b"2", 2)
    assert path.is_file() and path.parent.is_dir() and not path.is_dir()
    assert [str(child) for child in path.parent.iterdir()] == [str(path)]
    path.unlink()
    assert not path.exists() and list(path.parent.iterdir()) == []


def test_states_are_looked_up_together(bucket: Bucket) -> None:
    bucket.put("a", b"1")
    paths = look_up([to_path(f"{bucket.url}/a"), to_path(f"{bucket.url}/b"), Path("c")])
    bucket.put("b", b"1")
    bucket.server.requests.clear()
    assert [path.exists() for path in paths] == [True, False, False]
    assert bucket.server.requests == []
    assert [path.fresh().exists() for path in paths if isinstance(path, ObjectPath)] == [True, True]


@pytest.mark.parametrize("parts", [1, 3])
def test_a_large_object_is_put_in_parts_or_not_at_all(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    monkeypatch.setattr(objects, "PART", 5 * MIB)
    (tmp_path / "a").write_bytes(os.urandom(parts * 4 * MIB))
    path = to_path(f"{bucket.url}/a")
    assert isinstance(path, ObjectPath)
    upload = "partNumber=2" if parts > 1 else "/a"
    bucket.server.fault = lambda method, path: 403 if method == "PUT" and upload in path else None
    with fails(StoreError, "access is denied"):
        path.put(tmp_path / "a", replace=False)
    assert (bucket.keys(), bucket.uploads()) == ([], 0)
    bucket.server.fault = lambda method, path: None
    path.put(tmp_path / "a", replace=False)
    assert path.state().version == etag_of(tmp_path / "a")
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256((tmp_path / "a").read_bytes()).digest()
    with pytest.raises(FileExistsError):
        path.put(tmp_path / "a", replace=False)
    assert bucket.uploads() == 0


def test_a_store_that_cannot_be_used_is_one_sentence(bucket: Bucket) -> None:
    with fails(StoreError, "s3://no-such-bucket/a cannot be used: there is no bucket no-such-bucket."):
        to_path("s3://no-such-bucket/a").exists()
    bucket.server.fault = lambda method, path: 403
    with fails(StoreError, f"{bucket.url}/a cannot be used: access is denied (Forbidden)."):
        to_path(f"{bucket.url}/a").exists()
