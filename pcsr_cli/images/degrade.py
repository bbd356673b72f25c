"""Degrade images as files and programs do: lossy codecs, blur, noise, and reductions other than bicubic.

Images are uint8 RGB (h, w, 3) and keep their size, except in ``reduce``. Pillow supplies the codecs.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from pcsr_cli.errors import UsageError
from pcsr_cli.images.resize import resize_bicubic_8bit

Rgb = NDArray[np.uint8]

SUBSAMPLINGS = ("444", "422", "420")
"""Chroma subsamplings of JPEG."""

FILTERS = {
    "area": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}
"""Filters of ``reduce`` besides "bicubic", all antialiased."""

MAX_BLUR, MAX_NOISE, MAX_FACTOR = 10.0, 100.0, 16.0


def jpeg(rgb: Rgb, quality: int, subsampling: str = "420") -> Rgb:
    """Save as JPEG and read it again. ``quality`` is libjpeg's, 1 to 100. ``subsampling`` is one of SUBSAMPLINGS."""
    return _saved(rgb, "JPEG", quality=quality, subsampling=SUBSAMPLINGS.index(subsampling))


def webp(rgb: Rgb, quality: int) -> Rgb:
    """Save as lossy WebP and read it again. ``quality`` is libwebp's, 1 to 100."""
    return _saved(rgb, "WEBP", quality=quality)


def blur(rgb: Rgb, sigma: float) -> Rgb:
    """Blur with a Gaussian. ``sigma`` is in pixels. Pillow approximates the Gaussian by three box filters of equal
    variance."""
    return np.asarray(Image.fromarray(rgb).filter(ImageFilter.GaussianBlur(sigma)))


def noise(rgb: Rgb, sigma: float, generator: "np.random.Generator") -> Rgb:
    """Add Gaussian noise, independent for each channel. ``sigma`` is in 8-bit values."""
    noisy = rgb + np.float32(sigma) * generator.standard_normal(rgb.shape, np.float32)
    return np.rint(noisy).clip(0, 255).astype(np.uint8)


def reduce(rgb: Rgb, height: int, width: int, filter: str = "bicubic") -> Rgb:
    """Reduce to (height, width, 3). ``filter`` is one of FILTERS, or "bicubic", which gives the numbers of MATLAB."""
    if filter == "bicubic":
        return resize_bicubic_8bit(rgb, height, width)
    return np.asarray(Image.fromarray(rgb).resize((width, height), FILTERS[filter]))


def _saved(rgb: Rgb, format: str, **options: int) -> Rgb:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, format, **options)
    with Image.open(file, formats=[format]) as image:
        return np.asarray(image)


@dataclass(frozen=True)
class Degradation:
    """Steps from an HR image to its LR image, parsed from ``text``.

    Without a step that reduces to the LR size, the image is reduced bicubically before the first step."""

    text: str = ""
    steps: tuple["Step", ...] = ()
    reduces: bool = False

    @property
    def lossy(self) -> bool:
        """Whether the LR image was saved by a lossy codec."""
        after_reduction = self.text.rpartition("reduce")[2]
        return "jpeg=" in after_reduction or "webp=" in after_reduction

    def make_lr(self, hr: Rgb, size: tuple[int, int]) -> Rgb:
        """Return the LR image of an HR image. ``size`` is the (height, width) of the result."""
        return self._apply(hr if self.reduces else reduce(hr, *size), size)

    def degrade(self, lr: Rgb) -> Rgb:
        """Degrade an LR image. Raises UsageError if a step reduces the image."""
        if self.reduces:
            raise UsageError(
                f"The degradation {self.text} reduces images, but the LR images are given.",
                "Remove reduce from the degradation.",
                setting="degrade",
            )
        return self._apply(lr, (lr.shape[0], lr.shape[1]))

    def _apply(self, rgb: Rgb, size: tuple[int, int]) -> Rgb:
        generator = np.random.default_rng(0)  # the noise is the same in every run
        for step in self.steps:
            rgb = step(rgb, size, generator)
        return rgb


Step = Callable[[Rgb, tuple[int, int], "np.random.Generator"], Rgb]
"""A function that degrades an image. The second argument of the function is the size (height, width) of the LR
image."""


def parse_degradation(text: str) -> Degradation:
    """Parse steps that are joined by ``+``, in their order. Raises UsageError.

    The steps are ``jpeg=75`` (4:2:0), ``jpeg=75,444``, ``webp=75``, ``blur=0.6``, ``noise=3``, ``reduce=area`` to the
    LR size, or ``reduce=area,2`` to a half. ``jpeg=90+reduce=area+jpeg=75`` saves, reduces, and saves again."""
    parts = text.split("+")
    try:
        steps = tuple(_parse_step(part) for part in parts)
    except ValueError as error:
        raise UsageError(
            f"Invalid degradation {text!r}: {error}.",
            "Use jpeg=75, jpeg=75,444, webp=75, blur=0.6, noise=3 or reduce=area, joined by +.",
            setting="degrade",
        ) from error
    to_lr = [part.startswith("reduce") and "," not in part for part in parts]
    if not any(to_lr) and any(part.startswith("reduce") for part in parts):
        raise UsageError(
            f"The degradation {text} does not end at the LR size.", "Add reduce=bicubic.", setting="degrade"
        )
    return Degradation(text, steps, any(to_lr))


def _parse_step(text: str) -> Step:
    name, _, arguments = text.partition("=")
    first, *others = arguments.split(",")
    if len(others) > (name in {"jpeg", "reduce"}):
        raise ValueError(f"{name} takes fewer values")
    match name:
        case "jpeg":
            quality, subsampling = parse_quality(first), others[0] if others else "420"
            if subsampling not in SUBSAMPLINGS:
                raise ValueError(f"the chroma subsampling is one of {', '.join(SUBSAMPLINGS)}")
            return lambda rgb, size, generator: jpeg(rgb, quality, subsampling)
        case "webp":
            quality = parse_quality(first)
            return lambda rgb, size, generator: webp(rgb, quality)
        case "blur":
            sigma = _number(first, MAX_BLUR)
            return lambda rgb, size, generator: blur(rgb, sigma)
        case "noise":
            sigma = _number(first, MAX_NOISE)
            return lambda rgb, size, generator: noise(rgb, sigma, generator)
        case "reduce":
            if first not in ("bicubic", *FILTERS):
                raise ValueError(f"the filter is one of bicubic, {', '.join(FILTERS)}")
            factor = _number(others[0], MAX_FACTOR) if others else None
            return lambda rgb, size, generator: reduce(rgb, *_reduced(rgb, size, factor), first)
    raise ValueError(f"there is no step {name!r}")


def _reduced(rgb: Rgb, size: tuple[int, int], factor: float | None) -> tuple[int, int]:
    """Return the size after a reduction by ``factor``, at least the LR size. Without a factor, return the LR size."""
    if factor is None:
        return size
    return max(size[0], round(rgb.shape[0] / factor)), max(size[1], round(rgb.shape[1] / factor))


def parse_quality(text: str) -> int:
    """Parse a quality of libjpeg or libwebp, 1 to 100. Raises ValueError."""
    if not text.isdecimal() or len(text) > 3 or not 1 <= int(text) <= 100:
        raise ValueError("the quality is a whole number from 1 to 100")
    return int(text)


def _number(text: str, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= most:
        raise ValueError(f"{text!r} is not a number above 0 and up to {most:g}")
    return value
