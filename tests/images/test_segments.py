"""TIFFs that libvips does not decode are decoded exactly."""

import io
import lzma
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from pcsr_cli.errors import InputError
from pcsr_cli.images.read import read_image
from tests.failing import fails
from tests.images import deep_levels, header_of, levels, tagged_tiff


def packed(values: NDArray[np.int64], bits: int, compression: int = 1, photometric: int | None = None) -> bytes:
    """A TIFF of one strip whose numbers (H, W, C) take ``bits`` bits each."""
    each = (values.reshape(len(values), -1, 1) >> np.arange(bits - 1, -1, -1)) & 1
    strip = np.packbits(each.astype(np.uint8).reshape(len(values), -1), axis=1).tobytes()
    packers: dict[int, Callable[[bytes], bytes]] = {8: zlib.compress, 34925: lzma.compress}
    colours = photometric if photometric is not None else 2 if values.shape[2] > 2 else 1
    return tagged_tiff(
        values.shape, packers.get(compression, bytes)(strip), {258: bits, 259: compression, 262: colours}
    )


@pytest.mark.parametrize("compression", [1, 8, 34925])
@pytest.mark.parametrize(("bits", "channels"), [(2, 3), (4, 3), (10, 3), (12, 1), (12, 3), (14, 1)])
def test_packed_numbers_are_scaled_to_whole_bytes(bits: int, channels: int, compression: int) -> None:
    values = deep_levels(6, 7, channels).astype(np.int64) >> 16 - bits
    content = packed(values, bits, compression)
    image = read_image(io.BytesIO(content))
    white = 255 if bits <= 8 else 65535
    assert image.layout == header_of(content)
    assert image.depth == (8 if bits <= 8 else 16)
    assert image.grey == (channels == 1)
    assert np.abs(image.channels() - values * white / (2**bits - 1)).max() <= 0.5
    assert image.notes == ()


def test_white_is_zero() -> None:
    values = deep_levels(6, 7, 1).astype(np.int64) >> 4
    positive, negative = packed(values, 12), packed(4095 - values, 12, photometric=0)
    assert np.array_equal(read_image(io.BytesIO(positive)).rgb, read_image(io.BytesIO(negative)).rgb)


@pytest.mark.parametrize("make", [levels, deep_levels])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("channels", [3, 4])
def test_tiles_of_separate_planes(make: Callable[..., NDArray[np.generic]], byteorder: str, channels: int) -> None:
    pixels, file = make(37, 50, channels), io.BytesIO()
    planes = np.moveaxis(pixels, 2, 0)
    tifffile.imwrite(
        file,
        planes,
        photometric="rgb",
        planarconfig="separate",
        tile=(16, 32),
        extrasamples=["unassalpha"] if channels == 4 else None,
        byteorder=byteorder,  # type: ignore[arg-type]
    )
    image = read_image(file)
    assert np.array_equal(image.channels(), pixels)
    assert image.layout == header_of(file.getvalue())


@pytest.mark.parametrize("make", [levels, deep_levels])
def test_lzma_with_a_predictor(make: Callable[..., NDArray[np.generic]]) -> None:
    pixels, file = make(37, 50, 3), io.BytesIO()
    tifffile.imwrite(file, pixels, photometric="rgb", compression="lzma", predictor=True, rowsperstrip=10)
    assert np.array_equal(read_image(file).rgb, pixels)


def test_zstandard_is_read_by_pillow() -> None:
    file = io.BytesIO()
    Image.fromarray(levels(37, 50)).save(file, "TIFF", compression="zstd")
    assert np.array_equal(read_image(file).rgb, levels(37, 50))


def test_other_compressions_are_not_called_damaged() -> None:
    lerc, lzw = 34887, 5
    with fails(InputError, "is of a kind that cannot be read:", "LERC"):
        read_image(io.BytesIO(packed(levels(6, 7).astype(np.int64), 8, lerc)))
    with fails(InputError, "is of a kind that cannot be read:"):
        read_image(io.BytesIO(packed(deep_levels(6, 7).astype(np.int64) >> 4, 12, lzw)))


@pytest.mark.parametrize("compression", [1, 8, 34925])
def test_damage_is_an_error(compression: int) -> None:
    content = packed(deep_levels(60, 70).astype(np.int64) >> 4, 12, compression)
    for damaged in (content[:-300], content[:500] + content[700:], content[:200] + bytes(40) + content[240:]):
        if compression == 1 and len(damaged) == len(content):
            continue
        with fails(InputError, "is truncated or damaged"):
            read_image(io.BytesIO(damaged))


@pytest.mark.parametrize("tags", [{278: 0}, {322: 0, 323: 16}, {322: 16, 323: 0}])
def test_strips_and_tiles_without_a_size_are_damage(tags: dict[int, int]) -> None:
    content = tagged_tiff((6, 7, 3), bytes(6 * 11 * 3), {258: 12, 259: 1, 262: 2, **tags})
    with fails(InputError, "is truncated or damaged", "no size"):
        read_image(io.BytesIO(content))
