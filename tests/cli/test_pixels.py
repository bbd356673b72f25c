"""``pcsr upscale`` with --background, --strength and --wrap, which change pixels and not the size."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pcsr_cli.images.image import ImageData, flatten
from pcsr_cli.images.resize import resize_bicubic
from tests.command import Pcsr
from tests.images import levels, load, save


class Upscale:
    """Runs ``pcsr upscale in.png OUT`` with the tiny model, which was trained for x4, and returns the result."""

    def __init__(self, run_pcsr: Pcsr, model: Path) -> None:
        self.run_pcsr, self.model, self.cwd = run_pcsr, model, run_pcsr.cwd

    def __call__(self, *arguments: str, output: str = "out.png") -> NDArray[Any]:
        self.run_pcsr("upscale", "in.png", output, "-m", self.model, "--overwrite", *arguments).succeeded()
        return load(self.cwd / output)

    def fails(self, *arguments: str, output: str = "out.png", code: int = 2) -> str:
        ran = self.run_pcsr("upscale", "in.png", output, "-m", self.model, "--overwrite", *arguments)
        return ran.failed(code).stderr


@pytest.fixture
def upscale(run_pcsr: Pcsr, tiny_folder: Path) -> Upscale:
    save(run_pcsr.cwd / "in.png", levels(9, 14))
    return Upscale(run_pcsr, tiny_folder)


# Background.


def save_transparent(path: Path, alpha: int, mode: str = "RGBA") -> None:
    image = Image.fromarray(levels(9, 14)).convert(mode)
    image.putalpha(alpha)
    image.save(path)


@pytest.mark.parametrize(("mode", "colour", "rgb"), [("RGBA", "#f00", (255, 0, 0)), ("LA", "white", (255,) * 3)])
def test_a_background_replaces_transparency(
    upscale: Upscale, mode: str, colour: str, rgb: tuple[int, int, int]
) -> None:
    save_transparent(upscale.cwd / "in.png", 0, mode)
    result = upscale("--background", colour, "--strength", "0", output="out.bmp")
    assert np.array_equal(np.broadcast_to(result[:1, :1], result.shape), result)
    assert tuple(np.ravel(result[0, 0])) in {rgb, rgb[:1]}


def test_a_format_with_transparency_keeps_it(upscale: Upscale) -> None:
    save_transparent(upscale.cwd / "in.png", 7)
    assert (upscale("--background", "red")[..., 3] == 7).all()


def test_transparency_without_a_background_is_refused_with_advice(upscale: Upscale) -> None:
    save_transparent(upscale.cwd / "in.png", 7)
    assert "use upscale --background white" in upscale.fails(output="out.jpg", code=2)
    assert "Unknown colour 'whit'" in upscale.fails("--background", "whit")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_opaque_pixels_keep_their_values_and_half_transparent_ones_are_mixed(dtype: Any) -> None:
    peak = np.iinfo(dtype).max
    rgb = np.random.default_rng(0).integers(0, peak, (5, 6, 3), dtype, endpoint=True)
    alpha = np.full((5, 6), peak, dtype)
    alpha[0], alpha[1] = 0, peak // 5
    flat = flatten(ImageData(rgb, alpha), (255, 0, 51))
    assert flat.alpha is None and flat.rgb.dtype == dtype
    assert np.array_equal(flat.rgb[2:], rgb[2:])
    assert (flat.rgb[0] == np.array([peak, 0, peak // 5])).all()
    assert np.abs(flat.rgb[1] - (rgb[1] * 0.2 + np.array([peak, 0, peak // 5]) * 0.8)).max() <= 0.5 + 1e-6


# Strength.


@pytest.mark.parametrize("scale", ["4", "2.5", "8"])
def test_strength_mixes_with_the_bicubic_result_and_is_exact_at_both_ends(upscale: Upscale, scale: str) -> None:
    image = levels(9, 14)
    whole = upscale("--scale", scale)
    bicubic = resize_bicubic(image.astype(np.float32) / np.float32(255), *whole.shape[:2]) * 255
    assert np.array_equal(upscale("--scale", scale, "--strength", "1"), whole)
    assert np.array_equal(upscale("--scale", scale, "--strength", "0"), np.rint(bicubic.clip(0, 255)))
    half = upscale("--scale", scale, "--strength", "0.5").astype(np.float32)
    inner = (whole > 0) & (whole < 255)  # the network's values are not clamped before they are mixed
    assert np.abs(half - (whole + bicubic) / 2)[inner & (bicubic > 0) & (bicubic < 255)].max() <= 0.8


@pytest.mark.parametrize("strength", ["-0.1", "1.01", "nan"])
def test_a_strength_out_of_range_is_refused(upscale: Upscale, strength: str) -> None:
    assert "Invalid strength" in upscale.fails("--strength", strength)


# Wrapping.


@pytest.mark.parametrize("options", [("--scale", "4"), ("--scale", "2"), ("--scale", "8"), ("--strength", "0.5")])
def test_a_rolled_texture_gives_the_rolled_result(upscale: Upscale, options: tuple[str, ...]) -> None:
    random = np.random.default_rng(0)
    texture = random.integers(0, 256, (9, 14, 4), np.uint8)
    texture[..., 3] |= 1  # colours of transparent pixels are replaced
    Image.fromarray(texture).save(upscale.cwd / "in.png")
    whole = upscale("--wrap", *options)
    scale = whole.shape[0] // 9
    assert whole.shape == (9 * scale, 14 * scale, 4)
    Image.fromarray(np.roll(texture, (4, -5), (0, 1))).save(upscale.cwd / "in.png")
    rolled = upscale(*options, "--tile", "8", "--wrap")
    difference = np.abs(np.roll(whole, (4 * scale, -5 * scale), (0, 1)).astype(int) - rolled)
    assert (difference > 1).mean() < 0.002  # where rounding decides the routing
    assert not np.array_equal(upscale(*options), rolled)


def test_wrapping_along_x_changes_only_the_left_and_right_edges(upscale: Upscale) -> None:
    save(upscale.cwd / "in.png", levels(9, 40))
    plain, wrapped = upscale(), upscale("--wrap", "x")
    changed = (plain != wrapped).any(axis=(0, 2))
    assert changed[0] and changed[-1] and not changed[64:96].any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--scale 2.5", "A wrapped image needs an integer scale, not 2.5."),
        ("--adm", "ADM and budgets cannot route a wrapped image."),
        ("--budget 99%", "ADM and budgets cannot route a wrapped image."),
        ("--map map.png", "A wrapped image has no maps and masks."),
    ],
)
def test_what_cannot_be_wrapped_is_refused(upscale: Upscale, options: str, words: str) -> None:
    assert words in upscale.fails("--wrap", *options.split())
