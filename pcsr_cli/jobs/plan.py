"""What an upscale would take, told before it is done: sizes, tiles, memory, FLOPs, time and disk.

GFLOPs are exact for all pixels light and for all heavy; what a picture needs lies between. Memory and time are
estimates, and say so: memory an upper bound by the model in this file, time from the rate of a small tile."""

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch

from pcsr_cli.api import working_scale
from pcsr_cli.engine.device import LEVELS
from pcsr_cli.engine.grid import hr_size
from pcsr_cli.engine.memory import CPU_TILE_WIDTH, feature_budget
from pcsr_cli.engine.refine import usual_refine
from pcsr_cli.engine.routing import ALL_HEAVY, ALL_LIGHT, Adaptive, Budget, Routing
from pcsr_cli.engine.tiles import TilePlan
from pcsr_cli.engine.upscale import Settings, hr_pixel_bytes, plan_for, upscale_whole
from pcsr_cli.images.files import is_folder
from pcsr_cli.images.formats import Format, fit
from pcsr_cli.images.image import Layout
from pcsr_cli.model.flops import GIGA, Executed, executed_flops, model_costs, paper_flops
from pcsr_cli.model.network import Pcsr
from pcsr_cli.model.registry import LoadedModel

WORKSPACE = 320 * 2**20
"""Bytes that bands, tables and chunks take at most on a CPU, as measured of CARN, the widest model we know."""

SURVEY = 32 * 2**20
"""Bytes that ADM remembers of a picture's difficulties, at most."""

DECODED_BYTES = 4
"""What Pillow holds of an 8-bit pixel beside the arrays made of it."""

PROBE = (48, 192)
"""LR pixels of the tile whose rate is measured: some tenths of a second on a slow machine."""


@dataclass(frozen=True)
class Range:
    """A figure with all pixels light, and with all heavy."""

    light: float
    heavy: float

    def __add__(self, other: "Range") -> "Range":
        return Range(self.light + other.light, self.heavy + other.heavy)


@dataclass(frozen=True)
class Rate:
    """Executed GFLOP/s on this machine as it is now, measured on one tile of noise."""

    gflops: Range


@dataclass(frozen=True)
class Disk:
    """The room at a folder: bytes ``free``, and the most that the result can take."""

    folder: Path
    free: int
    most: int

    @property
    def enough(self) -> bool:
        """Whether even the largest file fits."""
        return self.free >= self.most


@dataclass(frozen=True)
class Forecast:
    """What one picture will take. ``result`` is what the file will hold, in ``format`` if that is known.

    GFLOPs are by the paper's convention and as executed; ``memory`` is an upper bound of bytes at the peak,
    ``seconds`` of computing an estimate."""

    source: Path
    picture: Layout
    result: Layout
    format: Format | None
    plan: TilePlan
    passes: int
    paper: Range
    executed: Range
    memory: int
    seconds: Range
    most_bytes: int
    notes: tuple[str, ...]


def measure_rate(model: LoadedModel, scale: float) -> Rate:
    """How fast the machine runs this model, light and heavy: a second or so, warm-up included."""
    costs = model_costs(model.network)
    lr = torch.rand(1, 3, *PROBE, generator=torch.Generator().manual_seed(0))

    def gflops(routing: Routing, part: torch.Tensor) -> float:
        started = time.perf_counter()
        _, _, outcome = upscale_whole(model.network, part, scale, Settings(routing, refine=usual_refine(scale)))
        return executed_flops(costs, outcome.executed) / GIGA / (time.perf_counter() - started)

    gflops(ALL_HEAVY, lr[:, :, :8])
    return Rate(Range(gflops(ALL_LIGHT, lr), gflops(ALL_HEAVY, lr)))


def forecast(
    source: Path,
    picture: Layout,
    model: LoadedModel,
    scale: float,
    settings: Settings,
    rate: Rate,
    format: Format | None = None,
) -> Forecast:
    """What a picture of a layout will take. Raises ScaleError, and RefusedOutputError if ``format`` cannot hold it."""
    at = working_scale(model, scale)
    lr_size = (picture.height, picture.width)
    size, painted = hr_size(lr_size, scale), hr_size(lr_size, at)
    result = replace(picture, height=size[0], width=size[1])
    notes: tuple[str, ...] = ()
    if format is not None:
        result, notes = fit(result, format)
    pixel_bytes = hr_pixel_bytes(torch.float32 if painted != size else LEVELS[result.depth])
    plan = plan_for(model.network, lr_size, at, settings, pixel_bytes)
    passes = 2 if isinstance(settings.routing, Adaptive | Budget) else 1
    kept = _kept_features(model.network, plan, settings) if passes > 1 else 0
    executed = _executed(model.network, plan, passes, bool(kept))
    return Forecast(
        source=source,
        picture=picture,
        result=result,
        format=format,
        plan=plan,
        passes=passes,
        paper=_paper(model.network, plan),
        executed=executed,
        memory=_memory(model.network, picture, result, format, plan, pixel_bytes, kept, passes),
        seconds=Range(executed.light / rate.gflops.light, executed.heavy / rate.gflops.heavy),
        most_bytes=_most_bytes(result),
        notes=notes,
    )


def look_at_disk(folder: Path, most: int) -> Disk:
    """The room at a folder, or at the nearest one above it that exists."""
    there = next(place for place in (folder, *folder.absolute().parents) if is_folder(place))
    return Disk(folder, shutil.disk_usage(there).free, most)


def _paper(network: Pcsr, plan: TilePlan) -> Range:
    costs = model_costs(network)
    others = (0,) * (len(costs.branches) - 1)
    light = paper_flops(costs, plan.lr_pixels, (plan.hr_pixels, *others))
    return Range(light / GIGA, paper_flops(costs, plan.lr_pixels, (*others, plan.hr_pixels)) / GIGA)


def _executed(network: Pcsr, plan: TilePlan, passes: int, kept: bool) -> Range:
    """GFLOPs as executed, but for the rows that bands compute twice."""
    costs = model_costs(network)
    seen = sum(tile.seen.area for tile in plan.tiles)
    sampled = sum(tile.sampled.area for tile in plan.tiles)
    predicted = sum(tile.region.area for tile in plan.tiles)
    others = (0,) * (len(costs.branches) - 1)
    first = Executed(backbone=0 if kept else seen, classifier_shared=sampled, classifier=plan.hr_pixels)
    last = Executed(seen, sampled, predicted, sampled)
    both = last + first if passes > 1 else last
    light, heavy = (replace(both, branches=part) for part in ((predicted, *others), (*others, predicted)))
    return Range(executed_flops(costs, light) / GIGA, executed_flops(costs, heavy) / GIGA)


def _kept_features(network: Pcsr, plan: TilePlan, settings: Settings) -> int:
    """Bytes of features kept between two passes; 0 where they are too many."""
    number = network.dtype.itemsize * network.spec.backbone.width
    features = number * sum(tile.sampled.area for tile in plan.tiles)
    return features if features <= feature_budget(network.device, settings.memory) else 0


def _memory(
    network: Pcsr,
    picture: Layout,
    result: Layout,
    format: Format | None,
    plan: TilePlan,
    pixel_bytes: int,
    kept: int,
    passes: int,
) -> int:
    """An upper bound of the machine's memory at the peak, in bytes.

    It is what this process holds already (Python, PyTorch as it is installed here, the model, what the trial of its
    rate left behind), the picture, a strip of the result, and the most that bands take of any model we know. Reading
    holds the picture twice; a format that cannot be streamed holds all of the result."""
    pixels = picture.height * picture.width
    read = pixels * (3 + picture.alpha) * picture.depth // 8
    decoding = 2 * read + DECODED_BYTES * pixels
    strip = max(rows.length for rows in plan.strips) * plan.hr_size[1] * pixel_bytes
    wide = max(tile.seen.columns.length for tile in plan.tiles) / CPU_TILE_WIDTH
    working = int(WORKSPACE * max(1.0, wide)) if network.device.type == "cpu" else 0
    collected = 0 if format is None or format.streamed else 2 * result.height * result.row_bytes
    computing = read + strip + working + kept + (SURVEY if passes > 1 else 0) + collected
    here: int = psutil.Process().memory_info().rss
    return here + max(decoding, computing)


def _most_bytes(result: Layout) -> int:
    """More than any of our formats takes: the pixels as they are, what packing can add, metadata."""
    return int(1.001 * result.height * (result.row_bytes + 1)) + 2**20
