"""What ``docs/formats.md`` says of the formats is what the table in the code says."""

import math
from pathlib import Path

import pytest

from pcsr_cli.images.formats import FORMATS, Format
from pcsr_cli.images.read import MOST_PIXELS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
ROWS = {
    row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[1:-1]]
    for row in PAGE.splitlines()
    if "|" in row
}


def limits(format: Format) -> str:
    """The longest side, and the most pixels or bytes of them."""
    told = ["any" if format.longest is None else f"{format.longest:,}"]
    if format.largest is not None:
        side = math.isqrt(format.largest)
        assert side**2 == format.largest
        told.append(f"{side:,}² pixels")
    if format.heaviest is not None:
        told.append(f"{round(format.heaviest / 2**30)} GiB of pixels")
    return ", ".join(told)


@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
def test_every_row_is_true(format: Format) -> None:
    options = {
        "--quality": format.quality is not None,
        "--lossless": format.lossless == "on request",
        "--compression": format.compression,
        "--frames": format.animated,
    }
    assert ROWS[format.name] == [
        format.name,
        " ".join(format.suffixes),
        "8, 16" if format.deep else "8",
        "yes" if format.grey else "as RGB",
        "refused" if not format.alpha else "on or off" if format.colours else "yes",
        "yes" if "icc" in format.metadata else "as sRGB",
        *("yes" if name in format.metadata else "no" for name in ("exif", "xmp", "dpi")),
        limits(format),
        "streamed" if format.streamed else "collected",
        ", ".join(f"`{name}`" for name, has in options.items() if has),
    ]


def test_no_other_row_is_there() -> None:
    assert set(ROWS) == {"format", "---", *(format.name for format in FORMATS)}


def test_the_limit_is_the_one_told() -> None:
    assert f"{MOST_PIXELS:,}" in PAGE
