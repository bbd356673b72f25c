"""One picture seen from all sides: enlarged by both branches and bicubically, swept, and packed for the page."""

import math
from collections.abc import Callable

import numpy as np
import torch

from pcsr_cli.engine.levels import to_levels
from pcsr_cli.measuring.metrics import luma, psnr
from pcsr_cli.measuring.pairs import Pair
from pcsr_cli.measuring.sweep import Options, explore, trace
from pcsr_cli.models import LoadedModel
from pcsr_cli.pages.page import PagePicture, point_cut
from pcsr_cli.pages.previews import choose_boundaries, make_previews
from pcsr_cli.resize import resize_bicubic_8bit


def see_picture(
    model: LoadedModel, pair: Pair, options: Options, progress: Callable[[float], None] | None = None
) -> PagePicture:
    """Explore and sweep a picture as ``sweep`` does, and keep what a page shows of it.

    ``progress`` is told the share done. Raises as ``sweep``.
    """
    report = progress or (lambda share: None)
    composer = explore(model, pair, options, lambda share: report(share / 2))
    curve = trace(model, pair, composer, options, lambda share: report(0.5 + 0.45 * share))
    height, width = composer.size
    bicubic = resize_bicubic_8bit(pair.lr, height, width)
    light, heavy = (to_levels(rgb, torch.uint8).numpy() for rgb in composer.branches.rgb)
    layers = {"bicubic": bicubic, "light": light, "heavy": heavy}
    quality = None
    if pair.hr is not None:
        layers["hr"] = pair.hr
        shave = math.ceil(options.scale)
        quality = psnr(luma(bicubic), luma(pair.hr), shave) if options.luma else psnr(bicubic, pair.hr, shave)
    boundaries = choose_boundaries([point_cut(point) for point in curve.points])
    interest = np.abs(luma(heavy) - luma(bicubic)).astype(np.float32)
    previews = make_previews(layers, composer.branches.difficulty.numpy(), boundaries, interest)
    report(1.0)
    lr_height, lr_width = pair.lr_size
    size = (width, height)
    return PagePicture(pair.name, (lr_width, lr_height), size, previews, boundaries, curve, quality)
