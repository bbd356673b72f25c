"""What results are called: a template filled in for every picture, and no two results of one name."""

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pcsr_cli.destinations import folded, ignores_case
from pcsr_cli.errors import RefusedOutputError, UsageError
from pcsr_cli.files import TEMPORARY_PREFIX, is_folder
from pcsr_cli.folders.sources import Source

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
    key = folded if ignores_case(out_dir) else str
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
