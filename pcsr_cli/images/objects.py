"""Objects in stores such as S3, which the packages of fsspec reach. A path of an object is used like that of a file."""

import errno
import hashlib
import mimetypes
import os
import re
import stat
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path, PosixPath
from typing import Any, Literal

from pcsr_cli.errors import PcsrError, StoreError, UsageError

URL = re.compile(r"(?!https?:)([a-z][a-z0-9+.-]+)://", re.IGNORECASE)

S3 = {"s3", "s3a"}
BUCKETS = {*S3, "gs", "gcs"}
WHOLE = {*BUCKETS, "memory"}
"""The protocols of stores in which an object is complete or absent, and can be created exclusively."""

PART = 50 * 2**20
"""The bytes of each part of an object of at least twice this size."""

VERSIONS = ("ETag", "etag")
TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")
"""The names that stores give to the version of an object and to its time."""

PAGE = 1000
"""The objects that one request lists."""

REQUESTS = 10
"""The requests that are sent at the same time."""


@dataclass(frozen=True)
class State:
    """The state of an object. ``version`` is its ETag, or its time in nanoseconds. ``is_folder`` means that the path is
    not an object, but that there are objects below it."""

    size: int
    version: str | int | None
    time: float
    is_folder: bool = False


class ObjectPath(PosixPath):
    """The path of an object, such as s3://bucket/a.png, or of a folder of objects.

    ``known`` is the state of the object when it was listed or looked up: False if there was no object, None if the
    state is unknown. ``stat`` and the methods that depend on ``stat`` use a known state. The methods raise
    FileNotFoundError, FileExistsError, and StoreError for a store that cannot be used."""

    known: State | Literal[False] | None = None

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)

    def __fspath__(self) -> str:
        raise TypeError(f"{self} is not a file of this machine")

    def relative_to(self, *other: Any, **more: Any) -> Path:  # type: ignore[override]
        """Return the path below a folder, which is not the path of an object."""
        return Path(*super().relative_to(*other, **more).parts)

    def fresh(self) -> "ObjectPath":
        """Return the path without its known state."""
        return type(self)(*self.parts)

    def state(self) -> State:
        """Return the state of the object or the folder. Raises FileNotFoundError, StoreError."""
        if isinstance(self.known, State):
            return self.known
        if self.known is False:
            raise FileNotFoundError(str(self))
        with self._errors():
            return _state(self._store.info(self._key))

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return the size and the time of ``state`` as for a file."""
        state = self.state()
        mode = stat.S_IFDIR if state.is_folder else stat.S_IFREG
        return os.stat_result((mode, 0, 0, 0, 0, 0, state.size, 0, 0, 0), {"st_mtime": state.time})

    def exists(self, **_: Any) -> bool:
        """Return whether there is an object or a folder."""
        return self._is_folder() is not None

    def is_dir(self, **_: Any) -> bool:
        """Return whether there is a folder."""
        return self._is_folder() is True

    def is_file(self, **_: Any) -> bool:
        """Return whether there is an object."""
        return self._is_folder() is False

    def _is_folder(self) -> bool | None:
        try:
            return self.state().is_folder
        except FileNotFoundError:
            return None

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: the folders of a store exist with their objects."""

    def read_bytes(self, start: int = 0) -> bytes:
        """Return the content from the byte ``start`` on."""
        with self._errors():
            return bytes(self._store.cat_file(self._key, **({"start": start} if start else {})))

    def write_bytes(self, content: Any) -> int:
        """Write an object, or replace the existing one."""
        with self._errors():
            self._store.pipe_file(self._key, bytes(content))
        return len(content)

    def create(self, content: bytes) -> None:
        """Write an object that does not exist yet. Raises FileExistsError."""
        with self._errors(exclusive=True):
            self._store.pipe_file(self._key, content, mode="create")

    def put(self, file: Path, replace: bool) -> None:
        """Upload a file as one object, which exists only after the whole upload. Without ``replace``, the object must
        be new. Raises FileExistsError."""
        options: dict[str, Any] = {}
        if self._protocol in S3:
            kind = mimetypes.guess_type(self.name)[0] or "application/octet-stream"
            options = {"chunksize": PART, "ContentType": kind, "mode": "overwrite" if replace else "create"}
        elif not replace and self.fresh().exists():
            raise FileExistsError(errno.EEXIST, "the object exists")
        with self._errors(exclusive=not replace):
            self._store.put_file(str(file), self._key, **options)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object."""
        with self._errors():
            self._store.rm_file(self._key)

    def iterdir(self) -> Generator["ObjectPath", None, None]:
        """Yield the objects of the folder with their states, none if there is no such folder."""
        with suppress(FileNotFoundError):
            for name, state in self.objects():
                child = self / name
                child.known = state
                yield child

    def objects(self, recursive: bool = False) -> Iterator[tuple[str, State]]:
        """Yield the part of each key below the folder, and the state of the object, while the folder is listed."""
        with self._errors():
            base = self._key.strip("/") + "/"
            found = self._pages(recursive) if self._protocol in S3 else self._walk(recursive)
            for info in found:
                name = info["name"].lstrip("/")
                if not name.endswith("/"):  # the mark of an empty folder
                    yield name.removeprefix(base), _state(info)

    def _pages(self, recursive: bool) -> Iterator[dict[str, Any]]:
        """List a folder of S3 while its objects are taken."""
        bucket, key, _ = self._store.split_path(self._key)
        query = {"Bucket": bucket, "Prefix": f"{key}/" if key else "", "MaxKeys": PAGE}
        if not recursive:
            query["Delimiter"] = "/"
        while True:
            page = self._store.call_s3("list_objects_v2", **query)
            for entry in page.get("Contents", ()):
                yield {**entry, "name": f"{bucket}/{entry['Key']}", "size": entry["Size"], "type": "file"}
            if not page.get("IsTruncated"):
                return
            query["ContinuationToken"] = page["NextContinuationToken"]

    def _walk(self, recursive: bool) -> Iterator[dict[str, Any]]:
        """List the folder, or each folder below it, as a whole."""
        depth = None if recursive else 1
        for _, _, files in self._store.walk(self._key, maxdepth=depth, detail=True, on_error="raise"):
            yield from files.values()

    @property
    def _protocol(self) -> str:
        return self.parts[0].removesuffix(":").lower()

    @cached_property
    def _store(self) -> Any:
        import fsspec

        options = {"max_concurrency": 1} if self._protocol in S3 else {}  # the memory holds one part at a time
        store, _ = fsspec.core.url_to_fs(str(self), use_listings_cache=False, **options)
        return store

    @property
    def _key(self) -> str:
        return str(self._store._strip_protocol(str(self)))

    @contextmanager
    def _errors(self, exclusive: bool = False) -> Iterator[None]:
        """Turn the errors of a store into StoreError, except those about an object that is missing or exists."""
        try:
            yield
        except (PcsrError, GeneratorExit, MemoryError):
            raise
        except Exception as error:  # the packages raise errors of many types
            response = getattr(error.__cause__ or error, "response", None) or {}
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            code = response.get("Error", {}).get("Code")
            if isinstance(error, FileExistsError) or (exclusive and status in {409, 412}):
                raise FileExistsError(errno.EEXIST, "the object exists") from error
            is_bucket = self._protocol in BUCKETS and len(self.parts) == 2
            no_bucket = code == "NoSuchBucket" or (isinstance(error, FileNotFoundError) and is_bucket)
            if isinstance(error, FileNotFoundError) and not no_bucket:
                raise FileNotFoundError(errno.ENOENT, "there is no such object") from error
            text = " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
            reason = f"access is denied ({text.removesuffix('.')})" if isinstance(error, PermissionError) else text
            reason = f"there is no bucket {self.parts[1]}" if no_bucket else reason.removesuffix(".")
            raise StoreError(
                f"{self} cannot be used: {reason}.", "Check the address, the network and the credentials."
            ) from error


def _state(info: dict[str, Any]) -> State:
    time = next((info[name] for name in TIMES if info.get(name)), 0.0)
    if isinstance(time, str):
        time = datetime.fromisoformat(time)
    seconds = time.timestamp() if isinstance(time, datetime) else float(time)
    version: Any = next((str(info[name]).strip('"') for name in VERSIONS if info.get(name)), None)
    return State(info.get("size") or 0, version or int(seconds * 1e9) or None, seconds, info["type"] == "directory")


def to_path(text: str) -> Path:
    """Return the path of a file or an object. Raises UsageError for a store whose package is not installed."""
    match = URL.match(text)
    if match is None:
        return Path(text)
    protocol = match[1].lower()
    if protocol in {"file", "local"}:
        return Path(text[match.end() :])
    try:
        import fsspec

        fsspec.get_filesystem_class(protocol)
    except ValueError as error:
        raise UsageError(f"{text} cannot be used: fsspec has no protocol {protocol}.", "Check the address.") from error
    except ImportError as error:
        missing = getattr(error.__cause__ or error, "name", None) or "fsspec"
        raise UsageError(
            f"{text} needs a package that is not installed.", f"Install it: pip install {missing}."
        ) from error
    return ObjectPath(text)


def check_whole(path: Path) -> None:
    """Raise UsageError for a store in which an object could be visible before it is complete."""
    if isinstance(path, ObjectPath) and path._protocol not in WHOLE:
        raise UsageError(
            f"Results cannot be written to {path}: that store may show incomplete results.", "Use a folder, s3 or gs."
        )


def look_up(paths: Iterable[Path]) -> Sequence[Path]:
    """Return the paths. Paths of objects get the states of the objects, which are requested many at a time. Raises
    StoreError."""
    found = tuple(paths)
    objects = [path for path in found if isinstance(path, ObjectPath)]

    def look(path: ObjectPath) -> None:
        try:
            path.known = path.state()
        except FileNotFoundError:
            path.known = False

    if objects:
        with ThreadPoolExecutor(REQUESTS) as pool:
            list(pool.map(look, objects))
    return found


def etag_of(file: Path) -> str:
    """Return the ETag that S3 gives to a file without encryption by a key of the customer. Raises OSError."""
    with file.open("rb") as content:
        if file.stat().st_size < 2 * PART:
            return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        parts = [hashlib.md5(part, usedforsecurity=False).digest() for part in iter(lambda: content.read(PART), b"")]
    return f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"
