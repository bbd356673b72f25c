"""Forecast what an upscale takes: sizes, tiles, memory, FLOPs, time and disk space.

GFLOPs are exact for an image with all pixels light and for an image with all pixels heavy. Every other routing needs a
number of GFLOPs between these two. Memory is an upper bound, and time an estimate from the speed of one tile."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch

from pcsr_cli.api import working_scale
from pcsr_cli.engine.device import LEVELS
from pcsr_cli.engine.grid import hr_size
from pcsr_cli.engine.memory import CPU_TILE_WIDTH, feature_budget, strip_rows
from pcsr_cli.engine.rules import ALL_HEAVY, ALL_LIGHT, Adaptive, Budget, Routing, SingleBranch
from pcsr_cli.engine.tiles import TilePlan
from pcsr_cli.engine.upscale import BLOCK_BYTES, Settings, hr_pixel_bytes, keeps_difficulties, plan_for, upscale_whole
from pcsr_cli.images.files import is_folder
from pcsr_cli.images.formats import Format, fit
from pcsr_cli.images.image import Layout
from pcsr_cli.jobs.report import single_pass
from pcsr_cli.model.flops import GIGA, Executed, executed_flops, model_costs, paper_flops
from pcsr_cli.model.network import Pcsr
from pcsr_cli.model.registry import LoadedModel

WHOLE_MAPS = 6
"""Maximum number of feature maps of the whole image that BSRN holds at once."""

WORKSPACE = 320 * 2**20
"""Maximum bytes of bands, tables and chunks on a CPU, measured with CARN, the widest backbone."""

BLOCKS = 4
"""Maximum blocks of finished rows that wait to be written."""

SURVEY = 48 * 2**20
"""Maximum bytes of the difficulties that ADM and budgets store."""

DECODED_BYTES = 4
"""Bytes that Pillow holds for each 8-bit pixel, besides our arrays."""

TRIAL_PIXELS = 48 * 192
"""LR pixels of a trial tile on a CPU. A trial takes some tenths of a second on a slow machine."""

TRIAL_ROWS = 16
"""Minimum LR rows of a trial tile."""


@dataclass(frozen=True)
class Range:
    """A figure with all pixels light, and with all pixels heavy."""

    light: float
    heavy: float

    def __add__(self, other: "Range") -> "Range":
        return Range(self.light + other.light, self.heavy + other.heavy)


@dataclass(frozen=True)
class Disk:
    """Disk space of a folder in bytes: ``free``, and the maximum that the results take, ``most``."""

    folder: Path
    free: int
    most: int

    @property
    def enough(self) -> bool:
        """Whether the results fit at their maximum size."""
        return self.free >= self.most


@dataclass(frozen=True)
class Forecast:
    """The cost of upscaling one image. ``result`` is the layout of the result, in ``format`` if the format is known.

    ``paper`` and ``executed`` are GFLOPs (paper's count, and executed). ``memory`` is the upper bound of the peak in
    bytes. ``seconds`` estimates the computing time. ``most_bytes`` is the upper bound of the file."""

    source: Path
    image: Layout
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


def try_tile(model: LoadedModel, scale: float, images: Sequence[Layout], settings: Settings) -> Range:
    """Upscale one tile of noise, and return the speed in executed GFLOP/s.

    ``scale`` is the working scale. The tile has the size of the largest planned for ``images``. On a CPU, where the
    height of a tile does not change its memory, the trial tile has the planned width and few rows.

    Raises the errors of ``upscale`` if the device cannot compute the tile."""
    network, costs = model.network, model_costs(model.network)
    pixel_bytes = hr_pixel_bytes(torch.uint8)
    sizes = {(image.height, image.width) for image in images}
    seen = [tile.input for size in sizes for tile in plan_for(network, size, scale, settings, pixel_bytes).tiles]
    height, width = max(rect.rows.length for rect in seen), max(rect.columns.length for rect in seen)
    if network.device.type == "cpu":
        height = max(TRIAL_ROWS, TRIAL_PIXELS // width)
    lr = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))

    def gflops(routing: Routing, lr: torch.Tensor) -> float:
        trial = Settings(routing, refine=settings.refine, tile=max(height, width))
        started = time.perf_counter()
        _, _, outcome = upscale_whole(network, lr, scale, trial, torch.uint8)
        return executed_flops(costs, outcome.executed) / GIGA / (time.perf_counter() - started)

    gflops(ALL_HEAVY, lr[:, :, :8])  # the first run is slow
    return Range(gflops(ALL_LIGHT, lr), gflops(ALL_HEAVY, lr))


def forecast(
    source: Path,
    image: Layout,
    model: LoadedModel,
    scale: float,
    settings: Settings,
    speed: Range,
    format: Format | None = None,
) -> Forecast:
    """Forecast the upscale of an image with this layout. ``speed`` is in executed GFLOP/s.

    Raises ScaleError, and RefusedOutputError if ``format`` cannot hold the result."""
    network, at = model.network, working_scale(model, scale)
    lr_size = (image.height, image.width)
    size, working_size = hr_size(lr_size, scale), hr_size(lr_size, at)
    result = replace(image, height=size[0], width=size[1])
    notes: tuple[str, ...] = ()
    if format is not None:
        result, notes = fit(result, format)
    pixel_bytes = hr_pixel_bytes(torch.float32 if working_size != size else LEVELS[result.depth])
    plan = plan_for(network, lr_size, at, settings, pixel_bytes)
    passes = 2 if isinstance(settings.routing, Adaptive | Budget) else 1
    features = network.dtype.itemsize * network.spec.backbone.width * sum(tile.sampled.area for tile in plan.tiles)
    if plan.halo is None:
        kept = WHOLE_MAPS * features
    else:
        kept = features if passes > 1 and features <= feature_budget(network.device, settings.memory) else 0
    executed = _executed(network, plan, settings.routing, bool(kept))
    collected = 0 if format is None or format.streamed else 2 * result.height * result.row_bytes
    return Forecast(
        source=source,
        image=image,
        result=result,
        format=format,
        plan=plan,
        passes=passes,
        paper=_paper(network, plan),
        executed=executed,
        memory=_memory(network, image, plan, pixel_bytes, kept + collected + (SURVEY if passes > 1 else 0)),
        seconds=Range(executed.light / speed.light, executed.heavy / speed.heavy),
        # The upper bound for all formats: the pixels, the overhead of compression, and metadata.
        most_bytes=int(1.001 * result.height * (result.row_bytes + 1)) + 2**20,
        notes=notes,
    )


def least_memory(image: Layout, scale: float, result_bytes: int) -> int:
    """The bytes that an upscale surely takes: the image, and its decoder or a strip of the result.

    ``result_bytes`` is the size of a result that is collected in memory, else 0."""
    pixels = image.height * image.width
    pixel_bytes = hr_pixel_bytes(LEVELS[image.depth])
    rows = strip_rows((image.height, image.width), scale, pixel_bytes)
    strip = rows * image.width * int(scale * scale * pixel_bytes)
    return _read_bytes(image) + max(DECODED_BYTES * pixels, strip + result_bytes)


def check_disk(folder: Path, most: int) -> Disk:
    """Check the disk space of a folder, which need not exist."""
    existing = next(place for place in (folder, *folder.absolute().parents) if is_folder(place))
    return Disk(folder, shutil.disk_usage(existing).free, most)


def _paper(network: Pcsr, plan: TilePlan) -> Range:
    costs = model_costs(network)
    others = (0,) * (len(costs.branches) - 1)
    light = paper_flops(costs, plan.lr_pixels, (plan.hr_pixels, *others))
    return Range(light / GIGA, paper_flops(costs, plan.lr_pixels, (*others, plan.hr_pixels)) / GIGA)


def _executed(network: Pcsr, plan: TilePlan, routing: Routing, kept: bool) -> Range:
    """Return the executed GFLOPs, without the rows that bands compute twice."""
    costs = model_costs(network)
    branches = len(costs.branches)
    light, heavy = single_pass(plan, branches, 0), single_pass(plan, branches, -1)
    if not isinstance(routing, SingleBranch):
        # The lightest branch runs at all pixels, and the first layers of all branches at all LR pixels.
        light = replace(light, branches_shared=(light.classifier_shared,) * branches)
        heavy = replace(light, branches=tuple(map(sum, zip(light.branches, heavy.branches, strict=True))))
    if isinstance(routing, Adaptive | Budget):
        backbone = 0 if kept else light.backbone
        first = Executed(backbone, classifier_shared=light.classifier_shared, classifier=plan.hr_pixels)
        if keeps_difficulties(plan, network.device):
            light, heavy = (replace(each, classifier=0, classifier_shared=0) for each in (light, heavy))
        light, heavy = light + first, heavy + first
    return Range(executed_flops(costs, light) / GIGA, executed_flops(costs, heavy) / GIGA)


def _memory(network: Pcsr, image: Layout, plan: TilePlan, pixel_bytes: int, more: int) -> int:
    """Return the upper bound of the peak in bytes.

    The bound is the sum of the current memory of this process (Python, PyTorch, the model and the rest of the trial),
    the image, a strip of the result with blocks of finished rows, the workspace of the widest backbone, and ``more``.
    An image is in memory twice while it is read."""
    pixels = image.height * image.width
    read = _read_bytes(image)
    decoding = 2 * read + DECODED_BYTES * pixels
    strip = max(rows.length for rows in plan.strips) * plan.hr_size[1] * pixel_bytes
    width = max(tile.input.columns.length for tile in plan.tiles) / CPU_TILE_WIDTH
    workspace = int(WORKSPACE * max(1.0, width)) if network.device.type == "cpu" else 0
    block = max(BLOCK_BYTES, plan.hr_size[1] * pixel_bytes)
    computing = read + strip + min(strip, BLOCKS * block) + workspace + more
    here: int = psutil.Process().memory_info().rss
    return here + max(decoding, computing)


def _read_bytes(image: Layout) -> int:
    """Bytes of an image in memory. A grey image has three channels in memory."""
    return image.height * image.width * (3 + image.alpha) * image.depth // 8
