"""EXIF as directories of tags. Values keep their types and bytes, and the maker note keeps its place.

Many maker notes contain offsets that count from the start of the EXIF, so maker notes are valid only at their place."""

import io
import struct
from collections.abc import Container
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 5: "II", 6: "b", 7: "B", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d", 13: "I",
         16: "Q"}  # fmt: skip
"""The types of values in the notation of ``struct``."""

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 1, 2, 3, 4, 5, 7, 16
ORIENTATION = 274
EXIF, GPS, INTEROP = 34665, 34853, 40965
"""Tags that point to directories."""

PREFIX = b"Exif\0\0"
MAKER_NOTE = 37500
MAX_EXIF = 2**16
"""A JPEG cannot hold more bytes of EXIF. A maker note that ends after this many bytes cannot keep its place."""

SELF_CONTAINED = (b"Apple iOS", b"FUJIFILM", b"Nikon\0\2", b"OLYMPUS\0", b"OM SYSTEM\0")
"""The first bytes of maker notes that may be moved, because their offsets count from their own start."""


@dataclass(frozen=True)
class Value:
    """A value: its type, its bytes, and its offset in the file that it was read from."""

    type: int
    content: bytes
    offset: int = 0


@dataclass
class Directory:
    """Values by tag, and the directories to which tags point."""

    values: dict[int, Value] = field(default_factory=dict)
    inner: dict[int, "Directory"] = field(default_factory=dict)

    def drop(self, tags: Container[int]) -> None:
        """Remove tags."""
        for tag in [tag for tag in self.values if tag in tags]:
            del self.values[tag]


@dataclass
class Exif:
    """The directories of an EXIF block or of the first page of a TIFF.

    ``order`` is the byte order of ``struct``. ``damaged`` counts the tags that could not be read."""

    order: Literal["<", ">"] = "<"
    main: Directory = field(default_factory=Directory)
    damaged: int = 0

    @property
    def photo(self) -> Directory:
        """The Exif directory, which describes the photograph, or an empty directory if there is none."""
        return self.main.inner.get(EXIF, Directory())

    @property
    def orientation(self) -> int:
        """The orientation, 1 to 8, or 1 if the orientation is missing or invalid."""
        found = self.numbers(self.main.values.get(ORIENTATION))
        return int(found[0]) if found and found[0] in range(1, 9) else 1

    def numbers(self, value: Value | None) -> tuple[float, ...]:
        """Return the numbers of a value, () for a missing value. Rational numbers are a numerator and a denominator."""
        if value is None:
            return ()
        return tuple(n for each in struct.iter_unpack(self.order + TYPES[value.type], value.content) for n in each)

    def value(self, kind: int, *numbers: float) -> Value:
        """Make a value of this type from numbers: the inverse of ``numbers``."""
        count = len(numbers) // len(TYPES[kind])
        return Value(kind, struct.pack(self.order + TYPES[kind] * count, *numbers))

    def tobytes(self) -> bytes:
        """Return the EXIF block, without the prefix ``Exif``."""
        start, content = self.encode(self.main, 8)
        return (b"II*\0" if self.order == "<" else b"MM\0*") + struct.pack(self.order + "I", start) + content

    def encode(self, directory: Directory, start: int, big: bool = False) -> tuple[int, bytes]:
        """Return the offset of a directory, and the bytes from ``start`` of the directory, its values and its inner
        directories.

        ``big`` selects the format of BigTIFF."""
        out = bytearray()
        note = directory.inner.get(EXIF, directory).values.get(MAKER_NOTE)
        if note is not None and not start <= note.offset < MAX_EXIF:
            note = None
        fixed = range(0) if note is None else range(note.offset, note.offset + len(note.content))
        count_word, word, width, pointer = ("Q", "Q", 8, LONG8) if big else ("H", "I", 4, LONG)

        def put(content: bytes, offset: int | None = None) -> int:
            at = offset if offset is not None else start + len(out) + (start + len(out)) % 2
            if offset is None and at < fixed.stop and fixed.start < at + len(content):
                at = fixed.stop + fixed.stop % 2
            out.extend(bytes(max(0, at + len(content) - start - len(out))))
            out[at - start : at - start + len(content)] = content
            return at

        def write(directory: Directory) -> int:
            tags = sorted({*directory.values, *directory.inner})
            table = struct.pack(self.order + count_word, len(tags))
            at = put(bytes(len(table) + len(tags) * (4 + 2 * width) + width))
            for tag in tags:
                if tag in directory.inner:
                    value = self.value(pointer, write(directory.inner[tag]))
                else:
                    value = directory.values[tag]
                content, count = value.content, len(value.content) // struct.calcsize("=" + TYPES[value.type])
                if len(content) > width:
                    content = struct.pack(self.order + word, put(content, fixed.start if value is note else None))
                table += struct.pack(f"{self.order}HH{word}", tag, value.type, count) + content.ljust(width, b"\0")
            return put(table, at)

        return write(directory), bytes(out)


def read_exif(source: bytes | BinaryIO, skipped: Container[int] = ()) -> Exif:
    """Read an EXIF block, or the tags of the first page of a TIFF or BigTIFF, except ``skipped`` tags.

    Unreadable tags are left out and counted. The directory of the preview is not read. Raises ValueError if there is no
    directory."""
    if isinstance(source, bytes):
        while source.startswith(PREFIX):  # some programs write it twice
            source = source.removeprefix(PREFIX)
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    end = file.seek(0, io.SEEK_END)
    unread = 2 * end  # no value of an intact file overlaps another
    file.seek(0)
    head = file.read(16).ljust(16, b"\0")
    if head[:4] not in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:
        raise ValueError("no EXIF")
    exif = Exif("<" if head.startswith(b"II") else ">")
    big = b"+" in head[2:4]
    count_word, word, width = ("Q", "Q", 8) if big else ("H", "I", 4)

    def number(form: str, content: bytes, at: int = 0) -> int:
        return int(struct.unpack_from(exif.order + form, content, at)[0])

    def take(at: int, size: int) -> bytes:
        nonlocal unread
        unread -= size
        if not 0 <= at <= end - size or unread < 0:
            raise ValueError("the EXIF ends too early")
        file.seek(at)
        return file.read(size)

    def read(at: int, pointers: tuple[int, ...]) -> Directory:
        directory = Directory()
        first = at + struct.calcsize("=" + count_word)
        entries = number(count_word, take(at, first - at))
        entry = 4 + 2 * width
        complete = min(entries, (end - first) // entry)
        exif.damaged += entries - complete
        table = take(first, complete * entry)
        for start in range(0, len(table), entry):
            tag, kind = number("H", table, start), number("H", table, start + 2)
            count = number(word, table, start + 4)
            inline = table[start + entry - width : start + entry]
            offset = number(word, inline)
            if tag in skipped or not count:
                continue
            try:
                size = count * struct.calcsize("=" + TYPES[kind])
                content = inline[:size] if size <= width else take(offset, size)
                value = Value(kind, content, 0 if size <= width else offset)
                if tag in pointers:
                    directory.inner[tag] = read(int(exif.numbers(value)[0]), (INTEROP,) if tag == EXIF else ())
                else:
                    directory.values[tag] = value if kind != LONG8 else exif.value(LONG, *exif.numbers(value))
            except (ValueError, KeyError, OverflowError, struct.error):
                exif.damaged += 1
        return directory

    exif.main = read(number(word, head, width), (EXIF, GPS))
    return exif
