"""The options of ``pcsr upscale`` alone, and where its arguments lead: one picture, or many into a folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from pcsr_cli.cli.options import RESULTS
from pcsr_cli.errors import UsageError
from pcsr_cli.images.files import is_folder
from pcsr_cli.jobs.find import DEFAULT_TEMPLATE, Template, is_pattern, parse_template

MANY = "Folders and many pictures"
MAPS = "Where the compute goes"

STREAM = Path("-")
"""stdin as an input, stdout as an output."""

Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="IN... OUT",
        help="A picture and its result; a folder (or 'pattern*') and a folder for the results; pictures and --out-dir. "
        "- is stdin or stdout.",
        show_default=False,
    ),
]
Scale = Annotated[float, typer.Option("--scale", "-s", help="How many times larger; any real number from 1.")]
OutDir = Annotated[
    Path | None,
    typer.Option("--out-dir", metavar="DIR", help="Where the results of many pictures go.", rich_help_panel=MANY),
]
Recursive = Annotated[
    bool, typer.Option("--recursive", "-r", help="Folders within folders, too; the tree is kept.", rich_help_panel=MANY)
]
Name = Annotated[
    str | None,
    typer.Option(
        "--name",
        help=f"What results are called: {{stem}}, {{name}}, {{suffix}} and {{scale}}. [default: {DEFAULT_TEMPLATE}]",
        rich_help_panel=MANY,
    ),
]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Leave results alone that exist already.", rich_help_panel=MANY)
]
FailFast = Annotated[
    bool, typer.Option("--fail-fast", help="Stop at the first picture that fails.", rich_help_panel=MANY)
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        min=0,
        max=64,
        help="Pictures to read ahead and to write behind, in threads; computing is one at a time. [default: 1]",
        rich_help_panel=MANY,
    ),
]
FormatName = Annotated[
    str | None,
    typer.Option("--format", help="Format of the results, such as png; else the suffix says.", rich_help_panel=RESULTS),
]
Quality = Annotated[int | None, typer.Option("--quality", help="1 to 100, of lossy formats.", rich_help_panel=RESULTS)]
Lossless = Annotated[
    bool, typer.Option("--lossless", help="Nothing lost, of formats that can be either.", rich_help_panel=RESULTS)
]
Compression = Annotated[
    int | None, typer.Option("--compression", help="0 (fast) to 9 (small), of PNG and TIFF.", rich_help_panel=RESULTS)
]
Strip = Annotated[
    bool, typer.Option("--strip", help="Leave out all metadata but the colour profile.", rich_help_panel=RESULTS)
]
Frames = Annotated[bool, typer.Option("--frames", help="Every frame of an animation, for GIF, WebP and PNG.")]
AllowHuge = Annotated[
    bool, typer.Option("--allow-huge", help="Read pictures of more pixels than are safe to open unasked.")
]

Preview = Annotated[
    bool, typer.Option("--preview", help="Draw a detail before and after in the terminal.", rich_help_panel=MAPS)
]
MapFile = Annotated[
    Path | None,
    typer.Option(
        "--map", metavar="FILE", help="Also draw where the compute went: .png, or .npy.", rich_help_panel=MAPS
    ),
]
MapStyle = Annotated[
    Literal["overlay", "mask", "difficulty", "data"] | None,
    typer.Option(
        "--map-style",
        help="The result tinted where heavy, branches in grey, p_heavy in colours, or as 16 bits. [default: overlay]",
        rich_help_panel=MAPS,
    ),
]
ForceHeavy = Annotated[
    Path | None,
    typer.Option(
        "--force-heavy",
        metavar="MASK",
        help="Pixels that are bright in this picture are heavy, whatever the classifier says.",
        rich_help_panel=MAPS,
    ),
]
ForceLight = Annotated[
    Path | None,
    typer.Option("--force-light", metavar="MASK", help="The same, for light.", rich_help_panel=MAPS),
]


@dataclass(frozen=True)
class Batch:
    """Many pictures: where from, where to, and how it is gone about."""

    inputs: tuple[Path, ...]
    folder: Path
    template: Template
    recursive: bool = False
    skip_existing: bool = False
    fail_fast: bool = False
    jobs: int = 1


@dataclass(frozen=True)
class Single:
    """One picture; either end may be ``STREAM``."""

    source: Path
    output: Path


def choose_work(
    paths: list[str],
    out_dir: Path | None,
    name: str | None = None,
    recursive: bool = False,
    skip_existing: bool = False,
    fail_fast: bool = False,
    jobs: int | None = None,
) -> Single | Batch:
    """What the arguments ask for. Raises UsageError, RefusedOutputError."""
    named = tuple(_path(text) for text in paths)
    inputs, output = (named, out_dir) if out_dir is not None else (named[:-1], named[-1])
    if not inputs:
        raise UsageError("There is no output.", "Give OUT, or --out-dir DIR. See `pcsr upscale --help`.")
    many = out_dir is not None or (len(inputs) == 1 and (is_folder(inputs[0]) or is_pattern(inputs[0])))
    if not many:
        if len(inputs) > 1:
            raise UsageError(
                "Several pictures need a folder for their results.", "Say --out-dir DIR. See `pcsr upscale --help`."
            )
        only_for_many = {
            "--recursive": recursive,
            "--name": name is not None,
            "--skip-existing": skip_existing,
            "--fail-fast": fail_fast,
            "--jobs": jobs is not None,
        }
        for option, given in only_for_many.items():
            if given:
                raise UsageError(
                    f"{option} is for folders and many pictures.", "Leave it out, or say where to with --out-dir."
                )
        if paths[-1].endswith("/"):
            raise UsageError(
                f"{paths[-1]} is the name of a folder, and one picture becomes a file.", f"Say --out-dir {paths[-1]}."
            )
        return Single(inputs[0], output)
    if STREAM in (*inputs, output):
        raise UsageError("- stands for one picture and cannot be one of many.", "Save it as a file.")
    template = Template() if name is None else parse_template(name)
    return Batch(inputs, output, template, recursive, skip_existing, fail_fast, 1 if jobs is None else jobs)


def _path(text: str) -> Path:
    """The path an argument names; ``./-`` is a file of that name, not ``STREAM``."""
    path = Path(text)
    return path.absolute() if path == STREAM and text != str(STREAM) else path


def check_single(given: dict[str, Path | bool | None]) -> None:
    """Refuse options that only a single picture can have. Raises UsageError."""
    for option, value in given.items():
        if value not in (None, False):
            raise UsageError(f"{option} is for a single picture.", "Leave it out, or enlarge one picture.")
