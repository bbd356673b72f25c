"""Colours from one profile's meaning to another's."""

import io

from PIL import Image, ImageCms


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
