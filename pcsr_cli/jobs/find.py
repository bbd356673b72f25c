"""Find the images of a folder run and name their results."""

import glob
import hashlib
import os
import re
import string
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pcsr_cli.errors import InputError, PcsrError, RefusedOutputError, UsageError
from pcsr_cli.images.files import TEMPORARY_PREFIX, is_folder
from pcsr_cli.images.paths import fold_case, ignores_case

CHUNK = 1000
"""The number of images that are listed and checked at once, so that work starts before all images are listed."""


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
    """One of ``count`` parts of the images. A hash of an image's path decides about its part."""

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
    """Return whether a path is a pattern such as ``*.png`` and not the name of an existing file."""
    return glob.has_magic(str(path)) and not os.path.lexists(path)


_NUMBERS = re.compile(r"(\d+)")


def natural_key(path: Path) -> tuple[object, str]:
    """Sort key that compares numbers by value (img2 before img10) and ignores case."""
    parts = (_NUMBERS.split(part.casefold()) for part in path.parts)
    return tuple(tuple(int(p) if p.isdecimal() else p for p in part) for part in parts), str(path)


def find_images(
    paths: Sequence[Path], suffixes: Collection[str], recursive: bool = False, skip: Path | None = None
) -> Found:
    """Find the images in ``paths``, which are files, folders and patterns. Each name of a folder is listed once.

    A folder contributes its files with one of ``suffixes``, in natural order, without hidden files. With ``recursive``,
    a folder contributes its subfolders too, except ``skip`` (the output folder). Links to folders are followed unless
    they lead to a folder that is searched anyway. Files named directly or by a pattern are taken whatever their suffix.
    Raises InputError if there is no image, if a pattern matches nothing, or if a folder in ``paths`` cannot be read."""
    walk = _Walk({suffix.lower() for suffix in suffixes}, recursive, skip)
    found: list[Task] = []
    for path in paths:
        if is_pattern(path):
            found += _matches(path)
        elif is_folder(path):
            found += walk.images(path)
        else:
            found.append(_task(path))
    unique: dict[object, Task] = {}
    for task in found:
        unique.setdefault((_inode(task.source.parent), task.source.name), task)  # links to one file are images too
    if not found and not walk.unread:
        raise InputError(
            f"No image found in {', '.join(map(str, paths))}.", f"Supported files are {', '.join(suffixes)}."
        )
    return Found(tuple(unique.values()), walk.others, tuple(walk.unread))


def _task(source: Path, subfolder: Path = Path()) -> Task:
    return Task(source, subfolder / source.name, subfolder / source.name)


def _matches(pattern: Path) -> list[Task]:
    matches = map(Path, glob.glob(str(pattern), recursive=True))  # noqa: PTH207 - accepts absolute patterns too
    files = [path for path in sorted(matches, key=natural_key) if not is_folder(path)]
    if not files:
        raise InputError(f"No file matches {pattern}.", "Check the pattern.")
    return [_task(path) for path in files]


def _inode(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of a file, which all its names share, or None if it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


class _Walk:
    """Walks through folders and counts the files that are not images."""

    def __init__(self, suffixes: set[str], recursive: bool, skip: Path | None) -> None:
        self.suffixes = suffixes
        self.recursive = recursive
        self.others = 0
        self.unread: list[tuple[Path, PcsrError]] = []
        self._visited = set() if skip is None else {_inode(skip)}

    def images(self, root: Path) -> Iterator[Task]:
        """Yield the images of a folder. Raises InputError if ``root`` cannot be read. Subfolders that cannot be read
        are added to ``unread``."""
        real_root = root.resolve()
        pending = [(root, Path())]
        while pending:
            folder, below = pending.pop()
            self._visited.add(_inode(folder))
            try:
                names = sorted((Path(entry) for entry in os.listdir(folder)), key=natural_key)  # noqa: PTH208 - names
            except OSError as error:
                failure = InputError(
                    f"Cannot read the folder {folder}: {error.strerror}.", "Check the permissions of the folder."
                )
                if folder == root:
                    raise failure from error
                self.unread.append((folder, failure))
                continue
            subfolders = []
            for name in names:
                path = folder / name
                if name.name.startswith("."):
                    continue
                if is_folder(path):
                    subfolders.append((path, below / name))
                elif name.suffix.lower() in self.suffixes:
                    yield _task(path, below)
                else:
                    self.others += 1
            if self.recursive:
                pending += [pair for pair in reversed(subfolders) if self._is_new(pair[0], real_root)]

    def _is_new(self, folder: Path, root: Path) -> bool:
        if folder.is_symlink():
            real = folder.resolve()
            if real.is_relative_to(root) or root.is_relative_to(real):
                return False
        return _inode(folder) not in self._visited


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

    The name is that of an earlier task (ignoring case where the file system does), an image, or a folder."""
    tasks = tuple(tasks)
    key = fold_case if ignores_case(out_dir) else str
    by_name: dict[str, Task] = {}
    sources = {_inode(task.source) for task in tasks} - {None}
    refused: dict[Task, RefusedOutputError] = {}
    for task in tasks:
        output = out_dir / task.output
        if (first := by_name.setdefault(key(task.output), task)) is not task:
            refused[task] = clash(first.source, task)
        elif (inode := _inode(output)) in sources:
            refused[task] = RefusedOutputError(
                f"The result {output} would replace an input image.", "Choose another name.", setting="name"
            )
        elif inode is not None and is_folder(output):
            refused[task] = RefusedOutputError(
                f"The result {output} is a folder.", "Choose another name.", setting="name"
            )
    return refused


def clash(first: Path, second: Task) -> RefusedOutputError:
    """Return the error about a second image whose result would have the name of the first."""
    return RefusedOutputError(
        f"{first} and {second.source} would both become {second.output}.",
        "Use {name} in the template, or separate output folders.",
        setting="name",
    )
