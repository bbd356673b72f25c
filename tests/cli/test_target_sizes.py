"""``pcsr upscale`` to a target size: each image gets its own scale, and large images are copied, skipped or shrunk."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from tests.command import Pcsr, Ran
from tests.images import levels, load, save


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


class Sizes:
    """Runs ``pcsr upscale`` with the tiny model, which was trained for x4."""

    def __init__(self, run_pcsr: Pcsr, model: Path) -> None:
        self.run_pcsr, self.model, self.cwd = run_pcsr, model, run_pcsr.cwd

    def __call__(self, *arguments: str) -> Ran:
        return self.run_pcsr("upscale", *arguments, "--model", self.model)

    def sizes(self, folder: str) -> dict[str, tuple[int, int]]:
        """The (width, height) of each result."""
        return {path.name: size_of(path) for path in sorted((self.cwd / folder).glob("[!.]*"))}


@pytest.fixture
def upscale(run_pcsr: Pcsr, tiny_folder: Path) -> Sizes:
    (run_pcsr.cwd / "in").mkdir()
    for name, size in (("a.png", (8, 12)), ("b.png", (12, 8)), ("c.png", (40, 60))):
        save(run_pcsr.cwd / "in" / name, levels(*size))
    return Sizes(run_pcsr, tiny_folder)


@pytest.mark.parametrize(
    ("option", "size", "scale"),
    [
        (("--width", "30"), (30, 20), 2.5),
        (("--height", "64"), (96, 64), 8),
        (("--long-edge", "30"), (30, 20), 2.5),
        (("--short-edge", "30"), (45, 30), 3.75),
        (("--fit", "100x30"), (45, 30), 3.75),
        (("--megapixels", "0.0015"), (47, 31), 47 / 12),
        (("--print", "3x2cm@30dpi"), (34, 23), 23 / 8),
    ],
)
def test_an_image_gets_the_size(upscale: Sizes, option: tuple[str, str], size: tuple[int, int], scale: float) -> None:
    document = upscale("in/a.png", "out.png", *option, "--json").succeeded().document
    assert tuple(document["output_size"]) == size == size_of(upscale.cwd / "out.png")
    assert document["scale"] == pytest.approx(scale)
    assert document["routing"]["refine"] == (1 if scale >= 3 else 9)


def test_each_image_of_a_folder_gets_its_scale_and_large_ones_are_copied(upscale: Sizes) -> None:
    ran = upscale("in", "out", "--long-edge", "30").succeeded()
    names = [f"{name}_long-edge30.png" for name in "abc"]
    assert upscale.sizes("out") == dict(zip(names, [(30, 20), (20, 30), (60, 40)], strict=True))
    assert (upscale.cwd / "out" / names[2]).read_bytes() == (upscale.cwd / "in" / "c.png").read_bytes()
    assert "already that large: copied (1 of 3)" in ran.stderr
    again = upscale("in", "out", "--long-edge", "30", "--json").succeeded()
    assert again.document["totals"]["skipped"] == 3
    other = upscale("in", "out", "--long-edge", "30", "--if-larger", "shrink")
    other.failed(2, "was made with other options")


def test_large_images_are_skipped_on_request(upscale: Sizes) -> None:
    ran = upscale("in", "out", "--long-edge", "30", "--if-larger", "skip", "--json").succeeded()
    assert list(upscale.sizes("out")) == ["a_long-edge30.png", "b_long-edge30.png"]
    (skipped,) = ran.document["skipped"]
    assert skipped["why"] == "already that large" and skipped["source"].endswith("c.png")
    one = upscale("in/c.png", "out.png", "--long-edge", "60", "--if-larger", "skip").succeeded()
    assert "already that large" in one.stderr and not (upscale.cwd / "out.png").exists()


def test_large_images_are_shrunk_on_request(upscale: Sizes) -> None:
    ran = upscale("in", "out", "--long-edge", "30", "--if-larger", "shrink", "--json").succeeded()
    assert upscale.sizes("out")["c_long-edge30.png"] == (30, 20)
    report = ran.document["reports"][2]
    assert report["notes"] == ["already that large: reduced bicubically"]
    assert report["gflops"]["paper"]["pcsr"] == 0 and report["scale"] == 0.5


@pytest.mark.parametrize("policy", ["copy", "shrink"])
@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16"])
def test_copies_in_another_format_keep_the_pixels(upscale: Sizes, mode: str, policy: str) -> None:
    random = np.random.default_rng(0)
    shape = (10, 14, 4) if mode == "RGBA" else (10, 14)
    pixels = random.integers(0, 256 if mode != "I;16" else 65536, shape, np.uint8 if mode != "I;16" else np.uint16)
    Image.fromarray(pixels).save(upscale.cwd / "in.png")
    upscale("in.png", "out.tif", "--width", "14", "--if-larger", policy).succeeded()
    assert np.array_equal(load(upscale.cwd / "out.tif"), pixels)


def test_a_copied_animation_keeps_its_bytes(upscale: Sizes) -> None:
    frames = [Image.fromarray(levels(9, 14, seed=seed)) for seed in range(3)]
    frames[0].save(upscale.cwd / "in.gif", save_all=True, append_images=frames[1:])
    ran = upscale("in.gif", "out.gif", "--frames", "--width", "14", "--json").succeeded()
    assert ran.document["notes"] == ["already that large: copied"]
    assert (upscale.cwd / "out.gif").read_bytes() == (upscale.cwd / "in.gif").read_bytes()
    upscale("in.gif", "small.gif", "--frames", "--width", "7", "--if-larger", "shrink").succeeded()
    with Image.open(upscale.cwd / "small.gif") as small:
        assert isinstance(small, GifImageFile) and (small.size, small.n_frames) == ((7, 4), 3)


def test_a_map_of_an_image_that_is_not_enlarged_is_not_written(upscale: Sizes) -> None:
    upscale("in/c.png", "out.png", "--width", "30", "--map", "map.png").succeeded()
    assert not (upscale.cwd / "map.png").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--width 30 --height 30", ["--width and --height exclude each other."]),
        ("--scale 2 --fit 3x3", ["--scale and --fit exclude each other."]),
        ("--fit 30", ["Invalid size '30'"]),
        ("--print 30cm", ["Invalid print '30cm'"]),
    ],
)
def test_invalid_sizes_are_refused(upscale: Sizes, options: str, words: list[str]) -> None:
    upscale("in/a.png", "out.png", *options.split()).failed(2, *words)
