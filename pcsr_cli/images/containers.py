"""Find the metadata of an image file, also metadata that Pillow does not return, and name what no result has."""

import io
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from PIL import Image
from PIL.MpoImagePlugin import MpoImageFile

from pcsr_cli.images.colour import ColourSpace, from_bmp, from_png
from pcsr_cli.images.exif import PREFIX as EXIF_PREFIX
from pcsr_cli.images.image import Metadata
from pcsr_cli.images.xmp import GAIN_MAP

XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
EXTENDED_XMP_PREFIX, PHOTOSHOP_PREFIX = b"http://ns.adobe.com/xmp/extension/\0", b"Photoshop 3.0\0"

C2PA = "the C2PA manifest (valid only for the original file)"
KNOWN_SEGMENTS = {
    "APP0": (b"JFIF", b"JFXX"),
    "APP1": (EXIF_PREFIX, XMP_PREFIX),
    "APP2": (b"ICC_PROFILE", b"MPF"),
    "APP12": (b"Ducky",),
    "APP14": (b"Adobe",),
}
"""First bytes of segments that Pillow reads, or that describe the encoding or previews."""

MP_ENTRIES = 0xB002
"""The tag of an MPO with its list of images."""

C2PA_CHUNKS = {b"C2PA", b"caBX"}
KNOWN_CHUNKS = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP "}
C2PA_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
MAX_BOX = 2**24
"""Maximum bytes of a box to read."""

RESOURCES_NOT_CARRIED = {1005, 1032, 1033, 1036, 1039, 1050, 1058, 1059, 1060}
"""Photoshop's resources that do not describe a result (resolution, guides, previews, slices) or that have a field in
``Metadata``."""

IPTC_RESOURCE = 1028
OWN_TEXT = ("pcsr:", "Software:pcsr ")
"""Text about an earlier result of pcsr starts with one of these. New text replaces such text."""


@dataclass
class RawMetadata:
    """Blocks of metadata with the bytes of the file, and the names of blocks that no result has.

    ``text`` has keywords and values. ``iptc`` is a sequence of Photoshop's resources. ``cicp`` is the colour space in
    the four numbers of cICP and nclx. ``colours`` is the colour space that the file states without cICP, nclx or a
    profile. ``extended_xmp`` is a sequence of JPEG segments."""

    exif: bytes | None = None
    xmp: bytes | None = None
    icc: bytes | None = None
    iptc: bytes | None = None
    extended_xmp: bytes | None = None
    cicp: tuple[int, ...] | None = None
    colours: ColourSpace | None = None
    text: list[tuple[str, str]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def find_metadata(image: Image.Image, file: BinaryIO) -> RawMetadata:
    """Return the metadata of an open Pillow image in a file."""
    info: Mapping[Any, Any] = image.info
    found = RawMetadata(_bytes(info.get("exif")), _bytes(info.get("xmp")), _bytes(info.get("icc_profile")))
    match image.format:
        case "JPEG" | "MPO":
            _find_in_jpeg(image, found)
        case "PNG":
            _find_in_png(image, found)
        case "BMP" | "DIB":
            stated = from_bmp(file)
            if isinstance(stated, bytes):
                found.icc = stated
            else:
                found.colours = stated
        case "JPEG2000":
            _find_profile_of_jpeg_2000(file, found)
        case "GIF":
            _add_comment(found, info.get("comment"))
        case "WEBP":
            _add_unknown_chunks(found, (kind for kind in _chunks(file) if kind not in KNOWN_CHUNKS))
        case "AVIF" | "HEIF" | "JXL":
            _find_in_boxes(image, file, found)
    return found


def _bytes(value: object) -> bytes | None:
    return bytes(value) if isinstance(value, bytes | bytearray) and value else None


def _add_unknown_chunks(found: RawMetadata, kinds: Iterable[bytes]) -> None:
    found.lost += [C2PA if kind in C2PA_CHUNKS else f"the {_name(kind)} chunk" for kind in dict.fromkeys(kinds)]


def _name(content: bytes) -> str:
    """Return the name at the start of a block, without characters that cannot be printed."""
    return "".join(filter(str.isprintable, content[:30].split(b"\0")[0].decode("ascii", "ignore")))


def _add_comment(found: RawMetadata, content: object) -> None:
    comment = _bytes(content)
    if comment:
        try:
            found.text.append(("Comment", comment.rstrip(b"\0").decode()))
        except UnicodeError:
            found.text.append(("Comment", comment.rstrip(b"\0").decode("latin-1")))


def _find_in_jpeg(image: Image.Image, found: RawMetadata) -> None:
    resources, extended = b"", b""
    for kind, content in getattr(image, "applist", ()):
        if kind == "COM":
            _add_comment(found, content)
        elif content.startswith(PHOTOSHOP_PREFIX):
            resources += content.removeprefix(PHOTOSHOP_PREFIX)
        elif content.startswith(EXTENDED_XMP_PREFIX):
            extended += b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content
        elif content.startswith(b"urn:iso:std:iso:ts:21496"):
            found.lost.append(GAIN_MAP)
        elif b"c2pa" in content[:200] and kind == "APP11":
            found.lost.append(C2PA)
        elif not content.startswith(KNOWN_SEGMENTS.get(kind, ())):
            found.lost.append(f"the {kind} segment {_name(content)}".strip())
    others = image.mpinfo[MP_ENTRIES][1:] if isinstance(image, MpoImageFile) and image.mpinfo else ()
    if any(not entry["Attribute"]["MPType"].startswith("Large Thumbnail") for entry in others):
        found.lost.append("further images")
    found.iptc, found.extended_xmp = lasting_resources(resources), extended or None


def _find_in_png(image: Image.Image, found: RawMetadata) -> None:
    chunks = image.info.get("chunks", {})
    found.colours = from_png(image.info)
    found.cicp = tuple(chunks["cICP"]) if len(chunks.get("cICP", ())) == 4 else None
    _add_unknown_chunks(found, (kind.encode() for kind in chunks if kind not in {"cICP", "iCCP"}))
    profiles: dict[str, bytes] = {}
    for key, value in getattr(image, "text", {}).items():
        profile = _raw_profile(value) if key.startswith("Raw profile type ") else None
        if profile is not None:
            profiles[key.removeprefix("Raw profile type ").lower()] = profile
        elif key != "XML:com.adobe.xmp" and not f"{key}:{value}".startswith(OWN_TEXT):
            found.text.append((key, value))
    segment = profiles.get("app1", b"")
    found.exif = found.exif or profiles.get("exif") or (segment if segment.startswith(EXIF_PREFIX) else None)
    found.xmp = found.xmp or profiles.get("xmp") or (_bytes(segment.partition(XMP_PREFIX)[2]))
    found.icc = found.icc or profiles.get("icc") or profiles.get("icm")
    resources = profiles.get("8bim") or profiles.get("iptc") or b""
    found.iptc = lasting_resources(resources if resources.startswith(b"8BIM") else iptc_resource(resources))


def jpeg_segments(metadata: Metadata) -> bytes:
    """Return the segments of a JPEG with the IPTC and the extended XMP."""
    segments = metadata.extended_xmp or b""
    if metadata.iptc is not None:
        content = PHOTOSHOP_PREFIX + metadata.iptc
        segments += b"\xff\xed" + struct.pack(">H", len(content) + 2) + content
    return segments


def _raw_profile(text: str) -> bytes | None:
    """Return the content of ImageMagick's text for a profile: an empty line, its name, its length, and hexadecimal
    digits."""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return None


def raw_profile(name: str, content: bytes) -> tuple[str, str]:
    """Return the keyword and the value of ImageMagick's text for a profile."""
    return f"Raw profile type {name}", f"\n{name}\n{len(content):8}\n{content.hex()}\n"


def iptc_resource(record: bytes) -> bytes:
    """Return Photoshop's resource with an IPTC record, or no bytes for an empty record."""
    size = struct.pack(">I", len(record))
    return b"8BIM" + struct.pack(">HH", IPTC_RESOURCE, 0) + size + record + bytes(len(record) % 2) if record else b""


def lasting_resources(resources: bytes) -> bytes | None:
    """Return the Photoshop resources that also describe a result, or None if there are none."""
    kept, at = b"", 0
    while resources.startswith(b"8BIM", at) and len(resources) >= at + 12:
        name = resources[at + 6] // 2 * 2 + 2
        if len(resources) < at + 10 + name:
            break
        number, size = *struct.unpack_from(">H", resources, at + 4), *struct.unpack_from(">I", resources, at + 6 + name)
        end = at + 10 + name + size
        if number not in RESOURCES_NOT_CARRIED and end <= len(resources):
            kept += resources[at:end] + bytes(size % 2)
        at = end + size % 2
    return kept or None


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    """Yield the kinds of the chunks of a WebP."""
    at = 12
    while True:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return
        yield head[:4]
        size = struct.unpack("<I", head[4:])[0]
        at += 8 + size + size % 2


def _find_in_boxes(image: Image.Image, file: BinaryIO, found: RawMetadata) -> None:
    if image.format == "JXL" and found.exif and not found.exif.startswith((EXIF_PREFIX, b"II", b"MM")):
        found.exif = found.exif[4 + int.from_bytes(found.exif[:4], "big") :] or None
    for kind, start, size in boxes(file):
        file.seek(start)
        if kind == b"jumb" or (kind == b"uuid" and file.read(16) == C2PA_BOX):
            found.lost.append(C2PA)
        elif kind in {b"jhgm", b"brob"}:
            found.lost.append(GAIN_MAP if kind == b"jhgm" else "compressed metadata (brob)")
        elif kind == b"xml " and found.xmp is None and size <= MAX_BOX:
            found.xmp = file.read(size)
        elif kind == b"meta" and image.format == "AVIF":
            meta = file.read(min(size, MAX_BOX))
            at = meta.find(b"colrnclx")
            if 0 <= at < len(meta) - 14:
                found.cicp = (*struct.unpack_from(">HHH", meta, at + 8), meta[at + 14] >> 7)
            if b"infe" in meta and b"tmap" in meta:
                found.lost.append(GAIN_MAP)
    nclx = image.info.get("nclx_profile")
    if isinstance(nclx, dict):
        names = ("color_primaries", "transfer_characteristics", "matrix_coefficients", "full_range_flag")
        found.cicp = tuple(int(nclx.get(name, 2)) for name in names)
    if any("gainmap" in str(kind).lower() for kind in image.info.get("aux", ())):
        found.lost.append(GAIN_MAP)
    if image.info.get("depth_images"):
        found.lost.append("the depth map")


def _find_profile_of_jpeg_2000(file: BinaryIO, found: RawMetadata) -> None:
    for kind, start, size in boxes(file):
        if kind == b"jp2h":
            file.seek(start)
            header = file.read(min(size, MAX_BOX))
            at = header.find(b"colr\2")
            if at >= 4:
                found.icc = header[at + 7 : at - 4 + int.from_bytes(header[at - 4 : at], "big")] or None


def boxes(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind, the start and the size of the outermost boxes of an AVIF, HEIC, JPEG 2000 or JPEG XL."""
    end, at = file.seek(0, io.SEEK_END), 0
    while at + 8 <= end:
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8))
        start = at + 8
        if size == 1:
            size, start = int.from_bytes(file.read(8), "big"), at + 16
        at = at + size if size else end
        if at < start:  # not a box: a JPEG XL may be a bare codestream
            return
        yield kind, start, min(at, end) - start
