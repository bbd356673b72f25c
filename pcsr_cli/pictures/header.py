"""What a picture file holds, without its pixels where its header tells."""

from pathlib import Path

from PIL import Image

from pcsr_cli.failures import pictures
from pcsr_cli.pictures.formats import known_suffixes
from pcsr_cli.pictures.libvips import is_better_read, is_rounded
from pcsr_cli.pictures.metadata import read_metadata
from pcsr_cli.pictures.modes import DEEP_MODES, GREY_MODES
from pcsr_cli.pictures.orientation import TURNS
from pcsr_cli.pictures.picture import Layout
from pcsr_cli.pictures.reading import TURNED_BY_DECODER, read_picture
from pcsr_cli.pictures.sources import check_size, is_tiff, open_if_known, opened, reading_told


def read_layout(path: Path, allow_huge: bool = False) -> Layout:
    """The layout of a picture as ``read_picture`` would give it, upright. Raises InputError.

    Only of a TIFF that Pillow does not know are the pixels read."""
    with opened(path) as file, reading_told(path):
        image = open_if_known(file, str(path))
        if image is not None:
            check_size(str(path), image.width, image.height, allow_huge)
            deep = image.mode in DEEP_MODES or (is_better_read(image) and is_rounded(image, file))
            grey = image.mode in GREY_MODES or image.mode in DEEP_MODES or _is_deep_grey_with_alpha(image)
            sides = (image.width, image.height) if _is_turned(image) else (image.height, image.width)
            return Layout(*sides, grey, image.has_transparency_data, 16 if deep else 8)
        if not is_tiff(file):
            raise pictures.NOT_A_PICTURE(path=path, known=", ".join(known_suffixes()))
    return read_picture(path, allow_huge).layout


def _is_deep_grey_with_alpha(image: Image.Image) -> bool:
    """A PNG of 16-bit grey with alpha, for which Pillow has no mode but RGBA."""
    return image.format == "PNG" and any(str(tile[3]).startswith("LA;16") for tile in getattr(image, "tile", ()))


def _is_turned(image: Image.Image) -> bool:
    """Whether rows and columns change places when the picture is turned upright."""
    if image.format in {*TURNED_BY_DECODER, "TIFF"} or (image.format == "PNG" and "exif" not in image.info):
        return False  # a TIFF is upright already; of a PNG without tags all pixels would be read, as some may follow
    return TURNS[read_metadata(image.info, image.getexif)[1]][0]
