"""Results on disk: rows handed over from top to bottom, a file that is there whole or not at all."""

import io
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from PIL import Image

from pcsr_cli.errors import OutputError
from pcsr_cli.images import formats as plug_ins
from pcsr_cli.images.files import commit, reason, temporary_file
from pcsr_cli.images.formats import Format, SaveOptions, choose_format, fit, keepable
from pcsr_cli.images.image import ImageData, Layout, Metadata, Pixels, to_8_bits
from pcsr_cli.images.metadata import of_size
from pcsr_cli.images.modes import is_of_grey, to_srgb
from pcsr_cli.images.png import PngStream
from pcsr_cli.images.tiff import TiffStream

EncodingError = (ValueError, struct.error, SyntaxError, RuntimeError)
"""What Pillow raises for a picture that a format cannot hold; besides OSError."""


class CollectedRows:
    """``write`` rows from top to bottom, then ``finish``, which encodes them and writes the file.

    Raises ValueError, struct.error, SyntaxError or RuntimeError where Pillow cannot encode them."""

    def __init__(
        self, file: BinaryIO, format: Format, layout: Layout, metadata: Metadata, options: SaveOptions
    ) -> None:
        self._file, self._format, self._metadata, self._options = file, format, metadata, options
        self._pixels = np.empty((layout.height, layout.width, layout.channels), np.uint8)
        self._done = 0

    def write(self, rows: Pixels) -> None:
        """The next rows, (n, W, C) uint8."""
        self._pixels[self._done : self._done + len(rows)] = rows
        self._done += len(rows)

    def finish(self) -> None:
        """The end of the picture; all rows have been written."""
        image = as_image(self._pixels)
        encode(self._file, [image], self._format, self._metadata, self._options)


def as_image(channels: Pixels) -> Image.Image:
    """(H, W, 1 to 4) uint8 as a PIL picture of mode L, LA, RGB or RGBA; 16-bit grey as I;16."""
    return Image.fromarray(channels[..., 0] if channels.shape[2] == 1 else channels)


def encode(
    file: BinaryIO,
    images: list[Image.Image],
    format: Format,
    metadata: Metadata,
    options: SaveOptions,
    **timing: object,
) -> None:
    """Write a picture, or the frames of an animation with their ``timing`` in Pillow's words.

    ``metadata`` is what ``keepable`` has left. Where the format has no profile, or none of grey, the colours are
    converted by theirs."""
    plug_ins.load(format)
    described: dict[str, object] = {}
    if metadata.icc is not None:
        if "icc" in format.metadata and (format.grey or not is_of_grey(metadata.icc)):
            described["icc_profile"] = metadata.icc
        else:
            images = [to_srgb(image, metadata.icc) or image for image in images]
    if format.colours is not None:
        images = [_of_few_colours(image, format.colours) for image in images]
    if metadata.exif is not None:
        described["exif"] = b"Exif\0\0" + metadata.exif
    if metadata.xmp is not None:
        described["xmp"] = metadata.xmp
    if metadata.dpi is not None:
        described["dpi"] = metadata.dpi
    if len(images) > 1:
        timing = {**timing, "append_images": images[1:]}
    encoded = io.BytesIO()  # straight to a file, Pillow does not notice when a full disk takes only half
    images[0].save(encoded, format.pillow, **described, **_settings(format, options), **timing)
    file.write(encoded.getbuffer())


def _of_few_colours(image: Image.Image, colours: int) -> Image.Image:
    """A picture with a palette; where it is more clear than opaque, it has a last, transparent colour."""
    if image.mode == "L":
        return image
    if image.mode == "RGB":
        return image.quantize(colours)
    clear = image.getchannel("A").point([255] * 128 + [0] * 128)
    few = image.convert("RGB").quantize(colours - 1)
    few.paste(colours - 1, mask=clear)
    few.info["transparency"] = colours - 1
    return few


def _settings(format: Format, options: SaveOptions) -> dict[str, object]:
    """The options in the words of Pillow's encoders."""
    quality = options.quality or format.quality
    match format.name:
        case "JPEG":
            return {"quality": quality, "subsampling": 0}
        case "WebP":
            # "exact" keeps the colours under transparent pixels, which the next enlargement may look at.
            return {"lossless": True, "exact": True} if options.lossless else {"quality": quality}
        case "AVIF":
            return {"quality": quality, "subsampling": "4:4:4"}
        case "HEIC":
            return {"quality": quality}
        case "JPEG XL":
            return {"lossless": True} if options.lossless else {"quality": quality, "lossless": False}
        case "PNG" if options.compression is not None:
            return {"compress_level": options.compression}
    return {}


BAND_BYTES = 2**24


class PictureWriter(Protocol):
    """Takes the rows of a picture from top to bottom, each once."""

    def write(self, rows: Pixels) -> None:
        """The next rows, (n, W, C), of the channels and the depth of the layout, the writer's own from now on.

        Raises OutputError."""
        ...


class FileWriter(PictureWriter, Protocol):
    """Writes an image to a file."""

    def write_all(self, rows: Iterable[Pixels]) -> None:
        """Write blocks of rows as they come, from the top. Raises OutputError, and what ``rows`` raises."""
        ...


class _Stream(Protocol):
    def write(self, rows: Pixels) -> None: ...

    def finish(self) -> None: ...


@contextmanager
def open_writer(
    output: Path | BinaryIO,
    format: Format,
    layout: Layout,
    metadata: Metadata | None = None,
    text: Mapping[str, str] | None = None,
    options: SaveOptions | None = None,
    before_placing: Callable[[Path], None] | None = None,
    replace: bool = True,
) -> Iterator[FileWriter]:
    """A writer for one picture. The file is put in its place when the block ends well; else nothing is left.

    ``layout`` is what ``fit`` made of the result's; ``metadata`` is brought up to date with its size; ``text`` goes
    into a PNG. PNG and TIFF grow on disk as rows come, the other formats are collected in memory. A stream as output
    (such as stdout's buffer) gets the whole file at the end. ``before_placing`` is called with the finished file, still
    under its temporary name. Without ``replace`` a file that has come to be there meanwhile is let be. Raises
    OutputError, RefusedOutputError."""
    assert fit(layout, format)[0] == layout, "ask fit() before computing"
    chosen = options or SaveOptions()
    kept = _kept(metadata or Metadata(), layout, format, chosen)
    said = {} if chosen.strip else text or {}
    with destination(output, before_placing, replace) as file:
        writer = _Writer(output, file, format, layout)
        with writing_errors(output, format):
            writer.stream = _stream(file, format, layout, kept, said, chosen)
        yield writer
        with writing_errors(output, format):
            writer.finish()


class _Writer:
    """Counts rows, and turns what can go wrong in writing them into sentences."""

    stream: _Stream

    def __init__(self, output: Path | BinaryIO, file: BinaryIO, format: Format, layout: Layout) -> None:
        self._output = output
        self._file, self._format, self._layout = file, format, layout
        self._done = 0

    def write(self, rows: Pixels) -> None:
        assert rows.shape[1:] == (self._layout.width, self._layout.channels), rows.shape
        assert rows.dtype == (np.uint8 if self._layout.depth == 8 else np.uint16), rows.dtype
        self._done += len(rows)
        assert self._done <= self._layout.height, "more rows than the layout has"
        if len(rows):
            with writing_errors(self._output, self._format):
                self.stream.write(rows)

    def write_all(self, rows: Iterable[Pixels]) -> None:
        for block in rows:
            self.write(block)

    def finish(self) -> None:
        assert self._done == self._layout.height, f"{self._done} of {self._layout.height} rows were written"
        self.stream.finish()
        self._file.flush()


@contextmanager
def writing_errors(output: Path | BinaryIO, format: Format) -> Iterator[None]:
    """Raises OutputError for a full disk and for what the format cannot hold after all."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # Pillow's own
            raise OutputError(
                f"{name_of(output)} cannot be written as {format.name}: {error}.", "Write a .png."
            ) from error
        raise OutputError(
            f"{name_of(output)} cannot be written: {reason(error)}.", "Free space, or choose another output."
        ) from error
    except EncodingError as error:
        raise OutputError(f"{name_of(output)} cannot be written as {format.name}: {error}.", "Write a .png.") from error


def _kept(metadata: Metadata, layout: Layout, format: Format, options: SaveOptions) -> Metadata:
    if options.strip:
        return Metadata(icc=metadata.icc)
    return keepable(of_size(metadata, layout.height, layout.width), format)[0]


def _stream(
    file: BinaryIO, format: Format, layout: Layout, metadata: Metadata, text: Mapping[str, str], options: SaveOptions
) -> _Stream:
    if format.name == "PNG":
        return PngStream(file, layout, metadata, text, options.compression)
    if format.name == "TIFF":
        return TiffStream(file, layout, metadata, options.compression)
    return CollectedRows(file, format, layout, metadata, options)


@contextmanager
def destination(
    output: Path | BinaryIO, before_placing: Callable[[Path], None] | None, replace: bool
) -> Iterator[BinaryIO]:
    """A seekable file to write to, which becomes the output when the block ends well. Raises OutputError,
    RefusedOutputError, and BrokenPipeError where nobody reads a stream any more."""
    if isinstance(output, Path):
        with temporary_file(output) as temporary:
            with temporary.open("w+b") as file:
                yield file
            if before_placing is not None:
                before_placing(temporary)
            commit(temporary, output, replace)
        return
    with tempfile.TemporaryFile() as file:
        yield file
        file.seek(0)
        try:
            shutil.copyfileobj(file, output)
            output.flush()
        except BrokenPipeError:  # who read it has seen enough
            raise
        except OSError as error:
            raise OutputError(
                f"{name_of(output)} cannot be written: {reason(error)}.", "Free space, or choose another output."
            ) from error


def name_of(output: Path | BinaryIO) -> str:
    """What to call an output in a sentence."""
    return str(output if isinstance(output, Path) else getattr(output, "name", "the output"))


def write_image(
    output: Path,
    picture: ImageData,
    text: Mapping[str, str],
    options: SaveOptions | None = None,
    format: Format | None = None,
    replace: bool = True,
) -> None:
    """Write a picture in a format, or that of the suffix, whole or not at all; 16 bits as 8 where it has only these.

    Raises OutputError, and RefusedOutputError where the format cannot hold it, or something is there without
    ``replace``."""
    chosen = format or choose_format(output)
    layout, _ = fit(picture.layout, chosen)
    with open_writer(output, chosen, layout, picture.metadata, text, options, replace=replace) as writer:
        writer.write_all(_bands(picture, layout))


def _bands(picture: ImageData, layout: Layout) -> Iterator[Pixels]:
    """The rows of a picture, some megabytes at a time, of the depth of the layout."""
    step = max(1, BAND_BYTES // layout.row_bytes)
    for top in range(0, layout.height, step):
        rows = slice(top, top + step)
        alpha = None if picture.alpha is None else picture.alpha[rows]
        channels = ImageData(picture.rgb[rows], alpha, picture.grey).channels()
        yield to_8_bits(channels) if layout.depth == 8 else channels
