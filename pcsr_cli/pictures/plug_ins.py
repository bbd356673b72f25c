"""Pillow's plug-ins for formats it does not know by itself."""

import importlib

from pcsr_cli.pictures import formats
from pcsr_cli.pictures.formats import Format

FORMATS = tuple(format for format in formats.FORMATS if format.module)
"""HEIC and JPEG XL."""


def load(format: Format) -> None:
    """Make Pillow know a format whose plug-in is installed."""
    if not format.module:
        return
    module = importlib.import_module(format.module)  # which is how the one for JPEG XL makes itself known
    if format.pillow == "HEIF":
        module.register_heif_opener()
