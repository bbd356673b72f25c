"""Convert between the modes of Pillow images and RGB or grey pixels with alpha."""

import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageColor

from pcsr_cli.errors import InputError, UsageError
from pcsr_cli.images.image import ImageData, Layout, Metadata, Pixels, bands, to_8_bits

GREY_MODES = {"1", "L", "LA", "La"}
DEEP_MODES = {"I;16", "I;16L", "I;16B", "I;16N"}
CONVERTED_MODES = {"CMYK", "YCbCr", "LAB", "HSV"}
"""Modes whose images are converted to RGB."""

ROUNDED = "more than 8 bits a channel were read as 8"
"""The note on an image whose decoder returns fewer bits than the file has."""


def parse_colour(text: str) -> tuple[int, int, int]:
    """Return the RGB of a colour such as white, #fff or rgb(255, 255, 255). Raises UsageError."""
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError as error:
        raise UsageError(
            f"Unknown colour {text[:30]!r}.", "Use a name or a number, such as white or #ffffff."
        ) from error
    return red, green, blue


def to_srgb(image: Image.Image, icc: bytes) -> Image.Image | None:
    """Convert an image from the colours of its profile to sRGB, mode RGB or RGBA.

    Returns None if the profile is damaged or does not match the mode."""
    alpha = image.getchannel("A") if image.mode in {"LA", "RGBA"} else None
    colour = image if alpha is None else image.convert("L" if image.mode == "LA" else "RGB")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        converted = ImageCms.profileToProfile(colour, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if converted is not None and alpha is not None:
        converted.putalpha(alpha)
    return converted


def is_convertible(icc: bytes, grey: bool) -> bool:
    """Return whether ``to_srgb`` converts grey or RGB images with this profile."""
    return to_srgb(Image.new("L" if grey else "RGB", (1, 1)), icc) is not None


def from_pil(image: Image.Image) -> ImageData:
    """Read the pixels and the profile of a Pillow image. Images of 1 bit become images of 8 bits. CMYK is converted
    through its profile.

    Raises InputError for 32-bit and floating-point modes and for empty images."""
    layout = layout_of(image)
    if layout.depth == 16:
        return _from_16_bit_grey(image)
    icc = image.info.get("icc_profile") or None
    notes: tuple[str, ...] = ()
    if image.mode in CONVERTED_MODES:
        image, note = _to_rgb(image, icc)
        notes, icc = (note,), None
    rgb, alpha = _to_arrays(image)
    return ImageData(rgb, alpha, layout.grey, Metadata(icc), notes)


def layout_of(image: Image.Image) -> Layout:
    """Return the layout of ``from_pil``'s image without decoding pixels. Raises the InputErrors of ``from_pil``."""
    if not image.width or not image.height:
        raise InputError("The image has no pixels.", "Use another image.")
    if image.mode == "F":
        raise unsupported_numbers(is_float=True)
    # Pillow opens a 16-bit PGM as 32 bits.
    deep = image.mode in DEEP_MODES or (image.format == "PPM" and image.mode == "I")
    if image.mode.startswith("I") and not deep:
        raise unsupported_numbers(is_float=False)
    grey = deep or image.mode in GREY_MODES
    return Layout(image.height, image.width, grey, image.has_transparency_data, 16 if deep else 8)


def unsupported_numbers(is_float: bool) -> InputError:
    """Return the error for pixels that are floating-point numbers or 32-bit integers."""
    if is_float:
        problem = "Floating-point images are not supported, because they define no white."
    else:
        problem = "Images with 32 bits a channel are not supported."
    return InputError(problem, "Convert the image to 16 bits a channel.")


def crops(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """Yield the image in bands of rows. A conversion of one band at a time does not double the memory."""
    for rows in bands(image.height, image.width):
        yield rows, image.crop((0, rows.start, image.width, rows.stop))


def _from_16_bit_grey(image: Image.Image) -> ImageData:
    pixels = np.asarray(image).astype(np.uint16)  # in native byte order
    clear = image.info.get("transparency")
    alpha = np.where(pixels == clear, 0, 65535).astype(np.uint16) if isinstance(clear, int) else None
    return ImageData(pixels[..., None].repeat(3, axis=2), alpha, True, Metadata(image.info.get("icc_profile") or None))


def _to_rgb(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, str]:
    """Convert an image to RGB. Returns the converted image with a note on the conversion."""
    mode = image.mode
    if mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None
        return converted, "LAB was converted to sRGB"
    if mode == "CMYK" and icc:
        converted = to_srgb(image, icc)
        if converted is not None:
            return converted, "CMYK was converted to sRGB through its profile"
        return image.convert("RGB"), "CMYK was converted to RGB by the simple formula, because its profile is damaged"
    if mode == "CMYK":
        return image.convert("RGB"), "CMYK was converted to RGB by the simple formula, because it has no profile"
    return image.convert("RGB"), f"{mode} was converted to RGB"


def _to_arrays(image: Image.Image) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Return the colours (H, W, 3), and alpha (H, W) or None."""
    if image.mode == "La":  # Pillow converts this mode to LA only
        image = image.convert("LA")
    clear = image.has_transparency_data
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    alpha = np.empty((image.height, image.width), np.uint8) if clear else None
    for rows, band in crops(image):
        try:
            channels = np.asarray(band.convert("RGBA" if clear else "RGB"))
        except ValueError as error:
            raise InputError(f"Images of mode {image.mode} are not supported.", "Convert the image to RGB.") from error
        rgb[rows] = channels[..., :3]
        if alpha is not None:
            alpha[rows] = channels[..., 3]
    return rgb, alpha


def as_pil(channels: Pixels) -> Image.Image:
    """Convert (H, W, 1 to 4) uint8 to a Pillow image of mode L, LA, RGB or RGBA, or (H, W, 1) uint16 to I;16."""
    return Image.fromarray(channels[..., 0] if channels.shape[2] == 1 else channels)


def to_pil(image: ImageData) -> Image.Image:
    """Convert to Pillow's mode L, LA, RGB or RGBA, or I;16 for 16-bit grey. 16-bit images that are not grey are rounded
    to 8 bits."""
    channels = image.channels()
    if image.depth == 16 and channels.shape[2] > 1:
        channels = to_8_bits(channels)
    converted = as_pil(channels)
    if image.metadata.icc is not None:
        converted.info["icc_profile"] = image.metadata.icc
    return converted
