"""Pillow's plug-ins for formats it does not know by itself."""

import importlib

from pcsr_cli.pictures.formats import FORMATS, Format

HEIC = next(format for format in FORMATS if format.name == "HEIC")


def load(format: Format) -> None:
    """Make Pillow know a format whose plug-in is installed."""
    if not format.module:
        return
    module = importlib.import_module(format.module)  # which is how the one for JPEG XL makes itself known
    if format is HEIC:
        module.register_heif_opener()
