"""The pictures that paths, folders and patterns stand for: each once, in natural order."""

import glob
import os
import re
import string
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pcsr_cli.errors import InputError, PcsrError, RefusedOutputError, UsageError
from pcsr_cli.images.files import TEMPORARY_PREFIX, fold_case, ignores_case, is_folder

NUMBERS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Source:
    """A picture to enlarge: ``path`` leads to it, ``folder`` (relative) is where its result goes below the output's."""

    path: Path
    folder: Path = field(default_factory=Path)


@dataclass(frozen=True)
class Found:
    """What there is to enlarge, what was passed over as no picture, and folders within that could not be read."""

    sources: tuple[Source, ...]
    others: int = 0
    unread: tuple[tuple[Path, PcsrError], ...] = ()


def is_pattern(path: Path) -> bool:
    """Whether a path is a pattern such as ``*.png`` and no file of that very name."""
    return glob.has_magic(str(path)) and not os.path.lexists(path)


def natural(path: Path) -> tuple[tuple[object, ...], str]:
    """A key to sort by: numbers in names by their value, so that img2 comes before img10; letters in either case."""
    parts = (NUMBERS.split(part.casefold()) for part in path.parts)
    return tuple(tuple(int(p) if p.isdecimal() else p for p in part) for part in parts), str(path)


def find_sources(
    paths: Sequence[Path], suffixes: Collection[str], recursive: bool = False, leave_out: Path | None = None
) -> Found:
    """The pictures that ``paths`` stand for.

    Of a folder, files with one of ``suffixes`` that are not hidden, with ``recursive`` of folders within, too; there,
    ``leave_out`` (where the results go) is not entered, nor is a link to a folder that is visited anyway. A file
    given by name or pattern is taken as it is. Raises InputError where there is nothing, or a folder cannot be read."""
    walk = _Walk({suffix.lower() for suffix in suffixes}, recursive, leave_out)
    found: list[Source] = []
    for path in paths:
        if is_pattern(path):
            found += _matches(path)
        elif is_folder(path):
            found += walk.pictures(path)
        else:
            found.append(Source(path))
    unique = {_identity(source.path): source for source in reversed(found)}
    sources = tuple(source for source in found if unique[_identity(source.path)] is source)
    if not sources and not walk.unread:
        places = ", ".join(str(path) for path in paths)
        known = ", ".join(suffixes)
        raise InputError(f"There is no picture in {places}.", f"Pictures are {known}.")
    return Found(sources, walk.others, tuple(walk.unread))


def _matches(pattern: Path) -> Iterator[Source]:
    matches = sorted(map(Path, glob.glob(str(pattern), recursive=True)), key=natural)  # noqa: PTH207 - any pattern
    files = [path for path in matches if not is_folder(path)]
    if not files:
        raise InputError(f"No file matches {pattern}.", "Check the pattern.")
    return (Source(path) for path in files)


def _identity(path: Path) -> tuple[int, int] | str:
    """What tells two names of one file from two files."""
    try:
        status = path.stat()
    except OSError:
        return str(path.absolute())
    return status.st_dev, status.st_ino


class _Walk:
    """Goes through folders and remembers what it passed over."""

    def __init__(self, suffixes: set[str], recursive: bool, leave_out: Path | None) -> None:
        self.suffixes = suffixes
        self.recursive = recursive
        self.others = 0
        self.unread: list[tuple[Path, PcsrError]] = []
        self._visited = set() if leave_out is None else {_identity(leave_out)}

    def pictures(self, root: Path) -> Iterator[Source]:
        """The pictures of a folder given by name; that it cannot be read is an error, of those within a note."""
        real = root.resolve()
        waiting = [(root, Path())]
        while waiting:
            folder, below = waiting.pop()
            self._visited.add(_identity(folder))
            try:
                names = sorted((Path(entry) for entry in os.listdir(folder)), key=natural)  # noqa: PTH208 - names only
            except OSError as error:
                told = InputError(f"The folder {folder} cannot be read: {error.strerror}.", "Check its permissions.")
                if folder == root:
                    raise told from error
                self.unread.append((folder, told))
                continue
            within = []
            for name in names:
                if name.name.startswith("."):
                    continue
                path = folder / name
                if is_folder(path):
                    within.append((path, below / name))
                elif name.suffix.lower() in self.suffixes:
                    yield Source(path, below)
                else:
                    self.others += 1
            if self.recursive:
                waiting += [pair for pair in reversed(within) if self._to_be_entered(pair[0], real)]

    def _to_be_entered(self, folder: Path, root: Path) -> bool:
        if folder.is_symlink():
            real = folder.resolve()
            if real.is_relative_to(root) or root.is_relative_to(real):
                return False
        return _identity(folder) not in self._visited


FIELDS = ("stem", "name", "suffix", "scale")
DEFAULT = "{stem}_x{scale}{suffix}"


@dataclass(frozen=True)
class Task:
    """One picture and its result, ``output`` being relative to the folder of results."""

    source: Source
    output: Path


@dataclass(frozen=True)
class Template:
    """A template that was checked: ``{stem}`` and ``{name}`` are the picture's name without and with its suffix,
    ``{suffix}`` is that of the result, ``{scale}`` a number such as 4 or 2.5."""

    text: str = DEFAULT

    def fill(self, source: Path, scale: float, suffix: str) -> str:
        """The name of a picture's result."""
        return self.text.format(stem=source.stem, name=source.name, suffix=suffix, scale=f"{scale:g}")


def parse_template(text: str) -> Template:
    """A template as a user gives it. Raises UsageError for unknown fields and for what is no plain file name."""
    try:
        pieces = list(string.Formatter().parse(text))
    except ValueError as error:
        raise _no_template(text, str(error).lower()) from error
    for _, name, form, conversion in pieces:
        if name is not None and (name not in FIELDS or form or conversion):
            asked = name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
            raise _no_template(text, f"there is no {{{asked}}}")
    filled = Template(text).fill(Path("a.png"), 4, ".png")
    if any(mark in text for mark in ("/", "\\", "\0")):
        raise _no_template(text, "a name has no folders in it")
    if filled.strip(" .") == "":
        raise _no_template(text, "a name has letters in it")
    if filled.startswith(TEMPORARY_PREFIX):
        raise _no_template(text, f"names that begin with {TEMPORARY_PREFIX} are kept for unfinished files")
    return Template(text)


def _no_template(text: str, reason: str) -> Exception:
    fields = ", ".join(f"{{{name}}}" for name in FIELDS)
    return UsageError(f"--name {text} is no template: {reason}.", f"Such as {DEFAULT}; there are {fields}.")


def plan_tasks(
    sources: Sequence[Source], out_dir: Path, template: Template, scale: float, suffix_of: Callable[[Path], str]
) -> tuple[Task, ...]:
    """Every picture with its result's name, ``suffix_of`` giving the suffix of it.

    Raises RefusedOutputError where two results would have one name (on a file system that does not tell cases apart,
    names that differ in nothing else), or one would replace a picture, or is a folder."""
    tasks = tuple(Task(s, s.folder / template.fill(s.path, scale, suffix_of(s.path))) for s in sources)
    key = fold_case if ignores_case(out_dir) else str
    taken: dict[str, Task] = {}
    doubles = [(first, task) for task in tasks if (first := taken.setdefault(key(task.output), task)) is not task]
    if doubles:
        first, second = doubles[0]
        more = f", and {len(doubles) - 1} more alike" if len(doubles) > 1 else ""
        raise RefusedOutputError(
            f"{first.source.path} and {second.source.path} would both become {second.output}{more}.",
            "Give --name with {name} in it, or enlarge them into folders of their own.",
        )
    originals = {_inode(source.path) for source in sources} - {None}
    for task in tasks:
        output = out_dir / task.output
        inode = _inode(output)
        if inode in originals:
            raise RefusedOutputError(
                f"The result {output} would replace a picture to enlarge.", "Give another --name or folder."
            )
        if is_folder(output):
            raise RefusedOutputError(f"The result {output} is a folder.", "Give another --name.")
    return tasks


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
