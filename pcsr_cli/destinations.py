"""Where results may go: refused before any work where something would be lost."""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from pcsr_cli.failures import outputs
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
        raise outputs.BAD_NAME(output=output, reason=reason(error)) from error


def _check_apart(files: Sequence[Path]) -> None:
    taken = set()
    for file in files:
        place = file.parent.resolve() / file.name
        name = folded(place) if ignores_case(place.parent) else str(place)
        if name in taken:
            raise outputs.TWICE(output=file)
        taken.add(name)


def _check_replaceable(output: Path, sources: Sequence[Path], overwrite: bool) -> None:
    if is_folder(output):
        raise outputs.IS_A_FOLDER(output=output)
    if any(output.samefile(source) for source in sources):
        raise outputs.IS_AN_INPUT(output=output)
    if not is_file(output):
        raise outputs.NOT_A_FILE(output=output)
    if not overwrite:
        raise outputs.EXISTS(output=output)


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
