"""What a PNG says about itself, before and after its pixels, without decoding these."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image

from pcsr_cli.pictures.png_stream import SIGNATURE

DESCRIBING = {b"iCCP", b"eXIf", b"iTXt", b"zTXt", b"tEXt", b"pHYs"}


def without_pixels(file: BinaryIO) -> Image.Image:
    """A picture of one pixel that says of itself what a PNG file says, loaded. Raises what damage leads to."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    pixel = _chunk(b"IDAT", zlib.compress(b"\0\0"))
    image = Image.open(io.BytesIO(b"".join((SIGNATURE, header, *_describing(file), pixel, _chunk(b"IEND", b"")))))
    image.load()
    return image


def _describing(file: BinaryIO) -> Iterator[bytes]:
    """The chunks that describe, as they are."""
    file.seek(len(SIGNATURE))
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in DESCRIBING:
            yield head + file.read(length + 4)
        else:
            file.seek(length + 4, io.SEEK_CUR)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
