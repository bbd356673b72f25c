"""Read animations frame by frame, and write them from all frames at once."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from pcsr_cli.errors import InputError
from pcsr_cli.images.formats import Format, SaveOptions, check_animated, starts_like
from pcsr_cli.images.image import ImageData, Metadata, to_8_bits
from pcsr_cli.images.metadata import SWAPPED, read_metadata, upright
from pcsr_cli.images.modes import as_pil, from_pil
from pcsr_cli.images.png import PngParts
from pcsr_cli.images.read import ANIMATED, check_size, open_described, open_source, reading_errors, source_name
from pcsr_cli.images.write import encode_with_pillow, kept_metadata, open_destination, writing_errors


@dataclass(frozen=True)
class Frame:
    """A complete frame and its duration."""

    image: ImageData
    milliseconds: float


@dataclass(frozen=True)
class Animation:
    """An open animation. ``frames`` decodes one frame at a time and can be iterated once.

    ``notes`` are about the metadata. ``size`` is (height, width). ``plays`` is the number of plays, 0 for endless
    repetition."""

    size: tuple[int, int]
    count: int
    plays: int
    metadata: Metadata
    notes: tuple[str, ...]
    frames: Iterator[Frame]


def is_animated(source: Path | BinaryIO) -> bool:
    """Return whether a file has several frames that can be upscaled. Raises InputError for a file that cannot be
    opened."""
    with open_source(source) as file, reading_errors(source):
        return _count(_open(file, source_name(source), is_checked=False)[0]) > 1


@contextmanager
def open_animation(source: Path | BinaryIO, allow_huge: bool = False) -> Iterator[Animation]:
    """Open a GIF, WebP or PNG with several frames. Raises InputError, also while frames are read."""
    name = source_name(source)
    with open_source(source) as file:
        with reading_errors(source):
            image, parts = _open(file, name, is_checked=True)
            count = _count(image)
            if image is None or count < 2:
                raise InputError(f"{name} has only one frame.", "Use a GIF, WebP or PNG animation.", setting="frames")
            check_size(name, image.width, image.height, allow_huge)
            metadata, orientation, notes = read_metadata(
                image if parts is None else parts.description, file, grey=False
            )
            notes = (*notes, *(() if parts is None else parts.notes))
        frames = _frames(image, count, source, orientation)
        size = (image.width, image.height) if orientation in SWAPPED else (image.height, image.width)
        yield Animation(size, count, _plays(image), metadata, notes, frames)


def _open(file: BinaryIO, name: str, is_checked: bool) -> tuple[Image.Image | None, PngParts | None]:
    """Open a file with ``open_described``. Return None for formats without frames, which may take long to open."""
    return (None, None) if starts_like(file, "TIFF", "JPEG XL", "JPEG") else open_described(file, name, is_checked)


def _count(image: Image.Image | None) -> int:
    return 0 if image is None or image.format not in ANIMATED else getattr(image, "n_frames", 1) - _first(image)


def _first(image: Image.Image) -> int:
    """Return the index of the first frame. The default image of a PNG need not be a frame of the animation."""
    return 1 if getattr(image, "default_image", False) else 0


def _plays(image: Image.Image) -> int:
    """Return the number of plays, 0 for endless repetition. A GIF stores the number of repetitions, and nothing for a
    single play."""
    loop = image.info.get("loop")
    if image.format == "GIF":
        return 1 if loop is None else 0 if loop == 0 else loop + 1
    return loop or 0


def _frames(image: Image.Image, count: int, source: Path | BinaryIO, orientation: int) -> Iterator[Frame]:
    size = image.size
    for number in range(_first(image), _first(image) + count):
        with reading_errors(source):
            image.seek(number)
            if image.size != size:  # a GIF's frame may lie outside of its first one
                raise InputError(
                    f"Frame {number + 1} of {source_name(source)} is not as large as the first.",
                    "Export the animation again.",
                )
            image.load()
            frame = Frame(upright(from_pil(image), orientation), float(image.info.get("duration", 0) or 0))
        yield frame


@dataclass
class FrameWriter:
    """Collects frames of one size (height, width) in order."""

    size: tuple[int, int]
    images: list[Image.Image] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)

    def add(self, image: ImageData, milliseconds: float) -> None:
        """Add the next frame, rounded to 8 bits."""
        assert image.size == self.size, f"a frame of {image.size} among frames of {self.size}"
        self.images.append(as_pil(to_8_bits(image.channels())))
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
    before_commit: Callable[[Path], None] | None = None,
    replace: bool = True,
) -> Iterator[FrameWriter]:
    """Open a writer for an animation of ``size`` (height, width). The file gets its name when the block ends.

    ``plays`` is 0 for endless repetition. ``open_writer`` describes the other arguments. Raises OutputError, and
    RefusedOutputError for formats without animation."""
    check_animated(format)
    options = options or SaveOptions()
    kept = kept_metadata(metadata or Metadata(), *size, format, options, text)
    writer = FrameWriter(size)
    with open_destination(output, before_commit, replace) as file:
        yield writer
        assert writer.images, "an animation has frames"
        images = _same_mode(writer.images)
        timing = _timing(format, plays, writer.milliseconds, images[0].mode)
        with writing_errors(output, format):
            encode_with_pillow(file, images, format, kept, options, **timing)


def _same_mode(images: list[Image.Image]) -> list[Image.Image]:
    """Convert all frames to RGB, or to RGBA if one is not opaque."""
    clear = any("A" in image.getbands() and image.getchannel("A").getextrema()[0] != 255 for image in images)
    mode = "RGBA" if clear else "RGB"
    return [image if image.mode == mode else image.convert(mode) for image in images]


def _timing(format: Format, plays: int, milliseconds: list[float], mode: str) -> dict[str, object]:
    timing: dict[str, object] = {"save_all": True}
    if format.name == "GIF":
        timing["duration"] = [round(time / 10) * 10 for time in milliseconds]
        timing["disposal"] = 2 if mode == "RGBA" else 0  # otherwise the previous frame stays visible
        if plays != 1:
            timing["loop"] = max(0, plays - 1)
    else:
        timing["duration"] = [round(time) for time in milliseconds]
        timing["loop"] = plays
    return timing
