"""The engine: an LR image in, an HR image out, tile by tile, routed once for the whole image.

A tiled result is the whole-image result: tiles see the halo their features depend on, are cut at the image's own
borders, and share one routing decision. Results go to a ``Canvas`` as they come, so that memory is set by the tile."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from pcsr_cli.devices import full_float32
from pcsr_cli.flops import Executed, model_costs
from pcsr_cli.model import Pcsr
from pcsr_cli.refine import NEVER, RING, refine
from pcsr_cli.routing import Decision, Routing, Threshold, decide, decide_adaptively
from pcsr_cli.sampling import TileInput, predict, predict_difficulty, region_axes, tile_input
from pcsr_cli.tiles import Rect, Tile, TilePlan, plan_tiles

DEFAULT_TILE = 256
FEATURE_BUDGET = 512 * 2**20
"""Bytes of features that ADM keeps from its first pass; beyond that it computes them again."""


@dataclass(frozen=True)
class Settings:
    """How to upscale. ``refine`` is the paper's #h (0..9, 9 is off); ``tile`` is in LR pixels, None to let the
    engine choose."""

    routing: Routing = field(default_factory=Threshold)
    refine: int = 1
    tile: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What was done: ``branch_pixels`` counts the result's pixels by branch, ``executed`` what really ran."""

    plan: TilePlan
    decision: Decision
    branch_pixels: tuple[int, ...]
    executed: Executed

    @property
    def heavy_share(self) -> float:
        """Share of the result's pixels that got the heaviest branch."""
        return self.branch_pixels[-1] / self.plan.hr_pixels


class Canvas(Protocol):
    """Where finished pixels go."""

    def write(self, area: Rect, rgb: Tensor, labels: Tensor) -> None:
        """Take an area: ``rgb`` (3, H, W) float32 in [0, 1] but not clamped, ``labels`` (H, W) uint8 branches."""
        ...


class FloatCanvas:
    """The whole result as float32 RGB (3, H, W), not clamped, and its branches (H, W) uint8, on the CPU."""

    def __init__(self, height: int, width: int) -> None:
        self.rgb = torch.empty(3, height, width, dtype=torch.float32, device="cpu")
        self.labels = torch.empty(height, width, dtype=torch.uint8, device="cpu")

    def write(self, area: Rect, rgb: Tensor, labels: Tensor) -> None:
        """Take an area of the result."""
        self.rgb[:, *area.slices] = rgb.cpu()
        self.labels[area.slices] = labels.cpu()


class ByteCanvas:
    """The whole result as uint8 RGB (H, W, 3), rounded and clamped, and its branches (H, W) uint8, on the CPU."""

    def __init__(self, height: int, width: int) -> None:
        self.rgb = torch.empty(height, width, 3, dtype=torch.uint8, device="cpu")
        self.labels = torch.empty(height, width, dtype=torch.uint8, device="cpu")

    def write(self, area: Rect, rgb: Tensor, labels: Tensor) -> None:
        """Take an area of the result."""
        levels = rgb.mul(255).round_().clamp_(0, 255).to(torch.uint8)
        self.rgb[area.slices] = levels.permute(1, 2, 0).cpu()
        self.labels[area.slices] = labels.cpu()


Progress = Callable[[float], None]
"""Called with the share of the work done, from 0 to 1."""


def plan_for(model: Pcsr, lr_size: tuple[int, int], scale: float, settings: Settings) -> TilePlan:
    """The tile plan that ``upscale`` uses for an LR image of (height, width)."""
    ring = RING if settings.refine < NEVER else 0
    return plan_tiles(lr_size, scale, settings.tile or DEFAULT_TILE, model.encoder.receptive_radius, ring)


@torch.inference_mode()
def upscale(
    model: Pcsr, lr: Tensor, scale: float, settings: Settings, canvas: Canvas, progress: Progress | None = None
) -> Outcome:
    """Upscale a whole image onto ``canvas``.

    ``lr`` is (1, 3, h, w) float32 RGB in [0, 1], on any device; ``scale`` is real and at least 1. The work is done
    on the model's device in the model's precision, with sums into the result in float32. Raises UsageError where the
    model has no such routing."""
    assert lr.ndim == 4 and lr.shape[:2] == (1, 3) and scale >= 1
    lr_size = (lr.shape[2], lr.shape[3])
    plan = plan_for(model, lr_size, scale, settings)
    decision = decide(settings.routing, model_costs(model).routed(scale))
    run = _Run(model, lr, plan, progress or (lambda share: None))
    with full_float32(model.device):
        return run.paint(decision or run.decide(), settings, canvas)


class _Run:
    """One image on its way through the engine: what passes share, and the tally of what was executed."""

    def __init__(self, model: Pcsr, lr: Tensor, plan: TilePlan, progress: Progress) -> None:
        self.model = model
        self.lr = lr
        self.plan = plan
        self.progress = progress
        self.passes_done = 0
        self.passes = 1
        self.executed = Executed()
        self.difficulty: Tensor | None = None
        self.kept: dict[Tile, Tensor] = {}
        feature_bytes = model.spec.backbone.width * sum(tile.sampled.area for tile in plan.tiles) * 4
        self.keep_features = feature_bytes <= FEATURE_BUDGET

    def decide(self) -> Decision:
        """ADM's first pass: the difficulty of the whole image, and the cut it leads to."""
        self.passes = 2
        self.difficulty = torch.empty(self.plan.hr_size, dtype=torch.float32, device="cpu")
        for done, tile in enumerate(self.plan.tiles):
            whole = predict_difficulty(self.model, self._input(tile))
            self.executed += Executed(classifier_shared=tile.sampled.area, classifier=tile.region.area)
            self.difficulty[tile.core.slices] = whole[tile.core.within(tile.region)].cpu()
            self._report(done + 1)
        self.passes_done = 1
        return decide_adaptively(self.difficulty, self.model.spec.branches)

    def paint(self, decision: Decision, settings: Settings, canvas: Canvas) -> Outcome:
        """Predict, refine and hand over every tile."""
        counts = torch.zeros(self.model.spec.branches, dtype=torch.int64, device=self.model.device)
        for done, tile in enumerate(self.plan.tiles):
            known = self._known_difficulty(tile)
            prediction = predict(self.model, self._input(tile), decision, known)
            core = tile.core.within(tile.region)
            rgb = refine(prediction.rgb, prediction.labels > 0, settings.refine)[:, *core]
            labels = prediction.labels[core]
            canvas.write(tile.core, self.model.denormalise(rgb[None])[0], labels)
            counts += _branch_counts(labels, counts.numel())
            self._count_sampling(tile, prediction.labels, classified=known is None)
            self._report(done + 1)
        branch_pixels = tuple(int(count) for count in counts.tolist())
        return Outcome(self.plan, decision, branch_pixels, self.executed)

    def _input(self, tile: Tile) -> TileInput:
        device = self.model.device
        seen = self.model.normalise(self.lr[:, :, *tile.seen.slices].to(device))
        features = self.kept.pop(tile, None)
        if features is None:
            features = self.model.features(seen)[:, :, *tile.sampled.within(tile.seen)]
            self.executed += Executed(backbone=tile.seen.area)
            if self.passes_done + 1 < self.passes and self.keep_features:
                features = features.contiguous()
                self.kept[tile] = features
        axes = region_axes(self.plan.lr_size, self.plan.hr_size, tile.region, device)
        return tile_input(seen, features, tile.seen, tile.sampled, axes)

    def _known_difficulty(self, tile: Tile) -> Tensor | None:
        if self.difficulty is None:
            return None
        return self.difficulty[tile.region.slices].to(self.model.device)

    def _count_sampling(self, tile: Tile, labels: Tensor, classified: bool) -> None:
        branches = _branch_counts(labels, self.model.spec.branches).tolist()
        self.executed += Executed(
            classifier_shared=tile.sampled.area if classified else 0,
            classifier=tile.region.area if classified else 0,
            branches_shared=tile.sampled.area,
            branches=tuple(int(count) for count in branches),
        )

    def _report(self, tiles_done: int) -> None:
        self.progress((self.passes_done + tiles_done / len(self.plan.tiles)) / self.passes)


def _branch_counts(labels: Tensor, branches: int) -> Tensor:
    """How many labels there are of each branch, (M,) int64, without a word to the host."""
    return torch.stack([(labels == branch).sum() for branch in range(branches)])
