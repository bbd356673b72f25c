"""Maps as files: drawn while the result's rows go by, or once routing is known."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pcsr_cli.engine.routing_map import RoutingMap
from pcsr_cli.errors import RefusedOutputError, UsageError
from pcsr_cli.files import put_in_place, written_whole
from pcsr_cli.grid import nearest_index
from pcsr_cli.maps.drawing import as_16_bit, coloured, mask, tinted
from pcsr_cli.maps.legend import difficulty_legend, shares_height, shares_legend
from pcsr_cli.pictures.formats import choose_format
from pcsr_cli.pictures.picture import Layout, Levels, to_8_bits
from pcsr_cli.pictures.writing import PictureWriter, open_writer

Style = Literal["overlay", "mask", "difficulty", "data"]
BAND = 256
"""Rows drawn at once."""


@dataclass(frozen=True)
class MapRequest:
    """Where a map goes, and what it shows: the result tinted, branches, p_heavy in colours or as data; whether what is
    there may be replaced."""

    output: Path
    style: Style
    replace: bool = False


def request_map(output: Path, style: Style | None, replace: bool = False) -> MapRequest:
    """The map asked for; by default an overlay, and of a .npy the numbers. Raises RefusedOutputError, UsageError."""
    suffix = output.suffix.lower()
    if suffix == ".npy":
        if style not in {None, "data"}:
            raise UsageError(
                f"A .npy file holds p_heavy as numbers, not the style {style}.", "Write a .png, or leave it out."
            )
        return MapRequest(output, "data", replace)
    if suffix != ".png":
        raise RefusedOutputError(
            f"A map is not written as {output.name!r}.", "Use .png, or .npy for p_heavy as numbers."
        )
    return MapRequest(output, style or "overlay", replace)


class MapDrawing:
    """A map in the making: takes the rows of the result as they are written."""

    def __init__(self, request: MapRequest, routed: RoutingMap, layout: Layout) -> None:
        self.request = request
        self.routed = routed
        self.layout = layout
        self.writer: PictureWriter | None = None
        self.done = 0

    def write(self, rows: Levels) -> None:
        """The next rows of the result, (n, W, 1 to 4), of which an overlay shows the colours."""
        if self.request.style != "overlay":
            return
        assert self.writer is not None
        labels = self._labels(self.done, self.done + len(rows))
        self.done += len(rows)
        colour = to_8_bits(rows[..., : 1 if self.layout.grey else 3])
        if self.layout.grey:
            colour = np.repeat(colour, 3, axis=2)
        self.writer.write(tinted(colour, labels, self.routed.branches))

    def _labels(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Branches of some rows of the result; of a reduced one, those of the nearest pixels that were routed."""
        labels = self.routed.labels
        size = (self.layout.height, self.layout.width)
        if tuple(labels.shape) == size:
            return labels[start:stop].numpy()
        rows = nearest_index(labels.shape[0], size[0], torch.arange(start, stop))
        columns = nearest_index(labels.shape[1], size[1], torch.arange(size[1]))
        return labels[rows[:, None], columns].numpy()


@contextmanager
def open_map(request: MapRequest, routed: RoutingMap, layout: Layout) -> Iterator[MapDrawing]:
    """A map of a result of this layout, which takes its rows; written whole when the block ends well, else not at all.

    ``routed`` has to be complete by then, and of each row before it comes. Raises OutputError, RefusedOutputError.
    """
    drawing = MapDrawing(request, routed, layout)
    height, width = routed.labels.shape
    if request.output.suffix.lower() == ".npy":
        yield drawing
        _save_numbers(request, routed)
        return
    if request.style == "overlay":
        room = shares_height(layout.width, routed.branches, any(routed.forced))
        with _png(request, Layout(layout.height + room, layout.width)) as drawing.writer:
            yield drawing
            drawing.writer.write(shares_legend(layout.width, routed.branch_pixels, routed.forced, room))
        return
    yield drawing
    difficulty, labels = routed.difficulty.numpy(), routed.labels.numpy()
    if request.style == "mask":
        _draw(request, Layout(height, width, grey=True), lambda part: mask(labels[part], routed.branches)[..., None])
    elif request.style == "data":
        _draw(request, Layout(height, width, True, depth=16), lambda part: as_16_bit(difficulty[part])[..., None])
    else:
        legend = difficulty_legend(width, routed.cuts)
        _draw(request, Layout(height + len(legend), width), lambda part: coloured(difficulty[part]), height, legend)


@contextmanager
def _png(request: MapRequest, layout: Layout) -> Iterator[PictureWriter]:
    with open_writer(request.output, choose_format(request.output), layout, replace=request.replace) as writer:
        yield writer


def _draw(
    request: MapRequest,
    layout: Layout,
    draw: Callable[[slice], Levels],
    height: int | None = None,
    legend: NDArray[np.uint8] | None = None,
) -> None:
    """Write a map band by band, its legend below."""
    rows = layout.height if height is None else height
    with _png(request, layout) as writer:
        for top in range(0, rows, BAND):
            writer.write(draw(slice(top, min(top + BAND, rows))))
        if legend is not None:
            writer.write(legend)


def _save_numbers(request: MapRequest, routed: RoutingMap) -> None:
    with written_whole(request.output) as temporary:
        with temporary.open("wb") as file:
            np.save(file, routed.difficulty.numpy())
        put_in_place(temporary, request.output, request.replace)
