"""How close composed results are to the truth, for many masks: what depends on the pictures alone is computed once."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsr_cli.engine.composition import Composer
from pcsr_cli.engine.tiles import Span
from pcsr_cli.errors import InputError
from pcsr_cli.measuring.metrics import SsimTruth, decibels, luma, luma_of, psnr


class Meter:
    """PSNR and SSIM of a composer's results against ``truth`` (H, W, 3) uint8, ``shave`` border pixels left out.

    The numbers are those of ``metrics.psnr`` and ``metrics.ssim`` of the composed result, which is never put together:
    each band is measured while it is in cache. ``of_luma`` is about PSNR; SSIM is of luma always. Raises InputError
    where nothing is left inside the border.
    """

    def __init__(self, composer: Composer, truth: NDArray[np.uint8], shave: int, of_luma: bool) -> None:
        height, width = truth.shape[:2]
        if min(height, width) <= 2 * shave:
            raise InputError(
                f"Nothing is left of a picture of {truth.shape[:2]} inside a border of {shave} pixels.",
                "Measure larger pictures.",
            )
        self.composer = composer
        self.rows = Span(shave, height - shave)
        self.columns = slice(shave, width - shave)
        self.of_luma = of_luma
        self.truth = truth[shave : height - shave, self.columns]
        plane = luma(self.truth)
        self.seen = torch.from_numpy(plane[None] if of_luma else self.truth.transpose(2, 0, 1).astype(np.float32))
        self.brightness = torch.empty(plane.shape)
        self.ssim = SsimTruth(plane)

    @torch.inference_mode()
    def measure(self, mask: Tensor) -> tuple[float, float]:
        """PSNR in dB and SSIM of the result for a mask (H, W) bool of heavy pixels."""
        squares = 0.0
        for rows, levels in self.composer.bands(mask, self.rows):
            inside = levels[:, :, self.columns]
            own = slice(rows.start - self.rows.start, rows.stop - self.rows.start)
            brightness = luma_of(inside, out=self.brightness[own])
            difference = torch.sub(brightness[None] if self.of_luma else inside, self.seen[:, own]).view(-1)
            squares += torch.dot(difference, difference).item()
        return decibels(squares / self.seen.numel()), self.ssim(self.brightness.numpy())

    def psnr_of(self, result: NDArray[np.uint8]) -> float:
        """PSNR in dB of any other result of the same size."""
        inside = result[self.rows.start : self.rows.stop, self.columns]
        return psnr(luma(inside), luma(self.truth)) if self.of_luma else psnr(inside, self.truth)
