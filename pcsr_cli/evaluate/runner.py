"""One picture enlarged in several ways under the same conditions, each timed and counted."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pcsr_cli.engine.device import as_lr
from pcsr_cli.engine.grid import hr_size
from pcsr_cli.engine.routing import Routing, default_routing
from pcsr_cli.engine.upscale import Outcome, Settings, predict_branches, upscale_whole
from pcsr_cli.errors import UsageError, in_full
from pcsr_cli.evaluate.composition import Composer
from pcsr_cli.evaluate.methods import Method, patch_mask
from pcsr_cli.evaluate.originals import LoadedOriginal
from pcsr_cli.images.resize import resize_bicubic_8bit
from pcsr_cli.model.flops import GIGA, ORIGINAL_SCALE, executed_flops, model_costs, original_flops, paper_flops
from pcsr_cli.model.layers import Cost
from pcsr_cli.model.registry import LoadedModel


@dataclass(frozen=True)
class Enlarged:
    """A result (H, W, 3) uint8 and what it took: GFLOPs, the share of heavy pixels, seconds; None where unknown."""

    rgb: NDArray[np.uint8]
    heavy_share: float | None = None
    paper: float | None = None
    executed: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Contest:
    """The conditions: a model, a scale, the engine's settings but for routing, the original network if there is one.

    ``budget`` is how the method of that name routes.
    """

    model: LoadedModel
    scale: float
    settings: Settings
    original: LoadedOriginal | None = None
    budget: Routing | None = None

    def enter(self, lr: NDArray[np.uint8]) -> "Entrant":
        """A picture (h, w, 3) uint8 to enlarge."""
        return Entrant(self, lr)


class Entrant:
    """A picture in the contest."""

    def __init__(self, contest: Contest, lr: NDArray[np.uint8]) -> None:
        self.contest = contest
        self.lr = lr
        self.costs = model_costs(contest.model.network)
        self.size = hr_size((lr.shape[0], lr.shape[1]), contest.scale)
        self.done: dict[Method, Enlarged] = {}

    def enlarge(self, method: Method) -> Enlarged:
        """The picture by a method; ``patch`` is composed and not run, and has no time."""
        if method not in self.done:
            self.done[method] = self._enlarge(method)
        return self.done[method]

    @property
    def all_heavy(self) -> NDArray[np.uint8]:
        """The best the model can do."""
        return self.enlarge(Method("heavy")).rgb

    @property
    def original_cost(self) -> Cost | None:
        """FLOPs of the original network on this picture, None where there is none at this scale."""
        contest = self.contest
        return original_flops(contest.model.identity.original, contest.scale, self.lr.shape[0] * self.lr.shape[1])

    def _enlarge(self, method: Method) -> Enlarged:
        match method.kind:
            case "bicubic":
                return self._timed(lambda: resize_bicubic_8bit(self.lr, *self.size))
            case "lanczos":
                return self._timed(self._lanczos)
            case "original":
                assert self.contest.original is not None
                original = self.contest.original
                cost = original.cost(self.lr.shape[0] * self.lr.shape[1])
                done = self._timed(lambda: original.upscale(self.lr))
                return Enlarged(done.rgb, None, cost.paper / GIGA, cost.executed / GIGA, done.seconds)
            case "patch":
                assert method.value is not None
                return self._by_patch(int(method.value))
            case "budget":
                assert self.contest.budget is not None
                return self._by_pixel(self.contest.budget)
            case _:
                routing = method.routing
                assert routing is not None
                return self._by_pixel(routing)

    def _by_pixel(self, routing: Routing) -> Enlarged:
        return self.run(routing)[0]

    def run(self, routing: Routing) -> tuple[Enlarged, Outcome]:
        """The engine by a routing."""
        contest = self.contest
        settings = replace(contest.settings, routing=routing)
        started = time.perf_counter()
        rgb, _, outcome = upscale_whole(contest.model.network, as_lr(self.lr), contest.scale, settings, torch.uint8)
        seconds = time.perf_counter() - started
        paper = paper_flops(self.costs, outcome.plan.lr_pixels, outcome.branch_pixels) / GIGA
        executed = executed_flops(self.costs, outcome.executed) / GIGA
        return Enlarged(rgb.numpy(), outcome.heavy_share, paper, executed, seconds), outcome

    def _by_patch(self, side: int) -> Enlarged:
        """Routed by patch with as many heavy pixels as the first method routed by pixel, by default at 0.5."""
        routed = [d for m, d in self.done.items() if m.kind in {"threshold", "k", "adm", "budget"}]
        share = routed[0].heavy_share if routed else self._by_pixel(default_routing(2)).heavy_share
        assert share is not None
        composer = self._composer
        heavy = round(share * self.size[0] * self.size[1])
        mask = patch_mask(composer.branches.difficulty, max(1, round(side * self.contest.scale)), heavy)
        counts = (mask.numel() - heavy, heavy)
        paper = paper_flops(self.costs, composer.branches.plan.lr_pixels, counts) / GIGA
        executed = executed_flops(self.costs, composer.executed(mask)) / GIGA
        return Enlarged(composer.compose(mask), share, paper, executed)

    @cached_property
    def _composer(self) -> Composer:
        contest = self.contest
        branches = predict_branches(contest.model.network, as_lr(self.lr), contest.scale, contest.settings)
        return Composer(branches, contest.settings.refine)

    def _lanczos(self) -> NDArray[np.uint8]:
        height, width = self.size
        return np.asarray(Image.fromarray(self.lr).resize((width, height), Image.Resampling.LANCZOS))

    @staticmethod
    def _timed(work: Callable[[], NDArray[np.uint8]]) -> Enlarged:
        started = time.perf_counter()
        rgb = work()
        return Enlarged(rgb, seconds=time.perf_counter() - started)


def check_scales(model: LoadedModel, scale: float, original: LoadedOriginal | None) -> None:
    """Raise UsageError where the model, or the original network if there is one, was not made for a scale."""
    if not model.scales.trained(scale):
        raise UsageError(
            f"The model {model.identity.name} was trained for {model.scales}, not x{in_full(scale)}.",
            "Measure it at what it was trained for, with --scale.",
        )
    if original is not None and scale != ORIGINAL_SCALE:
        raise UsageError(f"The original network enlarges x{ORIGINAL_SCALE}.", "Leave --original out.")
