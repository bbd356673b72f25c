"""Check the paths of files before any work."""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from pcsr_cli.errors import InputError, OutputError, PcsrError, RefusedOutputError
from pcsr_cli.images.files import (
    FOLDER_HINT,
    already_exists,
    cannot_write,
    exists,
    follow_links,
    is_file,
    is_folder,
    reason,
    remove_leftovers,
    temporary_path,
)
from pcsr_cli.images.objects import ObjectPath


def check_source(source: Path) -> None:
    """Raise InputError for an input that does not exist, StoreError."""
    if not (exists(source) if isinstance(source, ObjectPath) else os.path.lexists(source)):
        raise InputError(f"There is no file {source}.", "Check the path.")


def check_outputs(results: Sequence[Path], sources: Iterable[Path], overwrite: bool) -> None:
    """Check output paths before any work starts, and remove the temporary files of killed processes beside them.

    Raises RefusedOutputError for a file that is one of the ``sources`` or, without ``overwrite``, exists, and the first
    error of ``refused_outputs``."""
    read = [source for source in sources if exists(source)]
    for output in results:
        if exists(output) and any(is_same(output, source) for source in read):
            raise RefusedOutputError(f"The output {output} is also an input.", "Give the result another name.")
        if is_file(output) and not overwrite:
            raise already_exists(output)
    for error in refused_outputs(results).values():
        raise error


def is_same(first: Path, second: Path) -> bool:
    """Return whether two existing paths are one file or folder. Raises OSError."""
    if isinstance(first, ObjectPath) or isinstance(second, ObjectPath):
        return first == second
    return first.samefile(second)


def refused_outputs(outputs: Sequence[Path]) -> dict[Path, PcsrError]:
    """Return the outputs that cannot be written, each with an OutputError or a RefusedOutputError.

    Symbolic links are followed. The function refuses two outputs with one path, an existing path that is not a file or
    cannot be replaced, a folder that is missing or not writable, and a name that the file system does not accept.
    Objects are not checked."""
    refused: dict[Path, PcsrError] = {}
    places: dict[Path, list[tuple[Path, Path]]] = {}
    mounts = _mounts()
    for output in outputs:
        if isinstance(output, ObjectPath):
            continue
        try:
            place = follow_links(output)
        except OSError as error:  # a circle of links
            refused[output] = cannot_write(output, error, "Choose another name.")
            continue
        if is_folder(place):
            refused[output] = RefusedOutputError(
                f"The output {output} is a folder.", "Give the name of a file in the folder."
            )
        elif exists(place) and not is_file(place):
            sentence = f"The output {output} is not a regular file."
            refused[output] = RefusedOutputError(sentence, "Give the name of a file, or -.")
        elif exists(place) and place.resolve() in mounts:
            sentence = f"{output} cannot be replaced: it is mounted as a single file."
            refused[output] = OutputError(sentence, "Mount the folder of the file, or choose another name.")
        else:
            places.setdefault(place.parent, []).append((output, place))
    taken: set[str] = set()
    for folder, pairs in places.items():
        try:
            remove_leftovers(folder)
            names = _refused_names(folder, [place.name for _, place in pairs])
        except OSError as error:
            refused |= {output: cannot_write(output, error, FOLDER_HINT) for output, _ in pairs}
            continue
        root, fold = folder.resolve(), fold_case if ignores_case(folder) else str
        for output, place in pairs:
            key = fold(root / place.name)
            if key in taken:
                sentence = f"Two results have the path {place}."
                refused[output] = RefusedOutputError(sentence, "Give each result its own name or folder.")
            elif place.name in names:
                why = f"the file system refuses the name ({reason(names[place.name])})"
                refused[output] = OutputError(f"{output} cannot be written: {why}.", "Choose another name.")
            elif exists(place) and (failure := _not_replaceable(output, place)) is not None:
                refused[output] = failure
            taken.add(key)
    return refused


def _refused_names(folder: Path, names: Sequence[str]) -> dict[str, OSError]:
    """Return the names that a new file in a folder cannot have, with their errors. Raises OSError for the folder.

    The function tries the names in a temporary folder, so a killed process leaves no empty file with the name of a
    result."""
    refused: dict[str, OSError] = {}
    with ExitStack() as stack:
        try:
            trial = stack.enter_context(temporary_path(folder, 0o700, is_folder=True))
        except OSError:  # a folder may accept files but no folders
            stack.enter_context(temporary_path(folder, 0o600))
            return refused
        for name in names:
            try:
                with suppress(FileNotFoundError):
                    (folder / name).lstat()  # too long
                (trial / name).touch(exist_ok=False)
                (trial / name).unlink()
            except OSError as error:
                refused[name] = error
    return refused


def _mounts() -> set[Path]:
    """Return the mount points, which may be files."""
    import psutil

    with suppress(OSError):
        return {Path(each.mountpoint) for each in psutil.disk_partitions(all=True)}
    return set()


def _not_replaceable(output: Path, place: Path) -> OutputError | None:
    """Return the reason why a file cannot be replaced, or None."""
    try:
        place.rmdir()  # never removes a file, but fails for the reason for which replacing it would fail
    except NotADirectoryError:
        return None
    except OSError as error:
        return cannot_write(output, error, "Choose another name, or remove the file.")
    return None


def ignores_case(folder: Path) -> bool:
    """Return whether the file system of a folder, which need not exist, ignores case. The function tests the name of
    the folder."""
    if isinstance(folder, ObjectPath):
        return False
    for path in (folder.absolute(), *folder.absolute().parents):
        other = path.with_name(path.name.swapcase()) if path.name else path
        if other.name == path.name or not exists(path):
            continue
        try:
            return os.path.samestat(path.stat(), other.stat())
        except OSError:
            return False
    return False


def fold_case(path: Path) -> str:
    """Return a key that compares paths without case."""
    return unicodedata.normalize("NFC", str(path).casefold())
