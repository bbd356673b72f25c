"""Check JPEG files before they are decoded: Pillow accepts damage that libjpeg reports."""

import io
import re
from typing import BinaryIO

from pcsr_cli.errors import InputError

END = b"\xff\xd9"
MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
"""The bytes of a marker. In the compressed pixels, 0x00 or the number of a restart follows 0xff. Neither matches."""

WITHOUT_CONTENT = {b"\x01", b"\xd8"}
SCAN = b"\xda"
MAX_SCANS = 50
"""Maximum number of scans. Progressive files have about ten scans, and decoding one scan takes as long as decoding a
whole image."""


def open_jpeg(file: BinaryIO, name: str, allow_huge: bool, limit: int = -1) -> BinaryIO:
    """Return the first ``limit`` bytes of a JPEG file, with an end marker. Complete files may lack the end marker.

    Raises InputError for more than ``MAX_SCANS`` scans unless ``allow_huge``, ValueError for damaged headers."""
    file.seek(0)
    content = file.read(limit) + END
    scans = _count_scans(content)
    if scans > MAX_SCANS and not allow_huge:
        raise InputError(
            f"{name} has {scans:,} scans, more than the limit of {MAX_SCANS}.",
            "Decoding one scan takes as long as decoding an image.",
            setting="allow_huge",
        )
    return io.BytesIO(content)


def check_jpeg(file: BinaryIO) -> None:
    """Decode a JPEG and raise ValueError if libjpeg reports any warning. Pillow ignores the warnings of libjpeg."""
    from simplejpeg import decode_jpeg

    file.seek(0)
    # An eighth of the size takes little time and memory, although all data are read.
    decode_jpeg(file.read(), colorspace="GRAY", min_height=1, min_width=1, min_factor=8, strict=True)


def _count_scans(content: bytes) -> int:
    """Return the number of scans. Raises ValueError for bytes between headers, which Pillow skips one by one."""
    at, scans = 2, 0
    while found := MARKER.search(content, at):
        if not scans and content[at : found.start()].strip(b"\xff"):
            raise ValueError(f"{found.start() - at:,} bytes do not belong to the image")
        if found[0] == END:
            break
        at = found.end()
        scans += found[1] == SCAN
        if found[1] not in WITHOUT_CONTENT:
            at += int.from_bytes(content[at : at + 2], "big")
    return scans
