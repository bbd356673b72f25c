"""What a picture file holds, told by its header: its pixels are not read."""

from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from pcsr_cli.errors import InputError
from pcsr_cli.pictures.formats import known_suffixes
from pcsr_cli.pictures.libvips import is_better_read, read_header
from pcsr_cli.pictures.metadata import read_orientation, read_tags
from pcsr_cli.pictures.modes import layout_of
from pcsr_cli.pictures.orientation import TURNS
from pcsr_cli.pictures.picture import Layout
from pcsr_cli.pictures.png_metadata import without_pixels
from pcsr_cli.pictures.reading import TURNED_BY_DECODER
from pcsr_cli.pictures.sources import check_size, is_tiff, open_if_known, opened, reading_told


def read_layout(path: Path, allow_huge: bool = False) -> Layout:
    """The layout of a picture as ``read_picture`` would give it, upright. Raises InputError as that does, but for
    damage behind the header."""
    with opened(path) as file, reading_told(path):
        image = open_if_known(file, str(path))
        if image is not None:
            check_size(str(path), image.width, image.height, allow_huge)
            layout, orientation = _of_known(file, image)
        elif is_tiff(file):
            layout, orientation = _of_unknown_tiff(file)
            check_size(str(path), layout.width, layout.height, allow_huge)
        else:
            known = ", ".join(known_suffixes())
            raise InputError(f"{path} is not a picture of a known format.", f"Known: {known}.")
    swap = TURNS[orientation][0]
    return replace(layout, height=layout.width, width=layout.height) if swap else layout


def _of_known(file: BinaryIO, image: Image.Image) -> tuple[Layout, int]:
    """The layout as the decoder gives it, and the orientation in which that lies."""
    assert image.format is not None
    if is_better_read(image):
        layout = read_header(file, image.format, getattr(image, "tag_v2", {}))
    else:
        layout = layout_of(image)
        if image.format in {*TURNED_BY_DECODER, "TIFF"}:  # which Pillow turns itself
            return layout, 1
    described = without_pixels(file) if image.format == "PNG" else image
    return layout, read_orientation(described.getexif)


def _of_unknown_tiff(file: BinaryIO) -> tuple[Layout, int]:
    tags = read_tags(file)
    layout = read_header(file, "TIFF", tags)
    return layout, read_orientation(lambda: tags)
