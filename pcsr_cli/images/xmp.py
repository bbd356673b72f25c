"""XMP: set the properties in pixels to the size of the result, and remove properties that do not describe the result.

The functions edit XMP as text, because all other content must keep its form. Each search takes linear time."""

import re
from collections.abc import Iterable, Mapping

NAMESPACES = {
    "tiff": b"http://ns.adobe.com/tiff/1.0/",
    "exif": b"http://ns.adobe.com/exif/1.0/",
    "xmp": b"http://ns.adobe.com/xap/1.0/",
    "xmpNote": b"http://ns.adobe.com/xmp/note/",
    "GPano": b"http://ns.google.com/photos/1.0/panorama/",
    "GCamera": b"http://ns.google.com/photos/1.0/camera/",
    "GDepth": b"http://ns.google.com/photos/1.0/depthmap/",
    "GImage": b"http://ns.google.com/photos/1.0/image/",
    "GAudio": b"http://ns.google.com/photos/1.0/audio/",
    "Container": b"http://ns.google.com/photos/1.0/container/",
    "hdrgm": b"http://ns.adobe.com/hdr-gain-map/1.0/",
    "HDRGainMap": b"http://ns.apple.com/HDRGainMap/1.0/",
    "apdi": b"http://ns.apple.com/pixeldatainfo/1.0/",
    "mwg-rs": b"http://www.metadataworkinggroup.com/schemas/regions/",
    "MP": b"http://ns.microsoft.com/photo/1.2/",
    "stDim": b"http://ns.adobe.com/xap/1.0/sType/Dimensions#",
}
"""Namespaces by their usual prefix."""

VIDEO, GAIN_MAP, REGIONS = "the video of the motion photo", "the HDR gain map", "the regions of faces"
FALSE = (
    ("GCamera", r"(?:MotionPhoto|MicroVideo)\w*", ""),
    ("Container", "Directory", ""),
    ("hdrgm", r"\w+", GAIN_MAP),
    ("HDRGainMap", r"\w+", GAIN_MAP),
    ("apdi", r"\w+", ""),
    ("xmp", "Thumbnails", ""),
    ("exif", "SubjectArea|SubjectLocation|FocalPlane[XY]Resolution", ""),
)
"""Properties that no result has: prefix, names, and the name of the lost content, or an empty text if the loss needs no
note."""

FALSE_IF_TURNED = (("mwg-rs", "Regions", REGIONS), ("MP", "RegionInfo", REGIONS))

ACROSS = ("FullPanoWidthPixels", "CroppedAreaImageWidthPixels", "CroppedAreaLeftPixels",
          "LargestValidInteriorRectLeft", "LargestValidInteriorRectWidth")  # fmt: skip
DOWN = ("FullPanoHeightPixels", "CroppedAreaImageHeightPixels", "CroppedAreaTopPixels",
        "LargestValidInteriorRectTop", "LargestValidInteriorRectHeight")  # fmt: skip
"""Properties of a panorama in pixels. The first property is the size of the whole panorama, the second property the
size of the image."""

MAX_DIMENSIONS = 500
"""Maximum distance in bytes from the name of the region dimensions in XMP to the values of these dimensions."""


def orientation(xmp: bytes) -> int:
    """Return the orientation, 1 to 8, or 1 if the orientation is missing."""
    found = _numbers(xmp, "tiff", ("Orientation",)).get("Orientation", 1)
    return found if found in range(1, 9) else 1


def true_of_result(xmp: bytes, turned: bool) -> tuple[bytes, tuple[str, ...]]:
    """Reset the orientation, and remove properties that do not describe a result. Returns the names of the lost
    properties.

    ``turned`` is whether the orientation was not 1."""
    xmp = _set(xmp.rstrip(b"\0"), "tiff", {"Orientation": 1})
    has_video = any(_numbers(xmp, "GCamera", ("MotionPhoto", "MicroVideo")).values())
    lost = [VIDEO] if has_video else []
    for prefix, names, loss in (*FALSE, *(FALSE_IF_TURNED if turned else ())):
        shorter = remove(xmp, prefix, names)
        if loss and loss not in lost and shorter != xmp:
            lost.append(loss)
        xmp = shorter
    return xmp, tuple(lost)


def resized(xmp: bytes, height: int, width: int) -> bytes:
    """Set the properties in pixels to the size of the result."""
    xmp = _set(xmp, "tiff", {"ImageWidth": width, "ImageLength": height})
    xmp = _set(xmp, "exif", {"PixelXDimension": width, "PixelYDimension": height})
    for names, size in ((ACROSS, width), (DOWN, height)):
        found = _numbers(xmp, "GPano", names)
        old = found.get(names[1]) or found.get(names[0])
        if old:
            xmp = _set(xmp, "GPano", {name: round(number * size / old) for name, number in found.items()})
    place = xmp.find(b":AppliedToDimensions")
    if place >= 0:
        end = place + MAX_DIMENSIONS
        xmp = xmp[:place] + _set(xmp[place:end], "stDim", {"w": width, "h": height}) + xmp[end:]
    return xmp


def remove(xmp: bytes, prefix: str, names: str) -> bytes:
    """Remove properties, whether they are attributes or elements. ``names`` is a regular expression."""
    name = rb"%s:(?:%s)" % (_prefix(xmp, prefix), names.encode())
    xmp = re.sub(rb"\s%s\s?=\s?(?:\"[^\"]*\"|'[^']*')" % name, b"", xmp)
    kept, done = [], 0
    for start in re.finditer(rb"<(%s)(?=[\s/>])[^<>]*>" % name, xmp):
        if start.start() < done:
            continue
        end = start.end()
        if not start[0].endswith(b"/>"):
            close = b"</%s>" % start[1]
            end = xmp.find(close, end) + len(close)
            if end < start.end():
                break
        kept.append(xmp[done : start.start()])
        done = end
    return b"".join([*kept, xmp[done:]])


def without_extension(xmp: bytes) -> bytes:
    """Remove properties that refer to the extended XMP, and properties of depth maps, images and sounds, which the
    extended XMP holds."""
    for prefix, names in (("xmpNote", "HasExtendedXMP"), ("GDepth", r"\w+"), ("GImage", r"\w+"), ("GAudio", r"\w+")):
        xmp = remove(xmp, prefix, names)
    return xmp


def _prefix(xmp: bytes, usual: str) -> bytes:
    """Return the prefix of a namespace in this XMP, as a regular expression."""
    found = re.search(rb"xmlns:([\w.-]+)\s?=\s?[\"']%s[\"']" % re.escape(NAMESPACES[usual]), xmp)
    return re.escape(found[1] if found else usual.encode())


def _pattern(xmp: bytes, prefix: str, names: Iterable[str]) -> bytes:
    """Return a pattern of properties that are numbers, whether they are attributes or elements."""
    return rb"(\b%s:(%s)(?:\s?=\s?[\"']|>))(\d{1,9})(?=[\"'<.])" % (_prefix(xmp, prefix), "|".join(names).encode())


def _numbers(xmp: bytes, prefix: str, names: Iterable[str]) -> dict[str, int]:
    return {match[2].decode(): int(match[3]) for match in re.finditer(_pattern(xmp, prefix, names), xmp)}


def _set(xmp: bytes, prefix: str, numbers: Mapping[str, int]) -> bytes:
    if not numbers:
        return xmp
    return re.sub(_pattern(xmp, prefix, numbers), lambda match: match[1] + b"%d" % numbers[match[2].decode()], xmp)
