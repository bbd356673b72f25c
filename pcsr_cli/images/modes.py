"""Pictures as PIL has them, of any mode, to and from RGB or grey levels with straight alpha."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from pcsr_cli.errors import InputError
from pcsr_cli.images.image import ImageData, Layout, Metadata, to_8_bits


def to_srgb(image: Image.Image, icc: bytes) -> Image.Image | None:
    """A picture of any mode whose colours mean what a profile says, in sRGB: mode RGB, or RGBA where it had alpha.

    None where the profile is damaged or belongs to other colours."""
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


def is_of_grey(icc: bytes) -> bool:
    """Whether a profile tells what levels of grey mean, and so belongs to no picture in RGB."""
    return icc[16:20] == b"GRAY"


def lab_to_srgb(image: Image.Image) -> Image.Image:
    """A picture of mode LAB in sRGB, mode RGB."""
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert converted is not None
    return converted


BAND_PIXELS = 2**20
GREY_MODES = {"1", "L", "LA", "La"}
DEEP_MODES = {"I;16", "I;16L", "I;16B", "I;16N"}


def from_pil(image: Image.Image) -> ImageData:
    """The pixels of a PIL picture, with its profile; 1 bit becomes 8, CMYK goes through its profile.

    Raises InputError for 32-bit and floating-point modes and for empty pictures."""
    layout = layout_of(image)
    if layout.depth == 16:
        return _deep_grey(image)
    icc = image.info.get("icc_profile") or None
    notes: tuple[str, ...] = ()
    if image.mode in {"CMYK", "YCbCr", "LAB", "HSV"}:
        image, how = _to_rgb(image, icc)
        notes, icc = (how,), None
    rgb, alpha = _levels(image)
    return ImageData(rgb, alpha, layout.grey, Metadata(icc), notes)


def layout_of(image: Image.Image) -> Layout:
    """The layout of what ``from_pil`` would give, without looking at pixels. Raises InputError as that does."""
    if not image.width or not image.height:
        raise InputError("The picture has no pixels.", "Give another.")
    if image.mode == "F":
        raise InputError(
            "Pictures of floating-point numbers have no fixed white, and are not read.",
            "Convert it to 16 bits a channel.",
        )
    deep = image.mode in DEEP_MODES or _holds_16_bits(image)
    if image.mode.startswith("I") and not deep:
        raise InputError("Pictures of 32 bits a channel are not read.", "Convert it to 16 bits a channel.")
    return Layout(
        image.height, image.width, deep or image.mode in GREY_MODES, image.has_transparency_data, 16 if deep else 8
    )


def _holds_16_bits(image: Image.Image) -> bool:
    """Whether it is a PGM of 16 bits, for which Pillow takes 32."""
    return image.format == "PPM" and image.mode == "I"


def _deep_grey(image: Image.Image) -> ImageData:
    levels = np.asarray(image).astype(np.uint16)  # of the machine's byte order
    clear = image.info.get("transparency")
    alpha = np.where(levels == clear, 0, 65535).astype(np.uint16) if isinstance(clear, int) else None
    return ImageData(levels[..., None].repeat(3, axis=2), alpha, True, Metadata(image.info.get("icc_profile") or None))


def _to_rgb(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, str]:
    """The picture in RGB, and a note of how that was done."""
    mode = image.mode
    if mode == "LAB":
        return lab_to_srgb(image), "LAB was converted to sRGB"
    if mode == "CMYK" and icc:
        converted = to_srgb(image, icc)
        if converted is not None:
            return converted, "CMYK was converted to sRGB through its profile"
        return image.convert("RGB"), "CMYK was converted to RGB plainly: its profile is damaged"
    if mode == "CMYK":
        return image.convert("RGB"), "CMYK was converted to RGB plainly: it has no profile"
    return image.convert("RGB"), f"{mode} was converted to RGB"


def _levels(image: Image.Image) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Colour (H, W, 3) and alpha (H, W) or None, converted in bands of rows so that no second copy stands in memory."""
    if image.mode == "La":  # the one mode that converts to a single other
        image = image.convert("LA")
    clear = image.has_transparency_data
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    alpha = np.empty((image.height, image.width), np.uint8) if clear else None
    step = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, step):
        bottom = min(image.height, top + step)
        band = image.crop((0, top, image.width, bottom))
        try:
            channels = np.asarray(band.convert("RGBA" if clear else "RGB"))
        except ValueError as error:
            raise InputError(f"Pictures of mode {image.mode} are not supported.", "Convert it to RGB.") from error
        rgb[top:bottom] = channels[..., :3]
        if alpha is not None:
            alpha[top:bottom] = channels[..., 3]
    return rgb, alpha


def to_pil(picture: ImageData) -> Image.Image:
    """The picture as PIL has it: mode L, LA, RGB or RGBA; 16-bit grey as I;16, other 16 bits rounded to 8."""
    channels = picture.channels()
    if picture.depth == 16 and channels.shape[2] > 1:
        channels = to_8_bits(channels)
    image = Image.fromarray(channels[..., 0] if channels.shape[2] == 1 else channels)
    if picture.metadata.icc is not None:
        image.info["icc_profile"] = picture.metadata.icc
    return image
