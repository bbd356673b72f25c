"""The tile plan: geometry without pixel data.

The LR image is cut into tiles. A tile owns the HR pixels whose nearest LR pixel it contains, so the tiles' HR pixels
partition the result. A ring of HR pixels for refinement surrounds the HR pixels of a tile. A halo for the backbone
surrounds the LR pixels that the region with the ring needs. The ring and the halo end at the image's borders, where the
backbone pads as it does for the whole image.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial

from pcsr_cli.engine.grid import first_hr_index, hr_size, nearest_index


@dataclass(frozen=True)
class Span:
    """Pixels ``start``..``stop`` along one side."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """Number of pixels."""
        return self.stop - self.start

    def grown(self, by: int, limit: int) -> "Span":
        """The span extended by ``by`` at both ends, clipped to 0..limit."""
        return Span(max(0, self.start - by), min(limit, self.stop + by))

    def intersection(self, other: "Span") -> "Span":
        """The common pixels; a span of length 0 if there are none."""
        start = max(self.start, other.start)
        return Span(start, max(start, min(self.stop, other.stop)))

    def within(self, outer: "Span") -> slice:
        """The position of this span inside ``outer``, as a slice."""
        return slice(self.start - outer.start, self.stop - outer.start)


@dataclass(frozen=True)
class Rect:
    """A rectangle of pixels."""

    rows: Span
    columns: Span

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.rows.length * self.columns.length

    def within(self, outer: "Rect") -> tuple[slice, slice]:
        """The position of this rectangle inside ``outer``, as row and column slices."""
        return self.rows.within(outer.rows), self.columns.within(outer.columns)

    @property
    def slices(self) -> tuple[slice, slice]:
        """The position of this rectangle in the image, as row and column slices."""
        return slice(self.rows.start, self.rows.stop), slice(self.columns.start, self.columns.stop)


@dataclass(frozen=True)
class Tile:
    """One tile of an image.

    ``owned`` holds the LR pixels of the tile, and ``core`` the HR pixels nearest to ``owned``. ``sampled`` holds the LR
    pixels that the core and its refinement ring touch. ``region`` holds the HR pixels nearest to ``sampled``, which the
    tile predicts. ``input`` holds the LR pixels that the backbone reads: ``sampled`` with the halo.
    """

    owned: Rect
    core: Rect
    region: Rect
    sampled: Rect
    input: Rect

    @property
    def half(self) -> tuple[int, int]:
        """Half of the height and of the width in LR pixels, rounded up."""
        return -(-self.owned.rows.length // 2), -(-self.owned.columns.length // 2)


@dataclass(frozen=True)
class TilePlan:
    """All tiles of an image, row by row. ``lr_size`` and ``hr_size`` are the (height, width) of the whole image.
    ``exact`` stands for positions in float64.

    ``halo`` is None if the backbone reads the whole image. The features of the image are then computed once.
    """

    lr_size: tuple[int, int]
    hr_size: tuple[int, int]
    tiles: tuple[Tile, ...]
    halo: int | None
    ring: int
    exact: bool = False

    def hr_rows(self, lr_rows: Span) -> Span:
        """The HR rows whose nearest LR row is among ``lr_rows``."""
        return _hr_span(lr_rows, self.lr_size[0], self.hr_size[0])

    @cached_property
    def strips(self) -> tuple[Span, ...]:
        """The HR rows of each row of tiles, from the top."""
        return tuple(dict.fromkeys(tile.core.rows for tile in self.tiles))

    def cut(self, tile: Tile, largest: tuple[int, int]) -> tuple[Tile, ...]:
        """Cut a tile into tiles of at most ``largest`` (height, width) LR pixels."""
        return _cut(tile.owned, largest, self.lr_size, self.hr_size, self.halo, self.ring)

    @property
    def backbone_pixels(self) -> int:
        """Number of LR pixels that the backbone computes in one pass."""
        return self.lr_pixels if self.halo is None else sum(tile.input.area for tile in self.tiles)

    @property
    def lr_pixels(self) -> int:
        """Number of LR pixels."""
        return self.lr_size[0] * self.lr_size[1]

    @property
    def hr_pixels(self) -> int:
        """Number of HR pixels."""
        return self.hr_size[0] * self.hr_size[1]


def plan_tiles(
    lr_size: tuple[int, int],
    scale: float,
    tile: tuple[int, int],
    halo: int | None,
    ring: int,
    exact: bool = False,
) -> TilePlan:
    """Cut an LR image of (height, width) into nearly equal tiles of at most ``tile`` (height, width) LR pixels.

    ``halo`` is the backbone's receptive radius in LR pixels, ``ring`` the radius of refinement in HR pixels.
    """
    assert min(tile) >= 1 and halo != 0 and ring >= 0
    size = hr_size(lr_size, scale)
    whole = Rect(Span(0, lr_size[0]), Span(0, lr_size[1]))
    return TilePlan(lr_size, size, _cut(whole, tile, lr_size, size, halo, ring), halo, ring, exact)


@dataclass(frozen=True)
class _Side:
    """The rows or the columns of a tile."""

    owned: Span
    core: Span
    region: Span
    sampled: Span
    input: Span


def _cut(
    area: Rect, tile: tuple[int, int], lr_size: tuple[int, int], hr_size: tuple[int, int], halo: int | None, ring: int
) -> tuple[Tile, ...]:
    """Cut an area of LR pixels into tiles. Without a halo, the input has the pixels of the bilinear base only."""
    halo = halo or 1
    rows = tuple(_sides(area.rows, lr_size[0], hr_size[0], tile[0], halo, ring))
    columns = tuple(_sides(area.columns, lr_size[1], hr_size[1], tile[1], halo, ring))
    return tuple(
        Tile(
            owned=Rect(row.owned, column.owned),
            core=Rect(row.core, column.core),
            region=Rect(row.region, column.region),
            sampled=Rect(row.sampled, column.sampled),
            input=Rect(row.input, column.input),
        )
        for row in rows
        for column in columns
    )


def _sides(area: Span, lr_length: int, hr_length: int, tile: int, halo: int, ring: int) -> Iterator[_Side]:
    """Cut one side of an area into pieces of nearly equal length, at most ``tile`` LR pixels each."""
    count = -(-area.length // tile)
    edges = [area.start + area.length * index // count for index in range(count + 1)]
    owned = list(map(Span, edges, edges[1:]))
    cores = [_hr_span(each, lr_length, hr_length) for each in owned]
    sampled = _lr_spans([core.grown(ring, hr_length) for core in cores], lr_length, hr_length)
    regions = [_hr_span(each, lr_length, hr_length) for each in sampled]
    inputs = (each.grown(halo, lr_length) for each in sampled)
    return map(_Side, owned, cores, regions, sampled, inputs)


def _hr_span(lr: Span, lr_length: int, hr_length: int) -> Span:
    """The HR pixels whose nearest LR pixel is in a span."""
    return Span(*(first_hr_index(lr_length, hr_length, edge) for edge in (lr.start, lr.stop)))


def _lr_spans(hr: list[Span], lr_length: int, hr_length: int) -> list[Span]:
    """The LR pixels nearest to spans of HR pixels."""
    nearest = partial(nearest_index, lr_length, hr_length)
    return [Span(nearest(span.start), nearest(span.stop - 1) + 1) for span in hr]
