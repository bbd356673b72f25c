"""Conversion from and to each mode of Pillow."""

import numpy as np
import pytest
from PIL import Image, ImageCms

from pcsr_cli.errors import InputError
from pcsr_cli.images import image as image_module
from pcsr_cli.images import modes
from pcsr_cli.images.image import ImageData, Metadata
from pcsr_cli.images.modes import from_pil, to_pil
from tests.failing import fails
from tests.images import deep_levels, levels

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"]
)
def test_8_bit_modes_become_rgb_with_or_without_alpha(mode: str) -> None:
    image = from_pil(of_mode(mode))
    assert image.rgb.shape == (5, 6, 3)
    assert image.rgb.dtype == np.uint8
    assert image.rgb.flags.c_contiguous
    assert (image.alpha is not None) == (mode in {"LA", "La", "PA", "RGBA", "RGBa"})
    assert image.grey == (mode in {"1", "L", "LA", "La"})
    assert bool(image.notes) == (mode in {"CMYK", "YCbCr", "HSV", "LAB"})


def of_mode(mode: str) -> Image.Image:
    if mode == "LAB":
        return Image.new("LAB", (6, 5), (128, 128, 128))
    image = Image.fromarray(levels(5, 6, 4)).convert("LA" if mode in {"La", "PA"} else "RGBA")
    if mode not in {"RGBA", "RGBa", "LA", "La", "PA"}:
        image = image.convert("RGB")
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "RGB", "RGBA", "RGBa"])
def test_bands_of_rows_do_not_change_the_result(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = from_pil(of_mode(mode))
    monkeypatch.setattr(image_module, "BAND_PIXELS", 12)
    in_bands = from_pil(of_mode(mode))
    assert np.array_equal(in_bands.channels(), whole.channels())


def test_lab_is_converted_to_srgb() -> None:
    grey = from_pil(Image.new("LAB", (2, 2), (137, 128, 128)))  # L* = 53.7, which is sRGB's middle grey
    assert np.abs(grey.rgb.astype(int) - 128).max() <= 2


class TestTransparency:
    def test_palettes_keep_their_exact_colours(self) -> None:
        image = Image.new("P", (3, 1))
        image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
        image.putdata([0, 1, 2])
        image.info["transparency"] = b"\xff\x80\x00"
        data = from_pil(image)
        assert data.rgb.tolist() == [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]
        assert data.alpha is not None
        assert data.alpha.tolist() == [[255, 128, 0]]

    @pytest.mark.parametrize(("mode", "clear"), [("L", 7), ("RGB", (1, 2, 3)), ("P", 1)])
    def test_a_transparent_colour_becomes_alpha(self, mode: str, clear: int | tuple[int, ...]) -> None:
        image = Image.new(mode, (5, 4), 100 if mode != "RGB" else (9, 9, 9))
        image.putpixel((2, 1), clear)
        image.info["transparency"] = clear
        alpha = from_pil(image).alpha
        assert alpha is not None
        assert np.argwhere(alpha == 0).tolist() == [[1, 2]]
        assert int(alpha.max()) == 255

    def test_a_transparent_16_bit_grey_becomes_alpha(self) -> None:
        image = Image.fromarray(np.array([[1000, 2000]], np.uint16))
        image.info["transparency"] = 2000
        alpha = from_pil(image).alpha
        assert alpha is not None
        assert alpha.tolist() == [[65535, 0]]


class TestCmyk:
    @pytest.mark.parametrize(
        ("icc", "reason"), [(None, "because it has no profile"), (b"no profile", "because its profile is damaged")]
    )
    def test_without_a_usable_profile_the_simple_formula_is_used(self, icc: bytes | None, reason: str) -> None:
        image = Image.new("CMYK", (2, 2), (0, 255, 255, 0))
        if icc is not None:
            image.info["icc_profile"] = icc
        data = from_pil(image)
        assert data.rgb[0, 0].tolist() == [255, 0, 0]
        assert data.notes == (f"CMYK was converted to RGB by the simple formula, {reason}",)
        assert data.metadata.icc is None

    def test_the_profile_is_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        image = Image.new("CMYK", (2, 2), (255, 0, 0, 0))
        image.info["icc_profile"] = b"a profile"

        def by_profile(given: Image.Image, icc: bytes) -> Image.Image:
            assert (given.mode, icc) == ("CMYK", b"a profile")
            return Image.new("RGB", given.size, (0, 174, 239))

        monkeypatch.setattr(modes, "to_srgb", by_profile)
        data = from_pil(image)
        assert data.rgb[0, 0].tolist() == [0, 174, 239]
        assert data.notes == ("CMYK was converted to sRGB through its profile",)
        assert data.metadata.icc is None


def test_profiles_are_kept_with_their_colours() -> None:
    for mode in ("L", "RGB", "RGBA", "P"):
        image = of_mode(mode)
        image.info["icc_profile"] = SRGB
        assert from_pil(image).metadata.icc == SRGB


def test_16_bit_grey_is_kept() -> None:
    pixels = deep_levels(4, 5, 1)[..., 0]
    image = from_pil(Image.fromarray(pixels))
    assert (image.depth, image.grey) == (16, True)
    assert all(np.array_equal(image.rgb[..., channel], pixels) for channel in range(3))


def test_empty_images_and_unknown_modes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> Image.Image:
        raise ValueError("conversion not supported")

    with fails(InputError, "The image has no pixels."):
        from_pil(Image.new("RGB", (0, 3)))
    monkeypatch.setattr(Image.Image, "convert", unknown)
    with fails(InputError, "Images of mode RGB are not supported."):
        from_pil(Image.new("RGB", (3, 3)))


def test_images_round_trip_through_pillow() -> None:
    for grey, alpha, mode in ((False, False, "RGB"), (False, True, "RGBA"), (True, False, "L"), (True, True, "LA")):
        rgb = levels(3, 4, 1).repeat(3, axis=2) if grey else levels(3, 4)
        image = to_pil(ImageData(rgb, levels(3, 4, 1)[..., 0] if alpha else None, grey, Metadata(b"profile")))
        assert (image.mode, image.info["icc_profile"]) == (mode, b"profile")
        assert np.array_equal(from_pil(image).rgb, rgb)


def test_pillow_holds_16_bits_for_grey_only() -> None:
    deep = deep_levels(3, 4, 1).repeat(3, axis=2)
    assert np.array_equal(np.asarray(to_pil(ImageData(deep, grey=True))), deep[..., 0])
    assert to_pil(ImageData(deep)).mode == "RGB"
