"""Every format with every kind of image: written, read and compared."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from pcsr_cli.api import load_model, upscale_image
from pcsr_cli.engine.rules import default_routing
from pcsr_cli.engine.upscale import Settings
from pcsr_cli.images.formats import FORMATS, Format, SaveOptions, fit
from pcsr_cli.images.image import ImageData, Metadata, Pixels
from pcsr_cli.images.read import read_image
from pcsr_cli.images.write import write_image
from pcsr_cli.model.registry import LoadedModel
from tests.images import deep_levels, levels, save_deep

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
HEIGHT, WIDTH = 16, 24


@dataclass(frozen=True)
class Kind:
    """A kind of image file, and the layout that is read from it."""

    mode: str
    grey: bool = False
    alpha: bool = False
    depth: int = 8


KINDS = (
    Kind("1", grey=True),
    Kind("L", grey=True),
    Kind("LA", grey=True, alpha=True),
    Kind("P"),
    Kind("P with transparency", alpha=True),
    Kind("RGB"),
    Kind("RGBA", alpha=True),
    Kind("CMYK"),
    Kind("I;16", grey=True, depth=16),
    Kind("LA;16", grey=True, alpha=True, depth=16),
    Kind("RGB;16", depth=16),
    Kind("RGBA;16", alpha=True, depth=16),
)
OUTPUTS = [format for format in FORMATS if format.installed]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.mode)
each_format = pytest.mark.parametrize("format", OUTPUTS, ids=lambda format: format.name)


def in_file(folder: Path, kind: Kind, pixels: Pixels | None = None) -> Path:
    """A file of a kind, in a format that supports it, with a profile."""
    if kind.depth == 16:
        chosen = deep_levels(HEIGHT, WIDTH, 4) if pixels is None else pixels
        order = {"I;16": [0], "LA;16": [0, 3], "RGB;16": [0, 1, 2], "RGBA;16": [0, 1, 2, 3]}[kind.mode]
        return save_deep(folder / "in.png", chosen[..., order])
    chosen = levels(HEIGHT, WIDTH, 4) if pixels is None else pixels
    image = Image.fromarray(chosen)
    options: dict[str, object] = {} if kind.mode == "CMYK" else {"icc_profile": ICC}
    if kind.mode.startswith("P"):
        image = image.convert("RGB").quantize(200)
        if kind.alpha:
            options["transparency"] = bytes(range(0, 200, 2))
    else:
        image = image.convert("RGB").convert(kind.mode) if kind.mode in {"1", "CMYK"} else image.convert(kind.mode)
    path = folder / ("in.tif" if kind.mode == "CMYK" else "in.png")
    image.save(path, **options)  # type: ignore[arg-type]
    return path


@each_kind
def test_each_kind_is_read_correctly(tmp_path: Path, kind: Kind) -> None:
    path = in_file(tmp_path, kind)
    data = read_image(path)
    assert data.size == (HEIGHT, WIDTH)
    assert (data.grey, data.alpha is not None, data.depth) == (kind.grey, kind.alpha, kind.depth)
    if kind.depth == 8:
        with Image.open(path) as image:
            assert np.array_equal(data.rgb, np.asarray(image.convert("RGBA").convert("RGB")))
            if data.alpha is not None:
                assert np.array_equal(data.alpha, np.asarray(image.convert("RGBA"))[..., 3])
    assert data.metadata.icc == (ICC if kind.depth == 8 and kind.mode != "CMYK" else None)
    assert bool(data.notes) == (kind.mode == "CMYK")


@each_format
@each_kind
def test_each_kind_round_trips_through_each_format(tmp_path: Path, kind: Kind, format: Format) -> None:
    image = read_image(in_file(tmp_path, kind))
    output = tmp_path / f"out{format.suffixes[0]}"
    if image.alpha is not None and not format.alpha:
        assert fit(ImageData(image.rgb).layout, format)  # without alpha it fits
        return
    layout, _ = fit(image.layout, format)
    write_image(output, image, options=SaveOptions(lossless=format.lossless == "on request"))
    found = read_image(output)
    assert found.size == image.size
    assert found.depth == layout.depth
    assert found.alpha is None or image.alpha is not None
    if format.lossless == "never":
        return
    assert found.grey == (image.grey and format.grey)
    expected = image if found.depth == image.depth else rounded(image)
    assert np.array_equal(found.rgb, expected.rgb)
    assert (found.alpha is None) == (expected.alpha is None)
    if found.alpha is not None and expected.alpha is not None:
        assert np.array_equal(found.alpha, expected.alpha)


def rounded(image: ImageData) -> ImageData:
    alpha = None if image.alpha is None else np.rint(image.alpha / 257).astype(np.uint8)
    return ImageData(np.rint(image.rgb / 257).astype(np.uint8), alpha, image.grey)


@each_format
def test_each_format_keeps_the_metadata_it_can_hold(tmp_path: Path, format: Format) -> None:
    tags = Image.Exif()
    tags[0x010F] = "Maker"
    tags[0x8825] = {1: "N", 2: (48.0, 8.0, 14.5)}
    icc = ICC.replace(b"rXYZ", b"?").replace(b"gXYZ", b"rXYZ").replace(b"?", b"gXYZ")  # red and green are swapped
    given = Metadata(icc, tags.tobytes().removeprefix(b"Exif\0\0"), b"<x:xmpmeta/>", (300, 150))
    output = tmp_path / f"out{format.suffixes[0]}"
    write_image(output, ImageData(levels(HEIGHT, WIDTH), metadata=given))
    found = read_image(output).metadata
    assert (b"<x:xmpmeta/>" in output.read_bytes()) == ("xmp" in format.metadata)
    assert (found.icc == given.icc) == ("icc" in format.metadata)  # a JPEG XL gets another profile
    assert found.dpi == (pytest.approx((300, 150), abs=0.02) if format.name != "GIF" else None)
    if "exif" in format.metadata:
        assert found.exif is not None
        kept = Image.Exif()
        kept.load(found.exif)
        assert kept[0x010F] == "Maker"
        assert kept.get_ifd(0x8825) == {1: "N", 2: (48.0, 8.0, 14.5)}


@each_format
def test_a_flat_colour_is_kept(tmp_path: Path, format: Format) -> None:
    flat = np.full((HEIGHT, WIDTH, 3), (40, 120, 200), np.uint8)
    output = tmp_path / f"out{format.suffixes[0]}"
    write_image(output, ImageData(flat))
    away = np.abs(read_image(output).rgb.astype(int) - flat).max()
    assert away <= (0 if format.lossless == "always" or format.name == "GIF" else 3)


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> LoadedModel:
    return load_model(str(tiny_folder))


def enlarged(image: ImageData, model: LoadedModel) -> ImageData:
    settings = Settings(default_routing(model.network.spec.branches), refine=1)
    return upscale_image(image, model, 4, settings).image


@each_kind
def test_upscaling_keeps_the_kind(tmp_path: Path, kind: Kind, model: LoadedModel) -> None:
    image = read_image(in_file(tmp_path, kind))
    result = enlarged(image, model)
    assert result.size == (4 * HEIGHT, 4 * WIDTH)
    assert (result.grey, result.alpha is not None, result.depth) == (kind.grey, kind.alpha, kind.depth)
    assert result.metadata == image.metadata


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_upscaling_keeps_more_than_256_values(tmp_path: Path, suffix: str, model: LoadedModel) -> None:
    ramp = np.linspace(20_000, 30_000, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH, 1).repeat(4, axis=2).astype(np.uint16)
    result = enlarged(read_image(in_file(tmp_path, Kind("RGB;16", depth=16), ramp)), model)
    write_image(tmp_path / f"out{suffix}", result)
    found = read_image(tmp_path / f"out{suffix}")
    assert found.depth == 16
    assert len(np.unique(found.rgb)) > 1000


@pytest.mark.parametrize("depth", [8, 16])
def test_opaque_areas_stay_exactly_opaque(tmp_path: Path, depth: int, model: LoadedModel) -> None:
    pixels = deep_levels(HEIGHT, WIDTH, 4) if depth == 16 else levels(HEIGHT, WIDTH, 4)
    top = np.iinfo(pixels.dtype).max
    pixels[..., 3] = top
    kind = Kind("RGBA;16" if depth == 16 else "RGBA", alpha=True, depth=depth)
    whole = enlarged(read_image(in_file(tmp_path, kind, pixels)), model)
    assert whole.alpha is not None and (whole.alpha == top).all()
    pixels[:, : WIDTH // 2, 3] = 0
    half = enlarged(read_image(in_file(tmp_path, kind, pixels)), model)
    assert half.alpha is not None
    assert (half.alpha[:, 4 * (WIDTH // 2 + 2) :] == top).all()
    assert (half.alpha[:, : 4 * (WIDTH // 2 - 2)] == 0).all()


@pytest.mark.parametrize("depth", [8, 16])
def test_hidden_colours_do_not_affect_the_result(depth: int, model: LoadedModel) -> None:
    y, x = np.mgrid[:32, :40]
    inside = (y - 16) ** 2 + (x - 20) ** 2 < 100
    dtype, top = (np.uint8, 255) if depth == 8 else (np.uint16, 65535)
    alpha = (inside * top).astype(dtype)
    results = []
    for hidden in (0, 1):  # black and white
        rgb = np.where(inside[..., None], np.array([0.2, 0.5, 0.1]), hidden) * top
        results.append(enlarged(ImageData(rgb.astype(dtype), alpha), model))
    assert np.array_equal(results[0].rgb, results[1].rgb)
    assert results[0].alpha is not None and results[1].alpha is not None
    assert np.array_equal(results[0].alpha, results[1].alpha)
