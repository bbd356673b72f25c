"""Write image files from blocks of rows. A file is complete or absent."""

import io
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pcsr_cli.errors import OutputError
from pcsr_cli.images.containers import jpeg_segments
from pcsr_cli.images.exif import PREFIX
from pcsr_cli.images.files import cannot_write, commit, temporary_file
from pcsr_cli.images.formats import PNG, Format, SaveOptions, choose_format, fit, holds_profile, keepable, load_plug_in
from pcsr_cli.images.image import ImageData, Layout, Metadata, Pixels, to_8_bits
from pcsr_cli.images.metadata import resize_metadata
from pcsr_cli.images.modes import as_pil, to_srgb
from pcsr_cli.images.png import PngEncoder, text_chunks
from pcsr_cli.images.tiff import write_tiff

BAND_BYTES = 2**24
JFIF_DENSITY = slice(13, 18)
"""The place of the unit and the resolution (x, y) in a JPEG."""

MAX_SOFTWARE = 350
"""Maximum characters of the software in the EXIF. A JPEG must hold these characters besides the other EXIF."""

ENCODING_ERRORS = (ValueError, struct.error, SyntaxError, RuntimeError)
"""Exceptions of Pillow, besides OSError, for images that a format cannot hold."""


@contextmanager
def open_writer(
    output: Path | BinaryIO,
    format: Format,
    layout: Layout,
    metadata: Metadata | None = None,
    text: Mapping[str, str] | None = None,
    options: SaveOptions | None = None,
    before_commit: Callable[[Path], None] | None = None,
    replace: bool = True,
) -> Iterator["FileWriter"]:
    """Open a writer for one image. The file gets its name when the block ends. After an error, the file is removed.

    ``layout`` comes from ``fit``. The sizes in ``metadata`` are updated. A PNG stores ``text`` as text chunks. Other
    formats store ``text`` in the EXIF tag Software. PNG and TIFF are written row by row. Formats other than PNG and
    TIFF are encoded at the end. An output stream gets the whole file at the end. ``before_commit`` is called with the
    finished file under its temporary name. Without ``replace`` an existing file is never replaced. Raises OutputError,
    RefusedOutputError."""
    assert fit(layout, format)[0] == layout, "call fit() before computing"
    options = options or SaveOptions()
    kept = kept_metadata(metadata or Metadata(), layout.height, layout.width, format, options, text)
    with open_destination(output, before_commit, replace) as file:
        writer = FileWriter(file, output, format, layout, kept, options)
        yield writer
        writer.finish()


class FileWriter:
    """Writes the rows of an image from the top. Call ``write_all`` once or, for a PNG, ``write`` for each block.

    Blocks of rows are (n, W, C) with the channels and the depth of the layout. Callers must not change the blocks
    later."""

    def __init__(
        self,
        file: BinaryIO,
        output: Path | BinaryIO,
        format: Format,
        layout: Layout,
        metadata: Metadata,
        options: SaveOptions,
    ) -> None:
        self._file, self._output, self._format, self._layout = file, output, format, layout
        self._metadata, self._options = metadata, options
        self._done = 0
        self._png: PngEncoder | None = None
        if format.name == "PNG":
            with writing_errors(output, format):
                self._png = PngEncoder(file, layout, metadata, options.compression)

    def write(self, rows: Pixels) -> None:
        """Write the next block of a PNG. Raises OutputError."""
        assert self._png is not None, "only a PNG can be written block by block"
        self.write_all((rows,))

    def write_all(self, rows: Iterable[Pixels]) -> None:
        """Write all blocks of rows. Raises OutputError, and exceptions of ``rows`` unchanged."""
        failure: BaseException | None = None

        def checked() -> Iterator[Pixels]:
            nonlocal failure
            try:
                for block in rows:
                    self._check(block)
                    yield block
            except BaseException as error:
                failure = error
                raise

        with writing_errors(self._output, self._format, lambda error: error is failure):
            if self._png is not None:
                for block in checked():
                    self._png.write(block)
            elif self._format.name == "TIFF":
                write_tiff(self._file, self._layout, checked(), self._metadata, self._options.compression)
            else:
                pixels = np.empty((self._layout.height, self._layout.width, self._layout.channels), np.uint8)
                for block in checked():
                    pixels[self._done - len(block) : self._done] = block
                encode_with_pillow(self._file, [as_pil(pixels)], self._format, self._metadata, self._options)

    def _check(self, rows: Pixels) -> None:
        assert rows.shape[1:] == (self._layout.width, self._layout.channels), rows.shape
        assert rows.dtype == (np.uint8 if self._layout.depth == 8 else np.uint16), rows.dtype
        self._done += len(rows)
        assert self._done <= self._layout.height, "more rows than the layout has"

    def finish(self) -> None:
        """Complete the file after all rows. Raises OutputError."""
        assert self._done == self._layout.height, f"{self._done} of {self._layout.height} rows were written"
        with writing_errors(self._output, self._format):
            if self._png is not None:
                self._png.finish()
            self._file.flush()


def kept_metadata(
    metadata: Metadata,
    height: int,
    width: int,
    format: Format,
    options: SaveOptions,
    text: Mapping[str, str] | None = None,
) -> Metadata:
    """Return the metadata for a file of this format and size. With ``strip``, only the profile is kept.

    A PNG stores ``text`` with the text of ``metadata``. Other formats store ``text`` in the EXIF tag Software."""
    if options.strip:
        return keepable(metadata.stripped(), format)[0]
    kept, text = keepable(metadata, format)[0], text or {}
    if format is PNG:
        return resize_metadata(replace(kept, text=(*kept.text, *text.items())), height, width)
    software = ", ".join(f"{key.partition(':')[2]} {value}".strip() for key, value in text.items())[:MAX_SOFTWARE]
    is_converted = kept.icc is not None and not holds_profile(format, kept.icc)
    if "exif" not in format.metadata:
        return resize_metadata(kept, height, width)
    dpi = metadata.dpi if kept.dpi is None else None
    return resize_metadata(kept, height, width, software or None, dpi, is_converted)


def encode_with_pillow(
    file: BinaryIO,
    images: list[Image.Image],
    format: Format,
    metadata: Metadata,
    options: SaveOptions,
    **timing: object,
) -> None:
    """Write an image, or the frames of an animation with Pillow's options for ``timing``.

    ``metadata`` comes from ``kept_metadata``. If the format cannot hold the profile, the colours are converted to sRGB.
    Raises OSError and ENCODING_ERRORS."""
    load_plug_in(format)
    described = _metadata_options(format, metadata)
    if metadata.icc is not None and "icc_profile" not in described:
        images = [to_srgb(image, metadata.icc) or image for image in images]
    if format.max_colours is not None:
        images = [_reduce_colours(image, format.max_colours) for image in images]
    if len(images) > 1:
        timing = {**timing, "append_images": images[1:]}
    encoded = io.BytesIO()  # if Pillow writes to the file itself, it does not report a full disk
    images[0].save(encoded, format.pillow, **described, **_encoder_options(format, options), **timing)
    if format.name == "JPEG" and metadata.aspect is not None and metadata.dpi is None:
        encoded.getbuffer()[JFIF_DENSITY] = struct.pack(">BHH", 0, *metadata.aspect)
    file.write(encoded.getbuffer())


def _metadata_options(format: Format, metadata: Metadata) -> dict[str, object]:
    comment = "\n".join(text for key, text in metadata.text if key == "Comment").encode()
    described: dict[str, object | None] = {
        "icc_profile": metadata.icc if metadata.icc is not None and holds_profile(format, metadata.icc) else None,
        "exif": None if metadata.exif is None else PREFIX + metadata.exif,
        "xmp": metadata.xmp,
        "dpi": metadata.dpi,
        "comment": comment or None,
    }
    if format is PNG:  # an animation
        described["pnginfo"] = chunks = PngInfo()
        for kind, content in text_chunks(metadata):
            chunks.add(kind, content)
    if format.name == "JPEG":
        described["extra"] = jpeg_segments(metadata)
    return {name: value for name, value in described.items() if value is not None}


def _reduce_colours(image: Image.Image, colours: int) -> Image.Image:
    """Convert an image to a palette. Pixels that are more transparent than opaque get the last colour, which is
    transparent."""
    if image.mode == "L":
        return image
    if image.mode == "RGB":
        return image.quantize(colours)
    clear = image.getchannel("A").point([255] * 128 + [0] * 128)
    reduced = image.convert("RGB").quantize(colours - 1)
    reduced.paste(colours - 1, mask=clear)
    reduced.info["transparency"] = colours - 1
    return reduced


def _encoder_options(format: Format, options: SaveOptions) -> dict[str, object]:
    quality = options.quality or format.quality
    match format.name:
        case "JPEG":
            return {"quality": quality, "subsampling": 0}
        case "WebP":
            # "exact" keeps the colours under transparent pixels, which a later upscale may read.
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


@contextmanager
def writing_errors(
    output: Path | BinaryIO, format: Format, is_foreign: Callable[[BaseException], bool] = lambda _: False
) -> Iterator[None]:
    """Turn errors of the disk and the encoder into OutputError, except those for which ``is_foreign`` is true."""
    try:
        yield
    except (OSError, *ENCODING_ERRORS) as error:
        if is_foreign(error):
            raise
        if isinstance(error, OSError) and error.errno is not None:
            raise cannot_write(output_name(output), error) from error
        problem = f"{output_name(output)} cannot be written as {format.name}: {error}."
        raise OutputError(problem, "Write a .png.") from error


@contextmanager
def open_destination(
    output: Path | BinaryIO, before_commit: Callable[[Path], None] | None, replace: bool
) -> Iterator[BinaryIO]:
    """Yield a seekable file that becomes the output when the block ends.

    Raises OutputError, RefusedOutputError, and BrokenPipeError if the reader of a stream has closed it."""
    if isinstance(output, Path):
        with temporary_file(output) as temporary:
            file: BinaryIO = temporary.open("w+b")
            try:
                yield file
            except BaseException:
                with suppress(OSError):  # closing writes the rest of a small file, which would fail again
                    file.close()
                raise
            try:
                file.close()
            except OSError as error:
                raise cannot_write(output, error) from error
            if before_commit is not None:
                before_commit(temporary)
            commit(temporary, output, replace)
        return
    with _temporary_stream() as file:
        yield file
        file.seek(0)
        try:
            shutil.copyfileobj(file, output)
            output.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise cannot_write(output_name(output), error) from error


def _temporary_stream() -> BinaryIO:
    """Open a temporary file, or memory if no folder for temporary files can be written."""
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return io.BytesIO()


def output_name(output: Path | BinaryIO) -> str:
    """Return the name of an output for messages."""
    return str(output if isinstance(output, Path) else getattr(output, "name", "the output"))


def write_image(
    output: Path,
    image: ImageData,
    text: Mapping[str, str] | None = None,
    options: SaveOptions | None = None,
    replace: bool = True,
) -> None:
    """Write an image in the format of the suffix. Pixels of 16 bits are rounded to 8 bits if the format
    holds only 8.

    Raises OutputError, and RefusedOutputError if the format cannot hold the image or, without ``replace``, if the
    output exists."""
    format = choose_format(output)
    layout, _ = fit(image.layout, format)
    with open_writer(output, format, layout, image.metadata, text, options, replace=replace) as writer:
        writer.write_all(_blocks(image, layout))


def _blocks(image: ImageData, layout: Layout) -> Iterator[Pixels]:
    """Yield the rows of an image in blocks of some megabytes, in the depth of the layout."""
    step = max(1, BAND_BYTES // layout.row_bytes)
    for top in range(0, layout.height, step):
        rows = slice(top, top + step)
        alpha = None if image.alpha is None else image.alpha[rows]
        channels = ImageData(image.rgb[rows], alpha, image.grey).channels()
        yield to_8_bits(channels) if layout.depth == 8 else channels
