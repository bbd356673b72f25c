"""The Python face: upscale a tensor, an array or a PIL picture; the command line stands on the same functions."""

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pcsr_cli.canvas import ByteCanvas, FloatCanvas
from pcsr_cli.engine import Outcome, Settings
from pcsr_cli.engine import upscale as run_engine
from pcsr_cli.errors import InputError, ScaleError, UsageError
from pcsr_cli.grid import hr_size
from pcsr_cli.images import Picture, from_pil, to_pil
from pcsr_cli.models import LoadedModel
from pcsr_cli.passes import Progress
from pcsr_cli.refine import NEVER
from pcsr_cli.resize import resize_bicubic
from pcsr_cli.routing import Routing, default_routing

AnyImage = TypeVar("AnyImage", Tensor, "NDArray[np.uint8]", Image.Image)
Pixels = TypeVar("Pixels")

SPILL = 0.5
"""How far a float picture may exceed [0, 1], as the result of an earlier enlargement does a little."""


@dataclass(frozen=True)
class Upscaled(Generic[Pixels]):
    """A result: ``image`` is of the kind that went in, ``branches`` (H, W) uint8 tells each pixel's branch.

    Where branches were not asked for they are (0, 0).
    ``branches`` and ``outcome`` belong to ``working_scale``, the scale the network ran at; where it is larger than
    ``scale``, the result was reduced from there."""

    image: Pixels
    branches: NDArray[np.uint8]
    outcome: Outcome
    scale: float
    working_scale: float


def check_scale(scale: float) -> None:
    """Raise ScaleError for a scale that no model can have."""
    if not 1 <= scale < math.inf:
        raise ScaleError(f"A scale of {scale:g} does not enlarge.", "Give a number of at least 1.")


def working_scale(model: LoadedModel, scale: float) -> float:
    """The scale to run a model at for a wanted one. Raises ScaleError below 1 and above what it was trained for."""
    check_scale(scale)
    found = model.scales.working_scale(scale)
    if found is None:
        raise ScaleError(
            f"The model {model.identity.name} was trained for {model.scales} and cannot enlarge x{scale:g}.",
            f"Ask for at most x{model.scales.largest:g}, or choose another model.",
        )
    return found


def upscale(
    image: AnyImage,
    model: LoadedModel,
    scale: float = 4,
    *,
    routing: Routing | None = None,
    refine: int = 1,
    tile: int | None = None,
    progress: Progress | None = None,
) -> Upscaled[AnyImage]:
    """Enlarge a picture by ``scale``; the result is of the same kind.

    ``image`` is a float tensor (1, 3, h, w) or (3, h, w), RGB in [0, 1] (the result is float32 and not clamped); or
    a uint8 array (h, w, 3), RGB; or a PIL picture (its transparency is enlarged, too). ``routing`` is a Threshold, a
    Tradeoff or Adaptive, by default Threshold(0.5) for two branches; ``refine`` the paper's #h (9: off); ``tile`` in
    LR pixels. Raises InputError, ScaleError, UsageError."""
    if not 0 <= refine <= NEVER or (tile is not None and tile < 1):
        raise UsageError(f"refine={refine}, tile={tile} is out of range.", "refine is 0 to 9, tile None or at least 1.")
    settings = Settings(routing or default_routing(model.network.spec.branches), refine, tile)
    if isinstance(image, Tensor):
        return _upscale_tensor(image, model, scale, settings, progress)
    if isinstance(image, Image.Image):
        done = upscale_picture(from_pil(image), model, scale, settings, progress)
        return Upscaled(to_pil(done.image), done.branches, done.outcome, done.scale, done.working_scale)
    if not isinstance(image, np.ndarray):
        raise InputError(f"A {type(image).__name__} is no picture.", "Give a tensor, an array or a PIL picture.")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(f"An array of {image.dtype} {image.shape} is no RGB picture.", "Give uint8 (h, w, 3).")
    done = upscale_picture(Picture(image), model, scale, settings, progress)
    return Upscaled(done.image.rgb, done.branches, done.outcome, done.scale, done.working_scale)


def upscale_picture(
    picture: Picture,
    model: LoadedModel,
    scale: float,
    settings: Settings,
    progress: Progress | None = None,
    keep_branches: bool = True,
) -> Upscaled[Picture]:
    """Enlarge a picture as read from a file. Raises ScaleError, UsageError."""
    at = working_scale(model, scale)
    lr = torch.from_numpy(picture.rgb.copy()).permute(2, 0, 1)[None]
    size, working_size = hr_size(picture.size, scale), hr_size(picture.size, at)
    if size == working_size:
        canvas = ByteCanvas(*working_size)
        outcome = run_engine(model.network, lr, at, settings, canvas, progress)
        rgb = canvas.rgb.numpy()
        labels = canvas.labels.numpy()
    else:
        floats = FloatCanvas(*working_size)
        outcome = run_engine(model.network, lr, at, settings, floats, progress)
        reduced = resize_bicubic(floats.rgb.permute(1, 2, 0).numpy(), *size)
        rgb, labels = _to_levels(reduced), floats.labels.numpy()
    if picture.grey:
        rgb = _grey(rgb)
    alpha = None if picture.alpha is None else _enlarge_alpha(picture.alpha, size)
    enlarged = Picture(rgb, alpha, picture.grey, picture.icc, picture.notes)
    return Upscaled(enlarged, labels, outcome, scale, at)


def _upscale_tensor(
    image: Tensor, model: LoadedModel, scale: float, settings: Settings, progress: Progress | None
) -> Upscaled[Tensor]:
    lr = image[None] if image.ndim == 3 else image
    if lr.ndim != 4 or lr.shape[:2] != (1, 3) or not lr.numel() or not lr.is_floating_point():
        raise InputError(
            f"A tensor of {image.dtype} {tuple(image.shape)} is no RGB picture.", "Give float (1, 3, h, w) in [0, 1]."
        )
    if not -SPILL <= lr.min().item() <= lr.max().item() <= 1 + SPILL:
        raise InputError("The tensor's values are not in [0, 1].", "Divide 8-bit levels by 255.")
    at = working_scale(model, scale)
    lr_size = (lr.shape[2], lr.shape[3])
    canvas = FloatCanvas(*hr_size(lr_size, at))
    outcome = run_engine(model.network, lr.float(), at, settings, canvas, progress)
    rgb = canvas.rgb
    if hr_size(lr_size, scale) != hr_size(lr_size, at):
        reduced = resize_bicubic(rgb.permute(1, 2, 0).numpy(), *hr_size(lr_size, scale))
        rgb = torch.from_numpy(reduced).permute(2, 0, 1)
    result = (rgb[None] if image.ndim == 4 else rgb).to(image.device)
    return Upscaled(result, canvas.labels.numpy(), outcome, scale, at)


def _to_levels(rgb: NDArray[np.float32]) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = np.rint(rgb * 255).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(levels)


def _grey(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One grey level a pixel, in all three channels: the network may tint what came in grey."""
    mean = np.rint(rgb.mean(axis=2, dtype=np.float32)).astype(np.uint8)
    return np.repeat(mean[..., None], 3, axis=2)


def _enlarge_alpha(alpha: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Transparency is enlarged bicubically; where it is the same everywhere it stays so exactly."""
    if (alpha == alpha[0, 0]).all():
        return np.full(size, alpha[0, 0], dtype=np.uint8)
    enlarged = resize_bicubic(alpha[..., None].astype(np.float32), *size)[..., 0]
    return np.rint(enlarged).clip(0, 255).astype(np.uint8)
