"""How close composed results are to the truth, for many masks: what depends on the pictures alone is computed once."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsr_cli.composition import Composer
from pcsr_cli.failures import measuring
from pcsr_cli.metrics import SsimTruth, decibels, luma, psnr


class Meter:
    """PSNR and SSIM of a composer's results against ``truth`` (H, W, 3) uint8, ``shave`` border pixels left out.

    The numbers are those of ``metrics.psnr`` and ``metrics.ssim`` of the composed result, which is never put together:
    each branch's squared errors and luma are known, and only what refinement changes is looked at anew. ``of_luma`` is
    about PSNR; SSIM is of luma always. Raises InputError where nothing is left inside the border.
    """

    def __init__(self, composer: Composer, truth: NDArray[np.uint8], shave: int, of_luma: bool) -> None:
        self.composer = composer
        self.shave = slice(shave, -shave) if shave else slice(None)
        self.of_luma = of_luma
        self.truth = truth
        if not truth[self.shave, self.shave].size:
            raise measuring.NOTHING_LEFT(size=truth.shape[:2], border=shave)
        plane = luma(truth)
        self.seen = torch.from_numpy(plane.reshape(-1)) if of_luma else torch.from_numpy(truth.reshape(-1, 3).copy())
        pictures = (composer.light, composer.heavy)
        self.luma = [torch.from_numpy(luma(picture.numpy())) for picture in pictures]
        self.errors = [
            self._errors(picture.view(-1, 3), self.luma[branch].view(-1), self.seen).view(composer.size)
            for branch, picture in enumerate(pictures)
        ]
        self.ssim = SsimTruth(plane[self.shave, self.shave])

    def measure(self, mask: Tensor) -> tuple[float, float]:
        """PSNR in dB and SSIM of the result for a mask (H, W) bool of heavy pixels."""
        seam = self.composer.seam(mask)
        brightness = torch.where(mask, self.luma[1], self.luma[0])
        errors = torch.where(mask, self.errors[1], self.errors[0])
        if seam.index.numel():
            smoothed = torch.from_numpy(luma(seam.levels.numpy()))
            brightness.view(-1)[seam.index] = smoothed
            errors.view(-1)[seam.index] = self._errors(seam.levels, smoothed, self.seen[seam.index])
        inside = errors[self.shave, self.shave]
        values = inside.numel() * (1 if self.of_luma else 3)
        mean_square = inside.sum(dtype=torch.float64).item() / values
        return decibels(mean_square), self.ssim(brightness[self.shave, self.shave].numpy())

    def psnr_of(self, result: NDArray[np.uint8]) -> float:
        """PSNR in dB of any other result of the same size."""
        inside = (self.shave, self.shave)
        if self.of_luma:
            return psnr(luma(result)[inside], luma(self.truth)[inside])
        return psnr(result[inside], self.truth[inside])

    def _errors(self, levels: Tensor, brightness: Tensor, truth: Tensor) -> Tensor:
        """Squared errors of pixels: (n, 3) uint8 levels, or their luma (n,), against the same of the truth."""
        if self.of_luma:
            return (brightness - truth).square_()
        difference = levels.float().sub_(truth)
        return difference.square_().sum(dim=1)
