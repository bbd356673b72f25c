"""The engine: an LR picture in, an HR picture out, tile by tile, routed once for the whole picture.

A tiled result is the whole-picture result: tiles see the halo their features depend on, are cut at the picture's own
borders, and share one routing decision. Tiles come in strips, so that a result may leave in rows while the rest is
still to be computed.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pcsr_cli.adm import DifficultySurvey
from pcsr_cli.devices import full_float32
from pcsr_cli.engine.canvas import Canvas
from pcsr_cli.engine.forced import Forced
from pcsr_cli.engine.memory import auto_tile, feature_budget
from pcsr_cli.engine.passes import Passes, Progress
from pcsr_cli.engine.routing_map import RoutingMap
from pcsr_cli.engine.sampling import Branches
from pcsr_cli.engine.tiles import TilePlan, plan_tiles
from pcsr_cli.flops import Executed, model_costs
from pcsr_cli.model import Pcsr
from pcsr_cli.refine import NEVER, RING
from pcsr_cli.routing import Cuts, Decision, Routing, Threshold, decide


@dataclass(frozen=True)
class Settings:
    """How to upscale.

    ``refine`` is the paper's #h (0..9, 9 is off), and ``usual_refine`` knows what suits a scale; ``tile`` is in LR
    pixels, None to let the engine choose; ``memory`` is how many bytes of features ADM may keep between its passes,
    None for a share of what is free.
    Neither of the latter two changes the result. ``forced`` pixels get the branch a person chose: ADM looks at them as
    at any other, a budget pays for them first."""

    routing: Routing = field(default_factory=Threshold)
    refine: int = field(kw_only=True)
    tile: int | None = None
    memory: int | None = None
    forced: Forced | None = None


@dataclass(frozen=True)
class Outcome:
    """What was done: ``branch_pixels`` counts the result's pixels by branch, ``executed`` what really ran.

    ``forced`` counts the pixels forced light, and those forced heavy."""

    plan: TilePlan
    decision: Decision
    branch_pixels: tuple[int, ...]
    executed: Executed
    forced: tuple[int, int] = (0, 0)

    @property
    def heavy_share(self) -> float:
        """Share of the result's pixels that got the heaviest branch."""
        return self.branch_pixels[-1] / self.plan.hr_pixels


def plan_for(
    model: Pcsr, lr_size: tuple[int, int], scale: float, settings: Settings, strip_pixel_bytes: int = 0
) -> TilePlan:
    """The tile plan that ``upscale`` uses for an LR picture of (height, width).

    ``strip_pixel_bytes`` is the canvas's: what an HR pixel costs in memory until its strip of the result is whole.
    """
    ring = RING if settings.refine < NEVER else 0
    side = settings.tile
    tile = (side, side) if side else auto_tile(model, scale, lr_size, strip_pixel_bytes)
    return plan_tiles(lr_size, scale, tile, model.encoder.receptive_radius, ring)


@torch.inference_mode()
def upscale(
    model: Pcsr,
    lr: Tensor,
    scale: float,
    settings: Settings,
    canvas: Canvas,
    progress: Progress | None = None,
    routed: RoutingMap | None = None,
) -> Outcome:
    """Upscale a whole picture onto ``canvas``; ``routed`` takes down how each of its pixels was routed.

    ``lr`` is (1, 3, h, w) RGB, float32 in [0, 1], uint8 or uint16, on any device; ``scale`` is real and at least 1.
    The work is done on the model's device in the model's precision, with sums into the result in float32. A tile for
    which a device has too little memory is cut in four; one that half precision cannot hold is done again in float32.
    Raises UsageError where the model has no such routing.
    """
    assert lr.ndim == 4 and lr.shape[:2] == (1, 3) and scale >= 1
    plan = plan_for(model, (lr.shape[2], lr.shape[3]), scale, settings, canvas.strip_pixel_bytes)
    decision = decide(settings.routing, model_costs(model).routed(scale))
    forced, budget = settings.forced, feature_budget(model.device, settings.memory)
    assert forced is None or forced.hr_size == plan.hr_size
    passes = Passes(model, lr, plan, 1 if decision else 2, budget, progress, forced)
    with full_float32():
        decision = decision or passes.decide(settings.routing, settings.refine)
        branch_pixels = passes.paint(decision, settings.refine, canvas, routed)
    if routed is not None and isinstance(decision, Cuts):
        routed.cuts = decision.values
    return Outcome(plan, decision, branch_pixels, passes.executed, (0, 0) if forced is None else forced.counts)


@torch.inference_mode()
def predict_branches(
    model: Pcsr, lr: Tensor, scale: float, settings: Settings, progress: Progress | None = None
) -> Branches:
    """One pass that gives every pixel to every branch: all that ``upscale`` could make, for any routing.

    Arguments are those of ``upscale``; of ``settings``, the routing has no effect. The whole result is held in memory
    once per branch.
    """
    plan = plan_for(model, (lr.shape[2], lr.shape[3]), scale, settings)
    with full_float32():
        return Passes(model, lr, plan, 1, 0, progress).explore()


@torch.inference_mode()
def survey_difficulties(model: Pcsr, lr: Tensor, scale: float, settings: Settings, survey: DifficultySurvey) -> None:
    """Add the difficulties of all of a picture's pixels to a survey, which may be one of many pictures."""
    plan = plan_for(model, (lr.shape[2], lr.shape[3]), scale, settings)
    with full_float32():
        Passes(model, lr, plan, 1, 0, None).survey(survey)
