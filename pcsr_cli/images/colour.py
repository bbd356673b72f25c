"""Make ICC profiles for colour spaces that files state without a profile: by cICP, nclx, gAMA, cHRM, EXIF or the
header of a BMP.

Every output format can hold a profile or is converted through it, but few can hold the statements of other formats."""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pcsr_cli.images.exif import INTEROP, Exif

D65, ILLUMINANT_C = (0.3127, 0.3290), (0.310, 0.316)
SRGB = (D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
SMPTE_170M = (D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070))
PRIMARIES = {
    1: SRGB,
    2: SRGB,  # unspecified
    4: (ILLUMINANT_C, (0.67, 0.33), (0.21, 0.71), (0.14, 0.08)),
    5: (D65, (0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    6: SMPTE_170M,
    7: SMPTE_170M,
    8: (ILLUMINANT_C, (0.681, 0.319), (0.243, 0.692), (0.145, 0.049)),
    9: (D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: ((0.314, 0.351), *P3),
    12: (D65, *P3),
    22: (D65, (0.630, 0.340), (0.295, 0.605), (0.155, 0.077)),
}
"""White point and primaries (x, y) by their number in ITU-T H.273."""

GAMMAS = {**dict.fromkeys((1, 2, 6, 13, 14, 15)), 4: 2.2, 5: 2.8, 8: 1.0, 17: 2.6}
"""Gamma by the number of the transfer function in ITU-T H.273. None means the curve of sRGB, which is also used for the
curves of cameras."""

HDR = {16: "PQ", 18: "HLG"}
"""Transfer functions of HDR, which no profile describes sufficiently."""

COLOUR_SPACE, GAMMA, WHITE_POINT, CHROMATICITIES = 0xA001, 0xA500, 318, 319
TRANSFER_FUNCTION = 301
STATES_SRGB, STATES_ADOBE_RGB = 1, 2
BMP_HEADER, BMP_CALIBRATED, BMP_EMBEDDED = 108, 0, b"DEBM"

D50 = (0.9642, 1.0, 0.8249)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
TOLERANCE = 0.003


@dataclass(frozen=True)
class ColourSpace:
    """The white point, red, green and blue as (x, y), and the gamma. A gamma of None means the curve of sRGB."""

    points: tuple[tuple[float, float], ...] = SRGB
    gamma: float | None = None

    @property
    def is_srgb(self) -> bool:
        """Whether this colour space is sRGB, up to rounding."""
        return bool(np.allclose(self.points, SRGB, atol=TOLERANCE)) and (self.gamma is None or 2.15 < self.gamma < 2.25)


ADOBE_RGB = ColourSpace((D65, (0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), 563 / 256)


def from_cicp(cicp: tuple[int, ...]) -> ColourSpace | None:
    """Return the colour space of the numbers of cICP or nclx, or None for an unknown colour space."""
    primaries, transfer = cicp[:2]
    if primaries not in PRIMARIES or transfer not in GAMMAS:
        return None
    return ColourSpace(PRIMARIES[primaries], GAMMAS[transfer])


def from_png(info: Mapping[Any, Any]) -> ColourSpace | None:
    """Return the colour space of the chunks gAMA and cHRM, or None if the chunks are missing or replaced by sRGB."""
    gamma, points = info.get("gamma"), info.get("chromaticity")
    if "srgb" in info or not (isinstance(gamma, float) or isinstance(points, tuple)):
        return None
    exponent = 1 / gamma if isinstance(gamma, float) and gamma > 0 else None
    return ColourSpace(_pairs(points) if isinstance(points, tuple) else SRGB, exponent)


def from_exif(exif: Exif) -> ColourSpace | None:
    """Return the colour space of the tags of EXIF and TIFF, or None without such tags."""
    photo, main = exif.photo, exif.main.values
    stated = exif.numbers(photo.values.get(COLOUR_SPACE))[:1]
    index = photo.inner[INTEROP].values.get(1) if INTEROP in photo.inner else None
    if stated == (STATES_ADOBE_RGB,) or (index and index.content.startswith(b"R03") and stated != (STATES_SRGB,)):
        return ADOBE_RGB
    white, colours, gamma = (
        [numerator / denominator for numerator, denominator in _pairs(exif.numbers(value)) if denominator]
        for value in (main.get(WHITE_POINT), main.get(CHROMATICITIES), photo.values.get(GAMMA))
    )
    if stated == (STATES_SRGB,) or len(colours) != 6:
        return None
    return ColourSpace((*_pairs(white if len(white) == 2 else D65), *_pairs(colours)), gamma[0] if gamma else 2.2)


def from_bmp(file: BinaryIO) -> ColourSpace | bytes | None:
    """Return the colour space in the header of a BMP, or its embedded profile, or None."""
    file.seek(14)
    head = file.read(124).ljust(124, b"\0")
    size, kind = struct.unpack_from("<I", head)[0], head[56:60]
    if size < BMP_HEADER:
        return None
    if kind == BMP_EMBEDDED and size > BMP_HEADER:
        start, length = struct.unpack_from("<II", head, 112)
        file.seek(14 + start)
        return file.read(min(length, 2**24)) or None
    if int.from_bytes(kind, "little") != BMP_CALIBRATED:
        return None
    ends = np.array(struct.unpack_from("<9I", head, 60)).reshape(3, 3) / 2**30
    red, *_ = gammas = np.array(struct.unpack_from("<3I", head, 96)) / 2**16
    if not ends.any() or not (ends.sum(axis=1) > 0).all():
        return None
    points = ends[:, :2] / ends.sum(axis=1, keepdims=True)
    return ColourSpace((D65, *_pairs(points.ravel())), float(red) if (gammas > 0).all() else None)


def _pairs(numbers: Iterable[float]) -> tuple[tuple[float, float], ...]:
    iterator = iter(numbers)
    return tuple((float(x), float(y)) for x, y in zip(iterator, iterator, strict=False))


def hdr_of_profile(icc: bytes) -> str | None:
    """Return the name of the HDR transfer function that a profile states, or None for a profile without HDR."""
    count = struct.unpack_from(">I", icc.ljust(132, b"\0"), 128)[0]
    for start in range(132, min(len(icc) - 11, 132 + 12 * count), 12):
        if icc.startswith(b"cicp", start):
            offset = struct.unpack_from(">I", icc, start + 4)[0]
            return HDR.get(icc[offset + 9]) if offset + 9 < len(icc) else None
    return None


def make_profile(space: ColourSpace, grey: bool) -> bytes | None:
    """Return an ICC profile, version 4, or None if the white point and the primaries are impossible."""
    colourants = _colourants(space.points)
    if colourants is None:
        return None
    matrix, adaptation = colourants
    numbers = SRGB_CURVE if space.gamma is None else (min(space.gamma, 100.0),)
    curve = b"para\0\0\0\0" + struct.pack(">HH", 0 if len(numbers) == 1 else 3, 0) + _fixed(numbers)
    tags = {b"desc": _text("made by pcsr"), b"cprt": _text("public domain"), b"wtpt": b"XYZ \0\0\0\0" + _fixed(D50)}
    if grey:
        tags[b"kTRC"] = curve
    else:
        tags[b"chad"] = b"sf32\0\0\0\0" + _fixed(adaptation.ravel())
        for number, colour in enumerate(b"rgb"):
            tags[bytes([colour]) + b"XYZ"] = b"XYZ \0\0\0\0" + _fixed(matrix[:, number])
            tags[bytes([colour]) + b"TRC"] = curve
    table, content = struct.pack(">I", len(tags)), b""
    for name, tag in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(content), len(tag))
        content += tag + bytes(-len(tag) % 4)
    kind = b"mntr" + (b"GRAY" if grey else b"RGB ") + b"XYZ "
    date = struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    size = struct.pack(">I", 128 + len(table) + len(content))
    head = size + bytes(4) + b"\4\x30\0\0" + kind + date + b"acsp" + bytes(28) + _fixed(D50)
    return head.ljust(128, b"\0") + table + content


def _colourants(points: tuple[tuple[float, float], ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the matrix (3, 3) from RGB to XYZ under D50, and the matrix that adapts the white point, or None if there
    is no such matrix."""
    chromaticities = np.array(points, dtype=float)
    if chromaticities.shape != (4, 2) or not np.isfinite(chromaticities).all() or (chromaticities[:, 1] <= 0).any():
        return None
    x, y = chromaticities.T
    xyz = np.array([x / y, np.ones(4), (1 - x - y) / y])
    white, primaries = xyz[:, 0], xyz[:, 1:]
    if abs(np.linalg.det(primaries)) < 1e-6 or (BRADFORD @ white <= 0).any():
        return None
    cones = (BRADFORD @ np.array(D50)) / (BRADFORD @ white)
    adaptation = np.linalg.inv(BRADFORD) @ np.diag(cones) @ BRADFORD
    matrix = adaptation @ (primaries * np.linalg.solve(primaries, white))
    return (matrix, adaptation) if np.abs(matrix).max() < 100 else None


def _fixed(numbers: Iterable[float]) -> bytes:
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(encoded), 28) + encoded
