"""Where results may go: refused before any work where something would be lost."""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from pcsr_cli.errors import OutputError, RefusedOutputError
from pcsr_cli.files import exists, is_file, is_folder, reason, target, written_whole


def check_outputs(results: Sequence[Path], sources: Iterable[Path], overwrite: bool) -> None:
    """Refuse, before any work, results that cannot or must not be written.

    Raises RefusedOutputError for an existing file (unless ``overwrite``), for what is no file, for one of the
    ``sources`` whether ``overwrite`` or not, and for two results of one name; OutputError where a folder is missing or
    not writable. A link stands for the file it leads to.
    """
    files = [_check_name(output) for output in results]
    _check_apart(files)
    read = [source for source in sources if exists(source)]
    for output in results:
        if exists(output):
            _check_replaceable(output, read, overwrite)
    for file in {file.parent: file for file in files}.values():
        with written_whole(file):
            pass


def _check_name(output: Path) -> Path:
    """The file that a name stands for."""
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            output.lstat()
        return target(output)
    except OSError as error:  # such as a name that is too long
        raise OutputError(f"{output} cannot be written: {reason(error)}.", "Choose another name.") from error


def _check_apart(files: Sequence[Path]) -> None:
    taken = set()
    for file in files:
        place = file.parent.resolve() / file.name
        name = folded(place) if ignores_case(place.parent) else str(place)
        if name in taken:
            raise RefusedOutputError(
                f"{file} would be the name of two results.", "Give each a name, or a folder, of its own."
            )
        taken.add(name)


def _check_replaceable(output: Path, sources: Sequence[Path], overwrite: bool) -> None:
    if is_folder(output):
        raise RefusedOutputError(f"The output {output} is a folder.", "Give the name of a file in it.")
    if any(output.samefile(source) for source in sources):
        raise RefusedOutputError(f"The output {output} is an input, too.", "Give the result another name.")
    if not is_file(output):
        raise RefusedOutputError(f"The output {output} is no ordinary file.", "Give the name of a file, or -.")
    if not overwrite:
        raise RefusedOutputError(f"{output} exists already.", "Choose another name, or say --overwrite.")


def ignores_case(folder: Path) -> bool:
    """Whether names in a folder, which need not exist yet, are the same in either case; told by its own name."""
    for place in (folder.absolute(), *folder.absolute().parents):
        other = place.with_name(place.name.swapcase()) if place.name else place
        if other.name == place.name or not exists(place):
            continue
        try:
            return os.path.samestat(place.stat(), other.stat())
        except OSError:
            return False
    return False


def folded(path: Path) -> str:
    """What names are compared by where case does not count."""
    return unicodedata.normalize("NFC", str(path).casefold())
