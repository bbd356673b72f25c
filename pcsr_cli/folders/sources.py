"""The pictures that paths, folders and patterns stand for: each once, in natural order."""

import glob
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pcsr_cli.errors import InputError, PcsrError
from pcsr_cli.files import is_folder

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
