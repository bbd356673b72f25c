"""Which picture formats can be read and written here, tried out on a picture of a few pixels."""

import io
from collections.abc import Iterator

from PIL import Image

from pcsr_cli.doctor.finding import Finding, State
from pcsr_cli.pictures import plug_ins
from pcsr_cli.pictures.formats import FORMATS, Format


def examine_formats() -> Iterator[Finding]:
    """The formats that work, in one finding, and one for each that does not."""
    reasons = {format: _why_not(format) for format in FORMATS}
    there = [format.name for format, reason in reasons.items() if reason is None]
    deep = [format.name for format, reason in reasons.items() if reason is None and format.deep]
    said = f"{', '.join(there)}; with 16 bits a channel {', '.join(deep)}"
    yield Finding("formats", State.FINE, said, facts={"formats": there, "deep": deep})
    for format, reason in reasons.items():
        if reason is not None:
            step = f"Run: pip install {format.plug_in}" if format.plug_in else "Install Pillow as PyPI has it."
            state = State.SHORT if format.plug_in else State.BROKEN
            yield Finding(f"format {format.name}", state, reason, step, {"plug_in": format.plug_in or None})


def _why_not(format: Format) -> str | None:
    """Why a format cannot be read and written, or None."""
    if not format.installed:
        return f"needs the plug-in {format.plug_in}, which is not installed"
    file = io.BytesIO()
    try:
        plug_ins.load(format)
        Image.new("RGB", (16, 16)).save(file, format.pillow)
        with Image.open(file) as read:
            read.load()
    except Exception as error:  # whatever a plug-in, or a library behind it, raises
        return f"does not work: {' '.join(str(error).split()) or type(error).__name__}"
    return None
