"""How fast the machine is on the picture at hand, measured during the first pass: what a budget in seconds needs."""

import time

import torch

from pcsr_cli.engine.refine import refine
from pcsr_cli.engine.routing import ABOVE_ALL, BELOW_ALL, Cuts
from pcsr_cli.engine.sampling import AreaSampler, FeatureBand
from pcsr_cli.errors import UsageError, in_full

EVERY = 8
"""One band in so many is tried with all pixels light, and with all heavy."""

ALL_LIGHT, ALL_HEAVY = Cuts((ABOVE_ALL,)), Cuts((BELOW_ALL,))


class Pace:
    """Seconds a light and a heavy pixel take in the second pass, from trials on some bands of the first.

    ``minimum`` is the refinement's #h. The trials cost some percent of the whole, which the estimate knows.
    """

    def __init__(self, device: torch.device, minimum: int) -> None:
        self.device = device
        self.minimum = minimum
        self.started = self._now()
        self.bands = 0
        self.pixels = 0
        self.classifying = self.light = self.heavy = self.trying = 0.0

    def watch(self, sampler: AreaSampler, band: FeatureBand) -> None:
        """Take note of a band of the first pass, and try it if its turn has come."""
        self.bands += 1
        if self.bands % EVERY != 1:
            return
        started = self._now()
        if not self.pixels:  # the first time kernels are set up, which tells nothing
            self._enlarge(sampler, band, ALL_LIGHT)
            self._enlarge(sampler, band, ALL_HEAVY)
        before = self._now()
        pixels = sum(values.numel() for values in sampler.difficulties(band))
        classified = self._now()
        self._enlarge(sampler, band, ALL_LIGHT)
        lit = self._now()
        self._enlarge(sampler, band, ALL_HEAVY)
        done = self._now()
        self.pixels += pixels
        self.classifying += classified - before
        self.light += lit - classified
        self.heavy += done - lit
        self.trying += done - started

    def heavy_share(self, seconds: float, pixels: int, features_kept: bool) -> float:
        """The share of heavy pixels with which a picture of ``pixels`` HR pixels takes so long, first pass included.

        Raises UsageError outside of what is feasible.
        """
        elapsed = self._now() - self.started
        scale = pixels / self.pixels
        again = 0.0 if features_kept else elapsed - self.trying - self.classifying * scale
        least = elapsed + again + self.light * scale
        most = elapsed + again + max(self.light, self.heavy) * scale
        if not least <= seconds <= most:
            raise UsageError(
                f"A budget of {in_full(seconds)}s cannot be met.",
                f"Here this takes about {least:.2f}s (all light) to {most:.2f}s (all heavy) of computing.",
            )
        return (seconds - least) / (most - least) if most > least else 1.0

    def _enlarge(self, sampler: AreaSampler, band: FeatureBand, decision: Cuts) -> None:
        for part in sampler.predict(band, decision):
            refine(part.rgb, part.labels > 0, self.minimum).mul(255).round_().clamp_(0, 255).to(torch.uint8).cpu()

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
