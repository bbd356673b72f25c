"""The Python face: upscale a tensor, an array or a PIL picture; the command line stands on the same functions."""

import math
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pcsr_cli.engine.device import Precision, resolve_device, resolve_precision
from pcsr_cli.engine.grid import hr_size
from pcsr_cli.engine.levels import as_lr
from pcsr_cli.engine.output import ResultRows
from pcsr_cli.engine.refine import NEVER, usual_refine
from pcsr_cli.engine.routing import Routing, default_routing
from pcsr_cli.engine.routing_map import RoutingMap
from pcsr_cli.engine.upscale import FloatCanvas, Outcome, Progress, RowCanvas, Settings
from pcsr_cli.engine.upscale import upscale as run_engine
from pcsr_cli.errors import DeviceError, InputError, ScaleError, UsageError, in_full
from pcsr_cli.images.image import ImageData, Pixels, fill_transparent
from pcsr_cli.images.modes import to_pil
from pcsr_cli.images.read import read_pil
from pcsr_cli.images.resize import resize_bicubic
from pcsr_cli.images.write import PictureWriter
from pcsr_cli.model.registry import AUTO, LoadedModel, Registry, find_model, load_registry

AnyImage = TypeVar("AnyImage", Tensor, "NDArray[np.uint8]", "NDArray[np.uint16]", Image.Image)
ResultT = TypeVar("ResultT")

SPILL = 0.5
"""How far a float picture may exceed [0, 1], as the result of an earlier enlargement does a little."""


@dataclass(frozen=True)
class Upscaled(Generic[ResultT]):
    """A result: ``image`` is of the kind that went in, ``branches`` (H, W) uint8 tells each pixel's branch.

    Where branches were not asked for they are (0, 0).
    ``branches`` and ``outcome`` belong to ``working_scale``, the scale the network ran at; where it is larger than
    ``scale``, the result was reduced from there."""

    image: ResultT
    branches: NDArray[np.uint8]
    outcome: Outcome
    scale: float
    working_scale: float


def load_model(
    reference: str = AUTO,
    device: str = "auto",
    precision: Precision = "auto",
    registry: Registry | None = None,
    scale: float = 4.0,
    show_progress: bool = False,
) -> LoadedModel:
    """Find, fetch if need be, check and load a model.

    ``reference`` is ``auto`` (the registry's choice for ``scale``, which nothing else looks at), a registry name,
    ``user/repo[@revision]`` on the Hub, a folder with config.json and model.safetensors, a ``.safetensors`` with its
    config beside it, or a published ``.pth``. Raises UnknownModelError, HubError, ModelError, DeviceError."""
    chosen_device = resolve_device(device)
    dtype = resolve_precision(precision, chosen_device)
    known = registry or load_registry()
    found = find_model(reference, known, scale, show_progress)
    network = found.network.to(chosen_device, dtype)
    if not all(bool(value.isfinite().all()) for value in network.state_dict().values()):
        raise DeviceError(f"The weights of {found.identity.name} do not fit {precision}.", "Use --precision fp32.")
    return replace(found, network=network)


def check_scale(scale: float) -> None:
    """Raise ScaleError for a scale that no model can have."""
    if not 1 <= scale < math.inf:
        raise ScaleError(f"A scale of {in_full(scale)} does not enlarge.", "Give a number of at least 1.")


def working_scale(model: LoadedModel, scale: float) -> float:
    """The scale to run a model at for a wanted one. Raises ScaleError below 1 and above what it was trained for."""
    check_scale(scale)
    found = model.scales.working_scale(scale)
    if found is None:
        raise ScaleError(
            f"The model {model.identity.name} was trained for {model.scales} and cannot enlarge x{in_full(scale)}.",
            f"Ask for at most x{in_full(model.scales.largest)}, or choose another model.",
        )
    return found


def upscale(
    image: AnyImage,
    model: LoadedModel,
    scale: float = 4,
    *,
    routing: Routing | None = None,
    refine: int | None = None,
    tile: int | None = None,
    progress: Progress | None = None,
) -> Upscaled[AnyImage]:
    """Enlarge a picture by ``scale``; the result is of the same kind.

    ``image`` is a float tensor (1, 3, h, w) or (3, h, w), RGB in [0, 1] (the result is float32 and not clamped); or
    a uint8 or uint16 array (h, w, 3), RGB; or a PIL picture (transparency is enlarged, too; the result is upright, as
    its EXIF says). ``routing`` is a Threshold, a Tradeoff or Adaptive, by default Threshold(0.5) for two branches;
    ``refine`` the paper's #h (9: off), by default 1 from x3 and off below; ``tile`` in LR pixels. Raises InputError,
    ScaleError, UsageError."""
    refine = usual_refine(scale) if refine is None else refine
    if not 0 <= refine <= NEVER or (tile is not None and tile < 1):
        raise UsageError(f"refine={refine}, tile={tile} is out of range.", "refine is 0 to 9, tile None or at least 1.")
    settings = Settings(routing or default_routing(model.network.spec.branches), refine=refine, tile=tile)
    if isinstance(image, Tensor):
        return _upscale_tensor(image, model, scale, settings, progress)
    if isinstance(image, Image.Image):
        done = upscale_picture(read_pil(image), model, scale, settings, progress)
        return Upscaled(to_pil(done.image), done.branches, done.outcome, done.scale, done.working_scale)
    if not isinstance(image, np.ndarray):
        raise InputError(f"A {type(image).__name__} is no picture.", "Give a tensor, an array or a PIL picture.")
    if image.dtype not in (np.uint8, np.uint16) or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(
            f"An array of {image.dtype} {image.shape} is no RGB picture.", "Give uint8 or uint16 (h, w, 3)."
        )
    done = upscale_picture(ImageData(image), model, scale, settings, progress)
    rgb: Any = done.image.rgb  # of the type that went in
    return Upscaled(rgb, done.branches, done.outcome, done.scale, done.working_scale)


def upscale_picture(
    picture: ImageData,
    model: LoadedModel,
    scale: float,
    settings: Settings,
    progress: Progress | None = None,
    keep_branches: bool = True,
) -> Upscaled[ImageData]:
    """Enlarge a picture, all of the result in memory. Raises ScaleError, UsageError."""
    at = working_scale(model, scale)
    collected = _Collected(hr_size(picture.size, scale), picture.rgb.dtype, picture.alpha is not None)
    branches = np.empty(hr_size(picture.size, at) if keep_branches else (0, 0), np.uint8)
    kept = branches if keep_branches else None
    outcome = upscale_onto(picture, model, scale, settings, collected, progress, branches=kept)
    enlarged = replace(picture, rgb=collected.rgb, alpha=collected.alpha)
    return Upscaled(enlarged, branches, outcome, scale, at)


def upscale_onto(
    picture: ImageData,
    model: LoadedModel,
    scale: float,
    settings: Settings,
    writer: PictureWriter,
    progress: Progress | None = None,
    depth: int | None = None,
    branches: NDArray[np.uint8] | None = None,
    routed: RoutingMap | None = None,
) -> Outcome:
    """Enlarge a picture and hand its rows to a writer while the rest is computed.

    The writer gets every row once, from the top: (n, W, C) with one channel of grey or three of RGB, as the picture
    has, and one more where it has alpha, at ``depth`` bits (8 or 16, the picture's own by default); they are its own to
    keep. Neither the result nor the features stand in memory whole. ``branches`` is filled with each pixel's branch if
    given: (H, W) at the working scale; ``routed`` takes down how pixels were routed. Raises ScaleError, UsageError, and
    what the writer raises."""
    at = working_scale(model, scale)
    painted, size = hr_size(picture.size, at), hr_size(picture.size, scale)
    bits = depth or 8 * picture.rgb.itemsize
    rows = ResultRows(painted, size, bits, picture.grey, picture.alpha, writer)
    labels = None if branches is None else torch.from_numpy(branches)
    canvas = RowCanvas(painted[1], rows.painted_dtype, rows.take, labels)
    lr = as_lr(fill_transparent(picture.rgb, picture.alpha))
    return run_engine(model.network, lr, at, settings, canvas, progress, routed)


class _Collected:
    """Rows of a picture, collected in memory: ``rgb`` (H, W, 3), ``alpha`` (H, W) or None."""

    def __init__(self, size: tuple[int, int], dtype: np.dtype[Any], has_alpha: bool) -> None:
        self.rgb = np.empty((*size, 3), dtype)
        self.alpha = np.empty(size, dtype) if has_alpha else None
        self.done = 0

    def write(self, rows: Pixels) -> None:
        place = slice(self.done, self.done + len(rows))
        self.rgb[place] = rows if self.alpha is None else rows[..., :-1]
        if self.alpha is not None:
            self.alpha[place] = rows[..., -1]
        self.done = place.stop


def _upscale_tensor(
    image: Tensor, model: LoadedModel, scale: float, settings: Settings, progress: Progress | None
) -> Upscaled[Tensor]:
    lr = image[None] if image.ndim == 3 else image
    if lr.ndim != 4 or lr.shape[:2] != (1, 3) or not lr.numel() or not lr.is_floating_point():
        raise InputError(
            f"A tensor of {image.dtype} {tuple(image.shape)} is no RGB picture.", "Give float (1, 3, h, w) in [0, 1]."
        )
    if not -SPILL <= lr.min().item() <= lr.max().item() <= 1 + SPILL:
        raise InputError("The tensor's values are not in [0, 1].", "Divide 8-bit levels by 255, 16-bit ones by 65535.")
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
