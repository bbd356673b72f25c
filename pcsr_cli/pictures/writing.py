"""Results on disk: rows handed over from top to bottom, a file that is there whole or not at all."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from pcsr_cli.errors import OutputError
from pcsr_cli.files import put_in_place, reason, temporary_beside
from pcsr_cli.pictures.collected import CollectedRows, EncodingError
from pcsr_cli.pictures.formats import Format, SaveOptions, choose_format, fit, keepable
from pcsr_cli.pictures.metadata import of_size
from pcsr_cli.pictures.picture import Layout, Levels, Metadata, Picture, to_8_bits
from pcsr_cli.pictures.png_stream import PngStream
from pcsr_cli.pictures.tiff_stream import TiffStream

BAND_BYTES = 2**24


class PictureWriter(Protocol):
    """Takes the rows of a picture from top to bottom, each once."""

    def write(self, rows: Levels) -> None:
        """The next rows, (n, W, C), of the channels and the depth of the layout, the writer's own from now on.

        Raises OutputError."""
        ...


class _Stream(Protocol):
    def write(self, rows: Levels) -> None: ...

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
) -> Iterator[PictureWriter]:
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
        with writing_told(output, format):
            writer.stream = _stream(file, format, layout, kept, said, chosen)
        yield writer
        with writing_told(output, format):
            writer.finish()


class _Writer:
    """Counts rows, and turns what can go wrong in writing them into sentences."""

    stream: _Stream

    def __init__(self, output: Path | BinaryIO, file: BinaryIO, format: Format, layout: Layout) -> None:
        self._output = output
        self._file, self._format, self._layout = file, format, layout
        self._done = 0

    def write(self, rows: Levels) -> None:
        assert rows.shape[1:] == (self._layout.width, self._layout.channels), rows.shape
        assert rows.dtype == (np.uint8 if self._layout.depth == 8 else np.uint16), rows.dtype
        self._done += len(rows)
        assert self._done <= self._layout.height, "more rows than the layout has"
        if len(rows):
            with writing_told(self._output, self._format):
                self.stream.write(rows)

    def finish(self) -> None:
        assert self._done == self._layout.height, f"{self._done} of {self._layout.height} rows were written"
        self.stream.finish()
        self._file.flush()


@contextmanager
def writing_told(output: Path | BinaryIO, format: Format) -> Iterator[None]:
    """Raises OutputError for a full disk and for what the format cannot hold after all."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # Pillow's own
            raise OutputError(
                f"{name_of(output)} cannot be written as {format.name}: {error}.", "Write a .png."
            ) from error
        raise OutputError(
            f"{name_of(output)} cannot be written: {reason(error)}.", "Free space, or choose another."
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
        with temporary_beside(output) as temporary:
            with temporary.open("w+b") as file:
                yield file
            if before_placing is not None:
                before_placing(temporary)
            put_in_place(temporary, output, replace)
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
                f"{name_of(output)} cannot be written: {reason(error)}.", "Free space, or choose another."
            ) from error


def name_of(output: Path | BinaryIO) -> str:
    """What to call an output in a sentence."""
    return str(output if isinstance(output, Path) else getattr(output, "name", "the output"))


def write_picture(
    output: Path,
    picture: Picture,
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
        step = max(1, BAND_BYTES // layout.row_bytes)
        for top in range(0, layout.height, step):
            rows = _band(picture, top, top + step)
            writer.write(to_8_bits(rows) if layout.depth == 8 else rows)


def _band(picture: Picture, start: int, stop: int) -> Levels:
    alpha = None if picture.alpha is None else picture.alpha[start:stop]
    return Picture(picture.rgb[start:stop], alpha, picture.grey).channels()
