"""Pictures as PIL has them, of any mode, to and from levels."""

import numpy as np
import pytest
from PIL import Image, ImageCms

from pcsr_cli.errors import InputError
from pcsr_cli.images import modes
from pcsr_cli.images.image import ImageData, Metadata
from pcsr_cli.images.modes import from_pil, to_pil
from tests.failing import fails
from tests.images import deep_levels, levels

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"]
)
def test_every_eight_bit_mode_is_rgb_with_or_without_alpha(mode: str) -> None:
    picture = from_pil(of_mode(mode))
    assert picture.rgb.shape == (5, 6, 3)
    assert picture.rgb.dtype == np.uint8
    assert picture.rgb.flags.c_contiguous
    assert (picture.alpha is not None) == (mode in {"LA", "La", "PA", "RGBA", "RGBa"})
    assert picture.grey == (mode in {"1", "L", "LA", "La"})
    assert bool(picture.notes) == (mode in {"CMYK", "YCbCr", "HSV", "LAB"})


def of_mode(mode: str) -> Image.Image:
    if mode == "LAB":
        return Image.new("LAB", (6, 5), (128, 128, 128))
    image = Image.fromarray(levels(5, 6, 4)).convert("LA" if mode in {"La", "PA"} else "RGBA")
    if mode not in {"RGBA", "RGBa", "LA", "La", "PA"}:
        image = image.convert("RGB")
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "RGB", "RGBA", "RGBa"])
def test_bands_of_rows_make_the_same_picture(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = from_pil(of_mode(mode))
    monkeypatch.setattr(modes, "BAND_PIXELS", 12)
    in_bands = from_pil(of_mode(mode))
    assert np.array_equal(in_bands.channels(), whole.channels())


def test_lab_becomes_the_colour_it_means() -> None:
    grey = from_pil(Image.new("LAB", (2, 2), (137, 128, 128)))  # L* = 53.7, which is sRGB's middle grey
    assert np.abs(grey.rgb.astype(int) - 128).max() <= 2


class TestTransparency:
    def test_a_palette_keeps_its_colours_exactly(self) -> None:
        image = Image.new("P", (3, 1))
        image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
        image.putdata([0, 1, 2])
        image.info["transparency"] = b"\xff\x80\x00"
        picture = from_pil(image)
        assert picture.rgb.tolist() == [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]
        assert picture.alpha is not None
        assert picture.alpha.tolist() == [[255, 128, 0]]

    @pytest.mark.parametrize(("mode", "clear"), [("L", 7), ("RGB", (1, 2, 3)), ("P", 1)])
    def test_a_colour_that_is_clear_is_alpha(self, mode: str, clear: int | tuple[int, ...]) -> None:
        image = Image.new(mode, (5, 4), 100 if mode != "RGB" else (9, 9, 9))
        image.putpixel((2, 1), clear)
        image.info["transparency"] = clear
        alpha = from_pil(image).alpha
        assert alpha is not None
        assert np.argwhere(alpha == 0).tolist() == [[1, 2]]
        assert int(alpha.max()) == 255

    def test_also_of_sixteen_bits(self) -> None:
        image = Image.fromarray(np.array([[1000, 2000]], np.uint16))
        image.info["transparency"] = 2000
        alpha = from_pil(image).alpha
        assert alpha is not None
        assert alpha.tolist() == [[65535, 0]]


class TestInk:
    def test_without_a_profile_it_is_converted_plainly_and_that_is_noted(self) -> None:
        picture = from_pil(Image.new("CMYK", (2, 2), (0, 255, 255, 0)))
        assert picture.rgb[0, 0].tolist() == [255, 0, 0]
        assert picture.notes == ("CMYK was converted to RGB by the simple formula, because it has no profile",)
        assert picture.metadata.icc is None

    def test_with_a_profile_it_goes_through_that(self, monkeypatch: pytest.MonkeyPatch) -> None:
        image = Image.new("CMYK", (2, 2), (255, 0, 0, 0))
        image.info["icc_profile"] = b"what cyan means"

        def by_profile(given: Image.Image, icc: bytes) -> Image.Image:  # no profile of inks may be given away with this
            assert (given.mode, icc) == ("CMYK", b"what cyan means")
            return Image.new("RGB", given.size, (0, 174, 239))

        monkeypatch.setattr(modes, "to_srgb", by_profile)
        picture = from_pil(image)
        assert picture.rgb[0, 0].tolist() == [0, 174, 239]
        assert picture.notes == ("CMYK was converted to sRGB through its profile",)
        assert picture.metadata.icc is None

    def test_with_a_damaged_profile_too(self) -> None:
        image = Image.new("CMYK", (2, 2), (0, 255, 255, 0))
        image.info["icc_profile"] = b"no profile"
        picture = from_pil(image)
        assert picture.rgb[0, 0].tolist() == [255, 0, 0]
        assert picture.notes == ("CMYK was converted to RGB by the simple formula, because its profile is damaged",)
        assert picture.metadata.icc is None


def test_a_profile_stays_with_its_colours() -> None:
    for mode in ("L", "RGB", "RGBA", "P"):
        image = of_mode(mode)
        image.info["icc_profile"] = SRGB
        assert from_pil(image).metadata.icc == SRGB


def test_sixteen_bits_of_grey_are_taken() -> None:
    pixels = deep_levels(4, 5, 1)[..., 0]
    picture = from_pil(Image.fromarray(pixels))
    assert (picture.depth, picture.grey) == (16, True)
    assert all(np.array_equal(picture.rgb[..., channel], pixels) for channel in range(3))


def test_unknown_modes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> Image.Image:
        raise ValueError("conversion not supported")

    monkeypatch.setattr(Image.Image, "convert", unknown)
    with fails(InputError, "Images of mode RGB are not supported."):
        from_pil(Image.new("RGB", (3, 3)))


def test_nothing_cannot_be_enlarged() -> None:
    with fails(InputError, "The image has no pixels."):
        from_pil(Image.new("RGB", (0, 3)))


def test_pictures_become_pil_and_back() -> None:
    for grey, alpha, mode in ((False, False, "RGB"), (False, True, "RGBA"), (True, False, "L"), (True, True, "LA")):
        rgb = levels(3, 4, 1).repeat(3, axis=2) if grey else levels(3, 4)
        image = to_pil(ImageData(rgb, levels(3, 4, 1)[..., 0] if alpha else None, grey, Metadata(b"profile")))
        assert (image.mode, image.info["icc_profile"]) == (mode, b"profile")
        assert np.array_equal(from_pil(image).rgb, rgb)


def test_pil_has_sixteen_bits_for_grey_alone() -> None:
    deep = deep_levels(3, 4, 1).repeat(3, axis=2)
    assert np.array_equal(np.asarray(to_pil(ImageData(deep, grey=True))), deep[..., 0])
    assert to_pil(ImageData(deep)).mode == "RGB"


def test_numbers_are_refused_with_a_way_out() -> None:
    with fails(InputError, "Images with 32 bits a channel are not supported."):
        from_pil(Image.new("I", (3, 3)))
    with fails(InputError, "Floating-point images are not supported"):
        from_pil(Image.new("F", (3, 3)))
