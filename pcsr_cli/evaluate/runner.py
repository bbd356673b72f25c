"""The conditions of measurements, and a runner that counts the FLOPs and measures the time of a method on one image."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from pcsr_cli.engine.device import as_lr, peak_memory, start_peak_memory
from pcsr_cli.engine.grid import hr_size
from pcsr_cli.engine.rules import Routing, default_routing
from pcsr_cli.engine.upscale import Settings, predict_branches, upscale_whole
from pcsr_cli.errors import ScaleError, UsageError, in_full
from pcsr_cli.evaluate.arguments import PEERS, Kind, Method
from pcsr_cli.evaluate.composition import Composer, patch_mask
from pcsr_cli.evaluate.metrics import luma, psnr
from pcsr_cli.evaluate.peers import LoadedOriginal, Peer
from pcsr_cli.images.resize import resize_bicubic_8bit, resize_lanczos_8bit
from pcsr_cli.model.flops import GIGA, ORIGINAL_SCALE, executed_flops, model_costs, original_flops, paper_flops
from pcsr_cli.model.layers import Cost
from pcsr_cli.model.registry import LoadedModel


@dataclass(frozen=True)
class MethodResult:
    """The result of a method: ``rgb`` (H, W, 3) uint8, and figures, which are None if the method does not have them.

    ``paper`` and ``executed`` are GFLOPs. Methods that route patches have ``classes``, the number of patches of each
    class, and ``own``, the mean GFLOPs of a patch as their authors count them. ``memory`` is the peak during the
    method, in bytes above the memory before it."""

    rgb: NDArray[np.uint8]
    heavy_share: float | None = None
    paper: float | None = None
    executed: float | None = None
    seconds: float | None = None
    classes: tuple[int, ...] | None = None
    own: float | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Conditions:
    """The conditions that all measurements of a command share.

    Each measurement replaces the routing in ``settings``. ``luma`` selects PSNR of luma. With ``no_reference``, results
    are compared with all heavy instead of HR. ``original`` is the network without PCSR, such as CARN, or None if its
    weights are not given. ``degrade`` describes how the LR images were degraded. ``peers`` has the methods with their
    own weights by kind."""

    model: LoadedModel
    scale: float
    settings: Settings
    luma: bool = False
    no_reference: bool = False
    original: LoadedOriginal | None = None
    degrade: str | None = None
    peers: Mapping[Kind, Peer | LoadedOriginal] = field(default_factory=dict)

    @property
    def shave(self) -> int:
        """The width of the border that PSNR and SSIM ignore, in HR pixels."""
        return math.ceil(self.scale)

    @property
    def reference(self) -> str:
        """The image that results are compared with."""
        return "all heavy" if self.no_reference else "HR"

    def check(self) -> None:
        """Raise UsageError if the model or the original network was not trained for the scale."""
        if not self.model.scales.trained(self.scale):
            name, scales = self.model.identity.name, self.model.scales
            message = f"{name} was trained for {scales}, not x{in_full(self.scale)}."
            raise ScaleError(message, "Measure at a trained scale.")
        for setting, given, name in (("original", self.original, "original network"), ("peer", self.peers, "peer")):
            if given and self.scale != ORIGINAL_SCALE:
                step = f"Measure at x{ORIGINAL_SCALE}, or without the {name}."
                raise UsageError(f"The {name} supports only x{ORIGINAL_SCALE}.", step, setting=setting)

    def psnr(self, result: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
        """Return the PSNR in dB of two images (H, W, 3). Raises the errors of ``metrics.psnr``."""
        return psnr(luma(result), luma(truth), self.shave) if self.luma else psnr(result, truth, self.shave)

    def original_cost(self, lr_pixels: int) -> Cost | None:
        """Return the FLOPs of the original network for an image, or None if there is no such network at this scale."""
        return original_flops(self.model.identity.original, self.scale, lr_pixels)

    def explore(self, lr: NDArray[np.uint8], progress: Callable[[float], None] = lambda share: None) -> Composer:
        """Run both samplers at every pixel of an image (h, w, 3). Raises UsageError unless there are two branches."""
        branches = predict_branches(self.model.network, as_lr(lr), self.scale, self.settings, progress)
        return Composer(branches, self.settings.refine)


class MethodRunner:
    """Runs methods on the image ``lr`` (h, w, 3) uint8 and keeps their results.

    ``budget`` is the routing of the method "budget"."""

    def __init__(self, conditions: Conditions, lr: NDArray[np.uint8], budget: Routing | None = None) -> None:
        self.conditions = conditions
        self.budget = budget
        self.lr = lr
        self.lr_pixels = lr.shape[0] * lr.shape[1]
        self.costs = model_costs(conditions.model.network)
        self.size = hr_size((lr.shape[0], lr.shape[1]), conditions.scale)
        self.results: dict[Method, MethodResult] = {}

    def run(self, method: Method) -> MethodResult:
        """Return the result of a method. ``patch`` is composed from branches that ran before, so its result has no
        computing time."""
        if method not in self.results:
            device = self.conditions.model.network.device
            before = start_peak_memory(device)
            result = self._run(method)
            peak = peak_memory(device)
            if before is not None and peak is not None and result.seconds is not None:
                result = replace(result, memory=peak - before)
            self.results[method] = result
        return self.results[method]

    def _run(self, method: Method) -> MethodResult:
        height, width = self.size
        match method.kind:
            case "bicubic":
                return self._timed(lambda: resize_bicubic_8bit(self.lr, height, width))
            case "lanczos":
                return self._timed(lambda: resize_lanczos_8bit(self.lr, height, width))
            case "original":
                assert self.conditions.original is not None
                return self._run_peer(self.conditions.original)
            case kind if kind in PEERS:
                return self._run_peer(self.conditions.peers[kind], method.value)
            case "patch":
                assert method.value is not None
                return self._run_patches(int(method.value))
            case _:
                routing = self.budget if method.kind == "budget" else method.routing
                assert routing is not None
                return self.run_routing(routing)

    def run_routing(self, routing: Routing) -> MethodResult:
        """Upscale the image with a routing by pixel."""
        conditions = self.conditions
        settings = replace(conditions.settings, routing=routing)
        started = time.perf_counter()
        rgb, _, outcome = upscale_whole(
            conditions.model.network, as_lr(self.lr), conditions.scale, settings, torch.uint8
        )
        seconds = time.perf_counter() - started
        paper = paper_flops(self.costs, outcome.plan.lr_pixels, outcome.branch_pixels) / GIGA
        executed = executed_flops(self.costs, outcome.executed) / GIGA
        return MethodResult(rgb.numpy(), outcome.heavy_share, paper, executed, seconds)

    def _run_peer(self, peer: Peer | LoadedOriginal, k: float | None = None) -> MethodResult:
        if isinstance(peer, LoadedOriginal):
            cost = peer.cost(self.lr_pixels)
            timed = self._timed(lambda: peer.upscale(self.lr))
            return replace(timed, paper=cost.paper / GIGA, executed=cost.executed / GIGA)
        started = time.perf_counter()
        result = peer.upscale(self.lr, k or 0.0)
        seconds = time.perf_counter() - started
        cost, own = peer.cost(result.classes), peer.own_gflops(result.classes)
        paper, executed = cost.paper / GIGA, cost.executed / GIGA
        return MethodResult(result.rgb, None, paper, executed, seconds, result.classes, own)

    def _run_patches(self, side: int) -> MethodResult:
        """Route by patch. The share of heavy pixels is taken from the first method that routes by pixel, or from
        threshold 0.5 if no method does."""
        routed = [
            result for method, result in self.results.items() if method.kind in {"threshold", "k", "adm", "budget"}
        ]
        share = (routed[0] if routed else self.run_routing(default_routing(2))).heavy_share
        assert share is not None
        composer = self._composer
        heavy = round(share * self.size[0] * self.size[1])
        mask = patch_mask(composer.branches.difficulty, max(1, round(side * self.conditions.scale)), heavy)
        paper = paper_flops(self.costs, self.lr_pixels, (mask.numel() - heavy, heavy)) / GIGA
        executed = executed_flops(self.costs, composer.executed(mask)) / GIGA
        return MethodResult(composer.compose(mask), share, paper, executed)

    @cached_property
    def _composer(self) -> Composer:
        return self.conditions.explore(self.lr)

    @staticmethod
    def _timed(work: Callable[[], NDArray[np.uint8]]) -> MethodResult:
        started = time.perf_counter()
        rgb = work()
        return MethodResult(rgb, seconds=time.perf_counter() - started)
