"""The Python interface: upscale a tensor, an array or a PIL image. The command line also uses the functions of this
module."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pcsr_cli.engine.device import LEVELS, Precision, as_lr, device_notes, resolve_device, resolve_precision
from pcsr_cli.engine.fused.kernels import precision_notes
from pcsr_cli.engine.grid import hr_size
from pcsr_cli.engine.memory import limit_kernel_caches
from pcsr_cli.engine.output import output_rows
from pcsr_cli.engine.rules import NEVER, Routing, default_routing, usual_refine
from pcsr_cli.engine.upscale import HrRows, Outcome, Progress, Settings, Upscaling, upscale_whole
from pcsr_cli.engine.upscale import upscale as run_engine
from pcsr_cli.errors import DeviceError, InputError, UsageError
from pcsr_cli.images.image import ImageData, fill_transparent
from pcsr_cli.images.modes import to_pil
from pcsr_cli.images.read import read_pil
from pcsr_cli.images.resize import resize_bicubic
from pcsr_cli.model.registry import AUTO, LoadedModel, Registry, find_model, load_registry
from pcsr_cli.model.spec import check_scale

AnyImage = TypeVar("AnyImage", Tensor, "NDArray[np.uint8]", "NDArray[np.uint16]", Image.Image)
ResultT = TypeVar("ResultT")

SPILL = 0.5
"""How far the values of a float image may be outside [0, 1]. The result of an earlier upscale is slightly outside."""


@dataclass(frozen=True)
class Upscaled(Generic[ResultT]):
    """The result of an upscale. ``image`` has the type of the input, and ``branches`` (H, W) uint8 holds each pixel's
    branch.

    ``branches`` and ``outcome`` refer to ``working_scale``, the scale at which the network ran. If ``working_scale``
    and ``scale`` differ, the image was resized afterwards."""

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
    notify: Callable[[str], None] | None = None,
    lossy: bool = False,
) -> LoadedModel:
    """Find, fetch if necessary, check and load a model.

    ``reference`` is ``auto`` (the registry's choice for ``scale``), a registry name, ``user/repo[@revision]`` on the
    Hub, a folder with config.json and model.safetensors, a ``.safetensors`` with its config beside it, or a published
    ``.pth``. ``scale`` and ``lossy`` affect only ``auto``, and ``lossy`` prefers models for lossy sources. ``notify``
    is called with a message if a download is slow. Raises UnknownModelError, HubError, ModelError, DeviceError."""
    limit_kernel_caches()
    chosen_device = resolve_device(device)
    dtype = resolve_precision(precision, chosen_device)
    known = registry or load_registry()
    found = find_model(reference, known, scale, notify, lossy)
    network = found.network.to(chosen_device)
    network.dtype = dtype
    if not all(bool(value.to(dtype).isfinite().all()) for value in network.state_dict().values()):
        raise DeviceError(
            f"The weights of {found.identity.name} do not fit {precision}.", "Use fp32.", setting="precision"
        )
    return replace(
        found, network=network, notes=found.notes + device_notes(chosen_device) + precision_notes(chosen_device, dtype)
    )


def working_scale(model: LoadedModel, scale: float) -> float:
    """The scale at which a model runs for a requested scale. The result is resized bicubically if the two differ.

    On Set14, one run of ``builtin`` at its largest scale and then a bicubic filter give a higher PSNR than two runs:
    22.71 against at most 22.69 dB at x8, and 21.49 against 21.44 dB at x10.7. Raises ScaleError."""
    check_scale(scale)
    return model.scales.working_scale(scale)


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
    """Enlarge an image by ``scale``. The result has the type of the input.

    ``image`` is a float tensor (1, 3, h, w) or (3, h, w), RGB in [0, 1] (the result is float32 and not clamped); a
    uint8 or uint16 array (h, w, 3), RGB; or a PIL image (transparency is enlarged too, and the EXIF orientation is
    applied).

    ``routing`` is a Threshold, a Tradeoff or Adaptive, by default Threshold(0.5) for two branches. ``refine`` is the
    paper's #h (9: off). The default is 1 at x3 and above, and 9 below x3. ``tile`` is the side of a tile in LR pixels.
    Raises InputError, ScaleError, UsageError."""
    refine = usual_refine(scale) if refine is None else refine
    if not 0 <= refine <= NEVER or (tile is not None and tile < 1):
        raise UsageError(
            f"refine={refine}, tile={tile} is out of range.", "Use 0 to 9 for refine, and None or at least 1 for tile."
        )
    settings = Settings(routing or default_routing(model.network.spec.branches), refine=refine, tile=tile)
    if isinstance(image, Tensor):
        return _upscale_tensor(image, model, scale, settings, progress)
    if isinstance(image, Image.Image):
        done = upscale_image(read_pil(image), model, scale, settings, progress)
        return Upscaled(to_pil(done.image), done.branches, done.outcome, done.scale, done.working_scale)
    if not isinstance(image, np.ndarray):
        raise InputError(f"Cannot upscale a {type(image).__name__}.", "Use a tensor, an array or a PIL image.")
    if image.dtype not in (np.uint8, np.uint16) or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(
            f"An array of {image.dtype} {image.shape} is not an RGB image.", "Use uint8 or uint16 (h, w, 3)."
        )
    done = upscale_image(ImageData(image), model, scale, settings, progress)
    rgb: Any = done.image.rgb  # has the type of the input
    return Upscaled(rgb, done.branches, done.outcome, done.scale, done.working_scale)


def upscale_image(
    image: ImageData, model: LoadedModel, scale: float, settings: Settings, progress: Progress | None = None
) -> Upscaled[ImageData]:
    """Enlarge an image in memory. Raises ScaleError, UsageError."""
    at = working_scale(model, scale)
    size = hr_size(image.size, scale)
    upscaling = start_upscale(image, model, scale, settings, image.depth, progress=progress)
    rgb = np.empty((*size, 3), image.rgb.dtype)
    alpha = None if image.alpha is None else np.empty(size, image.rgb.dtype)
    branches = np.empty(upscaling.plan.hr_size, np.uint8)
    top = 0
    rows = output_rows(_keep_branches(upscaling, branches), image, upscaling.plan.hr_size, size, image.depth)
    for block in rows:
        part = slice(top, top := top + len(block))
        rgb[part] = block if alpha is None else block[..., :-1]
        if alpha is not None:
            alpha[part] = block[..., -1]
    return Upscaled(replace(image, rgb=rgb, alpha=alpha), branches, upscaling.outcome, scale, at)


def _keep_branches(rows: Iterable[HrRows], branches: NDArray[np.uint8]) -> Iterator[HrRows]:
    """Yield the rows unchanged and copy their branches to ``branches`` (H, W)."""
    top = 0
    for block in rows:
        branches[top : top + len(block.labels)] = block.labels.numpy()
        top += len(block.labels)
        yield block


def start_upscale(
    image: ImageData,
    model: LoadedModel,
    scale: float,
    settings: Settings,
    depth: int | None,
    *,
    p_heavy: bool = False,
    progress: Progress | None = None,
) -> Upscaling:
    """Start the upscale of an image at the working scale, with rows that suit ``output_rows`` for ``depth`` bits, or in
    float32 without ``depth``.

    Raises ScaleError, UsageError."""
    at = working_scale(model, scale)
    resized = hr_size(image.size, at) != hr_size(image.size, scale)
    dtype = torch.float32 if resized or depth is None else LEVELS[depth]
    lr = as_lr(fill_transparent(image.rgb, image.alpha))
    return run_engine(model.network, lr, at, settings, dtype=dtype, p_heavy=p_heavy, progress=progress)


def _upscale_tensor(
    image: Tensor, model: LoadedModel, scale: float, settings: Settings, progress: Progress | None
) -> Upscaled[Tensor]:
    lr = image[None] if image.ndim == 3 else image
    if lr.ndim != 4 or lr.shape[:2] != (1, 3) or not lr.numel() or not lr.is_floating_point():
        raise InputError(
            f"A tensor of {image.dtype} {tuple(image.shape)} is not an RGB image.", "Use float (1, 3, h, w) in [0, 1]."
        )
    if not -SPILL <= lr.min().item() <= lr.max().item() <= 1 + SPILL:
        raise InputError("The tensor's values are not in [0, 1].", "Divide 8-bit values by 255, 16-bit ones by 65535.")
    at = working_scale(model, scale)
    size = hr_size((lr.shape[2], lr.shape[3]), scale)
    rgb, branches, outcome = upscale_whole(model.network, lr.float(), at, settings, progress=progress)
    if size != outcome.plan.hr_size:
        rgb = torch.from_numpy(resize_bicubic(rgb.numpy(), *size))
    planes = rgb.permute(2, 0, 1).contiguous()
    result = (planes[None] if image.ndim == 4 else planes).to(image.device)
    return Upscaled(result, branches.numpy(), outcome, scale, at)
