"""What a page holds: provenance, pictures with their previews and curves, and the tables of a bench."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from pcsr_cli.documents import finite
from pcsr_cli.maps.colours import TINT, difficulty_colours
from pcsr_cli.measuring.bench import Row
from pcsr_cli.measuring.pairs import LeftOut
from pcsr_cli.measuring.sweep import Curve, Grid, Point, mean_curve
from pcsr_cli.models import Identity
from pcsr_cli.pages.previews import Boundaries, Preview


@dataclass(frozen=True)
class PagePicture:
    """One picture: sizes are (width, height), LR and HR; ``bicubic`` is bicubic's PSNR in dB, None without an HR."""

    name: str
    lr_size: tuple[int, int]
    size: tuple[int, int]
    previews: tuple[Preview, ...]
    boundaries: Boundaries
    curve: Curve
    bicubic: float | None


@dataclass(frozen=True)
class Made:
    """How a page came about: all that is needed to make it again."""

    command: str
    model: Identity
    parameters: int
    scale: float
    refine: int
    luma: bool
    no_reference: bool
    grid: Grid
    device: str
    precision: str
    versions: str

    @property
    def quality(self) -> str:
        """What PSNR means here."""
        return f"PSNR of {'luma' if self.luma else 'RGB'} against {'all heavy' if self.no_reference else 'HR'}"


@dataclass(frozen=True)
class Page:
    """A page: pictures over one grid of cuts, those left out, and the rows of a bench where there was one."""

    made: Made
    pictures: tuple[PagePicture, ...]
    left_out: tuple[LeftOut, ...] = ()
    rows: tuple[Row, ...] = ()
    mean: tuple[Row, ...] = ()

    def as_document(self) -> dict[str, Any]:
        """All that the page's script needs, JSON-ready; numbers that are not finite are null."""
        curves = [picture.curve for picture in self.pictures]
        document = {
            "grid": {"kind": self.made.grid.kind, "values": list(self.made.grid.values)},
            "start": _start(curves[0].points),
            "colours": "".join(f"{red:02x}{green:02x}{blue:02x}" for red, green, blue in difficulty_colours()),
            "tint": list(TINT),
            "reference": "all heavy" if self.made.no_reference else "HR",
            "pictures": [_describe_picture(picture) for picture in self.pictures],
            "mean": _describe_curve(mean_curve(curves)),
            "mean_bicubic": _mean([picture.bicubic for picture in self.pictures]),
        }
        told: dict[str, Any] = finite(document)
        return told


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean, None unless all are known."""
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _start(points: Sequence[Point]) -> int:
    """Where the handle stands at first: the cut nearest to the default, 0.5."""
    cuts = [point_cut(point) for point in points]
    return min(range(len(cuts)), key=lambda index: abs(cuts[index] - 0.5))


def point_cut(point: Point) -> float:
    """The cut of a single picture's point, which always has one."""
    assert point.cut is not None
    return point.cut


def _describe_picture(picture: PagePicture) -> dict[str, Any]:
    boundaries = picture.boundaries
    return {
        "name": readable(picture.name),
        "lrSize": list(picture.lr_size),
        "size": list(picture.size),
        "bicubic": picture.bicubic,
        "boundaries": list(boundaries.values),
        "cutLevels": [boundaries.index(point_cut(point)) for point in picture.curve.points],
        "previews": [asdict(preview) for preview in picture.previews],
        "curve": _describe_curve(picture.curve),
    }


def _describe_curve(curve: Curve) -> dict[str, Any]:
    knee = curve.knee
    return {
        "points": [asdict(point) for point in curve.points],
        "light": asdict(curve.light),
        "heavy": asdict(curve.heavy),
        "adm": asdict(curve.adm),
        "knee": curve.points.index(knee) if knee is not None else None,
        "original": None if curve.original is None else asdict(curve.original),
    }


def readable(name: str) -> str:
    """A file's name as text, whatever bytes it is made of."""
    return name.encode("utf-8", "replace").decode("utf-8")
