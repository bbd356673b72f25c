"""Animations: every frame as a picture, one after the other, and files of many frames."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pcsr_cli.errors import InputError
from pcsr_cli.images.formats import Format, SaveOptions, check_animated, keepable
from pcsr_cli.images.image import ImageData, Metadata, to_8_bits
from pcsr_cli.images.metadata import of_size, read_metadata
from pcsr_cli.images.modes import from_pil
from pcsr_cli.images.read import ANIMATIONS, check_size, open_if_known, open_source, reading_errors, source_name
from pcsr_cli.images.write import as_image, destination, encode, writing_errors


@dataclass(frozen=True)
class Frame:
    """A frame as it is seen, and for how long."""

    picture: ImageData
    milliseconds: float


@dataclass(frozen=True)
class Animation:
    """An animation that is open for reading: ``frames`` are decoded as they are asked for, once.

    ``plays`` is how often it is to be played, 0 for ever; ``size`` height and width."""

    size: tuple[int, int]
    count: int
    plays: int
    metadata: Metadata
    frames: Iterator[Frame]


def is_animated(source: Path | BinaryIO) -> bool:
    """Whether a picture has frames that can all be enlarged. Raises InputError for a file that cannot be opened."""
    with open_source(source) as file, reading_errors(source):
        return _count(open_if_known(file, source_name(source))) > 1


@contextmanager
def open_animation(source: Path | BinaryIO, allow_huge: bool = False) -> Iterator[Animation]:
    """Every frame of a GIF, WebP or PNG. Raises InputError, also while frames are read; a picture that does not move
    is refused as well."""
    name = source_name(source)
    with open_source(source) as file:
        with reading_errors(source):
            image = open_if_known(file, name)
            count = _count(image)
            if image is None or count < 2:
                raise InputError(f"{name} has only one frame.", "Leave --frames out.")
            check_size(name, image.width, image.height, allow_huge)
            metadata, _, _ = read_metadata(image.info, image.getexif)
        frames = _frames(image, _first(image), count, source)
        yield Animation((image.height, image.width), count, _plays(image), metadata, frames)


def _count(image: Image.Image | None) -> int:
    """How many frames there are to be enlarged; none of a picture of another kind."""
    if image is None or image.format not in ANIMATIONS:
        return 0
    return getattr(image, "n_frames", 1) - _first(image)


def _first(image: Image.Image) -> int:
    """The number of the first frame: a PNG's still, where it has one, is no part of its animation."""
    return 1 if getattr(image, "default_image", False) else 0


def _plays(image: Image.Image) -> int:
    """How often, from what the formats say: a GIF, how often again, and nothing for once."""
    loop = image.info.get("loop")
    if image.format == "GIF":
        return 1 if loop is None else 0 if loop == 0 else loop + 1
    return loop or 0


def _frames(image: Image.Image, first: int, count: int, source: Path | BinaryIO) -> Iterator[Frame]:
    for number in range(first, first + count):
        with reading_errors(source):
            image.seek(number)
            image.load()
            frame = Frame(from_pil(image), float(image.info.get("duration", 0) or 0))
        yield frame


class FrameWriter:
    """``add`` frames in their order; they are kept in memory until the file is made of them."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.images: list[Image.Image] = []
        self.milliseconds: list[float] = []

    def add(self, picture: ImageData, milliseconds: float) -> None:
        """The next frame, of the size of all; 16 bits are rounded to 8."""
        assert picture.size == self.size, f"{picture.size} among frames of {self.size}"
        self.images.append(as_image(to_8_bits(picture.channels())))
        self.milliseconds.append(milliseconds)


@contextmanager
def open_frame_writer(
    output: Path | BinaryIO,
    format: Format,
    size: tuple[int, int],
    plays: int = 0,
    metadata: Metadata | None = None,
    text: Mapping[str, str] | None = None,
    options: SaveOptions | None = None,
    before_placing: Callable[[Path], None] | None = None,
    replace: bool = True,
) -> Iterator[FrameWriter]:
    """A writer for an animation of (height, width), put in its place whole when the block ends well.

    A GIF has 256 colours a frame. ``plays`` 0 is for ever. Raises OutputError, and RefusedOutputError for formats
    without animation."""
    check_animated(format)
    chosen, described = options or SaveOptions(), metadata or Metadata()
    kept = Metadata(icc=described.icc) if chosen.strip else keepable(of_size(described, *size), format)[0]
    said = {} if chosen.strip else text or {}
    writer = FrameWriter(size)
    with destination(output, before_placing, replace) as file:
        yield writer
        assert writer.images, "an animation has frames"
        images = _alike(writer.images)
        timing = _timing(format, plays, writer.milliseconds, images[0].mode)
        if format.name == "PNG":
            timing["pnginfo"] = _chunks(said)
        with writing_errors(output, format):
            encode(file, images, format, kept, chosen, **timing)


def _alike(images: list[Image.Image]) -> list[Image.Image]:
    """All in RGB, or all in RGBA where one of them is not opaque."""
    clear = any("A" in image.getbands() and image.getchannel("A").getextrema()[0] != 255 for image in images)
    return [image.convert("RGBA" if clear else "RGB") for image in images]


def _timing(format: Format, plays: int, milliseconds: list[float], mode: str) -> dict[str, object]:
    """Order and time in the words of Pillow's encoders."""
    timing: dict[str, object] = {"save_all": True}
    if format.name == "GIF":
        timing["duration"] = [round(time / 10) * 10 for time in milliseconds]
        timing["disposal"] = 2 if mode == "RGBA" else 0  # else the frame before shines through
        if plays != 1:
            timing["loop"] = max(0, plays - 1)
    else:
        timing["duration"] = [round(time) for time in milliseconds]
        timing["loop"] = plays
    return timing


def _chunks(text: Mapping[str, str]) -> PngInfo:
    chunks = PngInfo()
    for key, value in text.items():
        chunks.add_itxt(key, value)
    return chunks
