"""Find the images of a folder run and name their results."""

import glob
import hashlib
import os
import re
import string
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BufferedIOBase
from itertools import islice
from pathlib import Path

from pcsr_cli.errors import InputError, PcsrError, RefusedOutputError, UsageError
from pcsr_cli.images.files import TEMPORARY_PREFIX, is_folder
from pcsr_cli.images.objects import ObjectPath, to_path
from pcsr_cli.images.paths import fold_case, ignores_case

CHUNK = 1000
"""The number of images that are listed and checked at once, so that work starts before all images are listed."""


BLOCK = 2**16
"""The bytes of a list that are read at once, more than a path may have."""


@dataclass(frozen=True)
class Task:
    """One image of a folder run. ``path`` is the path of the source in the searched folder. ``output`` is the path of
    the result in the output folder; ``find_images`` sets it to ``path``."""

    source: Path
    output: Path
    path: Path = Path()


def path_digest(path: Path) -> bytes:
    """Return a hash of a relative path, which is the same on every machine."""
    return hashlib.sha256(os.fsencode(path.as_posix())).digest()


@dataclass(frozen=True)
class Shard:
    """One of ``count`` parts of the images. An image belongs to the part that a hash of its path gives."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def holds(self, task: Task) -> bool:
        """Return whether an image belongs to this part."""
        return int.from_bytes(path_digest(task.path)[-8:]) % self.count == self.number - 1


def parse_shard(text: str) -> Shard:
    """Parse the text of a shard, such as 2/5. Raises UsageError."""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    shard = Shard(*map(int, match.groups())) if match else Shard(0, 0)
    if not 1 <= shard.number <= shard.count:
        raise UsageError(
            f"Invalid shard {text[:30]!r}.",
            "Use NUMBER/COUNT with a number from 1 to COUNT, such as 2/5.",
            setting="shard",
        )
    return shard


@dataclass(frozen=True)
class Found:
    """The images to upscale, the number of other files, and the subfolders that could not be read."""

    tasks: tuple[Task, ...]
    others: int = 0
    unread: tuple[tuple[Path, PcsrError], ...] = ()


def is_pattern(path: Path) -> bool:
    """Return whether a path is a pattern such as ``*.png`` and not the name of an existing file or a URL."""
    return not isinstance(path, ObjectPath) and glob.has_magic(str(path)) and not os.path.lexists(path)


_NUMBERS = re.compile(r"(\d+)")


def natural_key(path: Path) -> tuple[object, str]:
    """Sort key that compares numbers by value (img2 before img10) and ignores case."""
    parts = (_NUMBERS.split(part.casefold()) for part in path.parts)
    return tuple(tuple(int(p) if p.isdecimal() else p for p in part) for part in parts), str(path)


def find_images(
    paths: Sequence[Path], suffixes: Collection[str], recursive: bool = False, skip: Path | None = None
) -> Found:
    """Find all images in ``paths``. See ``Listing``."""
    listing = Listing(paths, suffixes, recursive, skip)
    return Found(tuple(listing), listing.others, tuple(listing.unread))


class Listing:
    """Finds the images in ``paths``, which are files, folders and patterns, while it is iterated. Each name of a folder
    is listed once.

    A folder contributes its files with one of ``suffixes``, without hidden files, a thousand at a time in natural
    order. With ``recursive``, a folder contributes its subfolders too, except ``skip`` (the output folder). Links to
    folders are followed unless they lead to a folder that is searched anyway. Files named directly or by a pattern are
    taken whatever their suffix. ``names``, which may be empty, replace the search. ``paths`` then has at most their
    common folder.

    Iterating raises InputError if there is no image, if a pattern matches nothing, if a folder in ``paths`` cannot be
    read, or if one of ``names`` is outside the common folder. ``others`` counts the files that are not images, and
    ``unread`` has the subfolders that could not be read."""

    def __init__(
        self,
        paths: Sequence[Path],
        suffixes: Collection[str],
        recursive: bool = False,
        skip: Path | None = None,
        names: Iterable[Path] | None = None,
    ) -> None:
        self.others = 0
        self.unread: list[tuple[Path, PcsrError]] = []
        self._paths, self._suffixes = paths, tuple(suffixes)
        self._recursive, self._skip, self._names = recursive, skip, names
        self._walked: set[tuple[int, int] | Path | None] = set()
        self._named: set[tuple[tuple[int, int] | Path | None, str]] = set()

    def __iter__(self) -> Iterator[Task]:
        """Yield the images."""
        none = True
        for task in self._images():
            none = False
            yield task
        if none and not self.unread and self._names is None:
            raise InputError(
                f"No image found in {', '.join(map(str, self._paths))}.",
                f"Supported files are {', '.join(self._suffixes)}.",
            )

    def _images(self) -> Iterator[Task]:
        if self._names is not None:
            yield from self._below(self._names)
            return
        for path in self._paths:
            if is_pattern(path):
                yield from filter(self._is_new_name, _matches(path))
            elif not is_folder(path):
                yield from filter(self._is_new_name, [_task(path)])
            elif isinstance(path, ObjectPath):
                yield from self._list_objects(path)
            elif _inode(path) not in self._walked:
                yield from self._walk(path)

    def _below(self, names: Iterable[Path]) -> Iterator[Task]:
        """Yield named images with their paths in the common folder, if there is one."""
        root = _absolute(self._paths[0]) if self._paths else None
        skip = None if self._skip is None else _absolute(self._skip)
        for name in names:
            absolute = _absolute(name)
            if skip is not None and absolute.is_relative_to(skip):
                raise InputError(f"{name} is in the folder of the results.", "Remove it from the list.")
            if root is not None and (".." in absolute.parts or not absolute.is_relative_to(root)):
                raise InputError(f"{name} is not in {self._paths[0]}.", "Give the folder that has all listed images.")
            path = Path(name.name) if root is None else absolute.relative_to(root)
            yield Task(name, path, path)

    def _is_new_name(self, task: Task) -> bool:
        """Return whether a file that is named directly was not listed before. Links to one file are images too."""
        if len(self._paths) == 1:
            return True
        key = _inode(task.source.parent), task.source.name
        listed = key in self._named or (key[0] in self._walked and self._is_image(key[1]))
        self._named.add(key)
        return not listed

    def _is_image(self, name: str) -> bool:
        return not name.startswith(".") and Path(name).suffix.lower() in self._suffixes

    def _walk(self, root: Path) -> Iterator[Task]:
        """Yield the images of a folder."""
        real_root = root.resolve()
        pending = [(root, Path())]
        while pending:
            folder, below = pending.pop()
            if folder != root and not self._is_new(folder, real_root):
                continue
            inode = _inode(folder)
            self._walked.add(inode)
            subfolders: list[Path] = []
            try:
                with os.scandir(folder) as entries:
                    while chunk := [(Path(entry.name), _is_folder(entry)) for entry in islice(entries, CHUNK)]:
                        for name, is_subfolder in sorted(chunk, key=lambda pair: natural_key(pair[0])):
                            if is_subfolder and not name.name.startswith("."):
                                subfolders.append(name)
                            elif self._is_image(name.name) and (inode, name.name) not in self._named:
                                yield _task(folder / name, below)
                            else:
                                self.others += not (name.name.startswith(".") or self._is_image(name.name))
            except OSError as error:
                failure = InputError(
                    f"Cannot read the folder {folder}: {error.strerror}.", "Check the permissions of the folder."
                )
                if folder == root:
                    raise failure from error
                self.unread.append((folder, failure))
            if self._recursive:
                subfolders.sort(key=natural_key, reverse=True)
                pending += [(folder / name, below / name) for name in subfolders]

    def _list_objects(self, root: ObjectPath) -> Iterator[Task]:
        """Yield the images of a folder in a store."""
        objects = root.objects(self._recursive)
        while chunk := [(Path(name), name, state) for name, state in islice(objects, CHUNK)]:
            for below, name, state in sorted(chunk, key=lambda each: natural_key(each[0])):
                source = root / below
                if below.as_posix() != name or below.is_absolute() or ".." in below.parts:
                    error = InputError(f"The key {name!r} below {root} is not a path.", "Rename the object.")
                    self.unread.append((root, error))
                elif any(part.startswith(".") for part in below.parts) or source.is_relative_to(self._skip or "/"):
                    continue
                elif self._is_image(below.name):
                    source.known = state
                    yield Task(source, below, below)
                else:
                    self.others += 1

    def _is_new(self, folder: Path, root: Path) -> bool:
        if folder.is_symlink():
            real = folder.resolve()
            if real.is_relative_to(root) or root.is_relative_to(real):
                return False
        inode = _inode(folder)
        return inode not in self._walked and (self._skip is None or inode != _inode(self._skip))


def _absolute(path: Path) -> Path:
    return path if isinstance(path, ObjectPath) else Path(os.path.abspath(path))  # noqa: PTH100 - removes .. and does not follow links


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    return is_folder(Path(entry.path)) if entry.is_symlink() else entry.is_dir()


def _task(source: Path, subfolder: Path = Path()) -> Task:
    return Task(source, subfolder / source.name, subfolder / source.name)


def _matches(pattern: Path) -> list[Task]:
    matches = map(Path, glob.glob(str(pattern), recursive=True))  # noqa: PTH207 - accepts absolute patterns too
    files = [path for path in sorted(matches, key=natural_key) if not is_folder(path)]
    if not files:
        raise InputError(f"No file matches {pattern}.", "Check the pattern.")
    return [_task(path) for path in files]


def _inode(path: Path) -> tuple[int, int] | Path | None:
    """Return the device and inode of a file, which all its names share, or None if it does not exist. Objects have one
    name."""
    if isinstance(path, ObjectPath):
        return path
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def read_list(file: BufferedIOBase) -> Iterator[Path]:
    """Yield the paths in a list while it is read: one a line, or with a NUL byte after each, such as from find -print0.

    Raises InputError for an invalid list."""
    rest = mark = b""
    while block := file.read1(BLOCK):
        rest += block
        mark = mark or next((mark for mark in (b"\0", b"\n") if mark in rest), b"")
        *names, rest = rest.split(mark) if mark else [rest]
        if len(rest) > BLOCK:
            raise InputError("The list has a path that is too long.", "Give a file with one path a line.")
        yield from (to_path(os.fsdecode(name)) for name in names if name)
    if rest:
        yield to_path(os.fsdecode(rest))


FIELDS = ("stem", "name", "suffix", "scale")
DEFAULT_TEMPLATE = "{stem}_x{scale}{suffix}"


def fill_template(template: str, source: Path, scale: float | str, suffix: str) -> str:
    """Return the name of the result of ``source``.

    ``{stem}`` and ``{name}`` are the name of the image without and with its suffix, ``{suffix}`` is the suffix of the
    result, and ``{scale}`` is a number such as 4 or 2.5, or a target size."""
    return template.format(
        stem=source.stem, name=source.name, suffix=suffix, scale=scale if isinstance(scale, str) else f"{scale:g}"
    )


def check_template(text: str) -> str:
    """Return a template unchanged. Raises UsageError for unknown fields, and for a template that does not make plain
    file names."""
    try:
        pieces = list(string.Formatter().parse(text))
    except ValueError as error:
        raise _invalid_template(text, str(error).lower()) from error
    for _, name, form, conversion in pieces:
        if name is not None and (name not in FIELDS or form or conversion):
            field = name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
            raise _invalid_template(text, f"the field {{{field}}} does not exist")
    filled = fill_template(text, Path("a.png"), 4, ".png")
    if any(mark in text for mark in ("/", "\\", "\0")):
        raise _invalid_template(text, "a file name cannot contain a folder")
    if filled.strip(" .") == "":
        raise _invalid_template(text, "a file name needs a letter or a digit")
    if filled.startswith(TEMPORARY_PREFIX):
        raise _invalid_template(text, f"names that start with {TEMPORARY_PREFIX} are reserved for temporary files")
    return text


def _invalid_template(text: str, reason: str) -> Exception:
    fields = ", ".join(f"{{{name}}}" for name in FIELDS)
    return UsageError(
        f"Invalid name template '{text}': {reason}.", f"Use {fields}, such as {DEFAULT_TEMPLATE}.", setting="name"
    )


def name_output(
    task: Task, template: str, scale: float | str, suffix_of: Callable[[Path], str], fan_out: bool = False
) -> Task:
    """Return the task with the name of its result. ``suffix_of`` maps a source to the suffix of its result.

    With ``fan_out``, the result is in one of 65,536 folders, by a hash of the image's path."""
    output = task.output.parent / fill_template(template, task.source, scale, suffix_of(task.source))
    if fan_out:
        digest = path_digest(task.path).hex()
        output = Path(digest[:2], digest[2:4]) / output
    return replace(task, output=output)


def refused_names(tasks: Iterable[Task], out_dir: Path) -> dict[Task, RefusedOutputError]:
    """Return the tasks whose results cannot have their names, with errors.

    A name is refused if it belongs to an input image, to a folder, or to the result of an earlier task. Case is ignored
    where the file system ignores it."""
    tasks = tuple(tasks)
    key = fold_case if ignores_case(out_dir) else str
    by_name: dict[str, Task] = {}
    sources = {_inode(task.source) for task in tasks} - {None}
    refused: dict[Task, RefusedOutputError] = {}
    for task in tasks:
        output = out_dir / task.output
        if (first := by_name.setdefault(key(task.output), task)) is not task:
            refused[task] = clash(str(first.source), task)
        elif _inode(output) in sources:
            refused[task] = RefusedOutputError(
                f"The result {output} would replace an input image.", "Choose another name.", setting="name"
            )
        elif not isinstance(output, ObjectPath) and is_folder(output):
            refused[task] = RefusedOutputError(
                f"The result {output} is a folder.", "Choose another name.", setting="name"
            )
    return refused


def clash(first: str, second: Task) -> RefusedOutputError:
    """Return the error about a second image whose result would have the name of the first."""
    return RefusedOutputError(
        f"{first} and {second.source} would both become {second.output}.",
        "Use {name} in the template, or separate output folders.",
        setting="name",
    )
