"""Where results may go: refused before any work where something would be lost."""

from pathlib import Path

from pcsr_cli.failures import outputs
from pcsr_cli.files import reason, target, written_whole


def check_output(output: Path, source: Path | None, overwrite: bool) -> None:
    """Refuse, before any work, an output that cannot or must not be written.

    Raises RefusedOutputError for an existing file (unless ``overwrite``), for what is no file, and for the input
    itself; OutputError where the folder is missing or not writable. A link stands for the file it leads to.
    """
    try:
        _check_free(output, source, overwrite)
        target(output)
    except OSError as error:  # such as a name that is too long
        raise outputs.BAD_NAME(output=output, reason=reason(error)) from error
    with written_whole(output):
        pass


def _check_free(output: Path, source: Path | None, overwrite: bool) -> None:
    if output.is_dir():
        raise outputs.IS_A_FOLDER(output=output)
    if source is not None and source.exists() and output.exists() and output.samefile(source):
        raise outputs.IS_THE_INPUT()
    if output.exists() and not output.is_file():
        raise outputs.NOT_A_FILE(output=output)
    if output.exists() and not overwrite:
        raise outputs.EXISTS(output=output)
