"""Degradations: each step, and their specification."""

import numpy as np
import pytest

from pcsr_cli.errors import UsageError
from pcsr_cli.images.degrade import Degradation, blur, jpeg, noise, parse_degradation, reduce, webp
from pcsr_cli.images.resize import make_lr
from tests.failing import fails
from tests.images import levels

PICTURE = reduce(levels(96, 112), 48, 56, "area")
"""A picture with some detail and some colour."""


def error(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> float:
    """The mean square error of a degraded PICTURE."""
    return float(np.square(image.astype(float) - PICTURE).mean())


def test_codecs_lose_more_at_a_lower_quality_and_with_less_chroma() -> None:
    assert 0 < error(jpeg(PICTURE, 95)) < error(jpeg(PICTURE, 75)) < error(jpeg(PICTURE, 25))
    assert error(jpeg(PICTURE, 75, "444")) < error(jpeg(PICTURE, 75, "422")) < error(jpeg(PICTURE, 75, "420"))
    assert 0 < error(webp(PICTURE, 95)) < error(webp(PICTURE, 40))


def test_noise_and_blur_have_the_requested_deviation() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    assert noise(grey, 3, np.random.default_rng(0)).std() == pytest.approx(3, rel=0.02)
    step = np.zeros((9, 64, 3), np.uint8)
    step[:, 32:] = 255
    edge = np.diff(blur(step, 2)[4, :, 0].astype(float))  # the kernel
    offset = np.arange(63) - 31
    assert (edge * offset**2).sum() / edge.sum() == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("filter", ["bicubic", "area", "bilinear", "lanczos"])
def test_reductions_keep_a_constant_and_differ_from_each_other(filter: str) -> None:
    assert (reduce(np.full((9, 12, 3), 77, np.uint8), 3, 5, filter) == 77).all()
    others = {"bicubic", "area", "bilinear", "lanczos"} - {filter}
    assert all((reduce(PICTURE, 20, 20, filter) != reduce(PICTURE, 20, 20, other)).any() for other in others)


def test_steps_are_applied_in_their_order_and_repeat() -> None:
    degradation = parse_degradation("blur=0.6+noise=3+jpeg=75,444+webp=80")
    once = noise(blur(PICTURE, 0.6), 3, np.random.default_rng(0))
    for _ in range(2):
        assert (degradation.degrade(PICTURE) == webp(jpeg(once, 75, "444"), 80)).all()


def test_the_lr_image_is_reduced_first_or_where_the_specification_does() -> None:
    hr, size = levels(64, 96), (16, 24)
    assert (Degradation().make_lr(hr, size) == make_lr(hr, 4)).all()
    assert (parse_degradation("jpeg=75").make_lr(hr, size) == jpeg(make_lr(hr, 4), 75)).all()
    twice = parse_degradation("jpeg=90+reduce=area+jpeg=75").make_lr(hr, size)
    assert (twice == jpeg(reduce(jpeg(hr, 90), 16, 24, "area"), 75)).all()
    between = parse_degradation("reduce=lanczos,2+jpeg=90+reduce=bicubic").make_lr(hr, size)
    assert (between == reduce(jpeg(reduce(hr, 32, 48, "lanczos"), 90), 16, 24)).all()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("jpg=75", "there is no step 'jpg'"),
        ("jpeg", "the quality is a whole number from 1 to 100"),
        (f"jpeg={'9' * 5000}", "the quality is a whole number from 1 to 100"),
        ("jpeg=75.5", "the quality is a whole number from 1 to 100"),
        ("jpeg=75,411", "the chroma subsampling is one of 444, 422, 420"),
        ("webp=75,444", "webp takes fewer values"),
        ("webp=0", "the quality is a whole number from 1 to 100"),
        ("blur=nan", "'nan' is not a number above 0 and up to 10"),
        ("noise=1000", "'1000' is not a number above 0 and up to 100"),
        ("jpeg=75+", "there is no step ''"),
        ("reduce=cubic", "the filter is one of bicubic, area, bilinear, lanczos"),
        ("reduce=area,2+jpeg=75", "does not end at the LR size"),
    ],
)
def test_an_invalid_specification_is_refused(text: str, why: str) -> None:
    with fails(UsageError, why):
        parse_degradation(text)


def test_given_lr_images_are_not_reduced() -> None:
    with fails(UsageError, "reduces images, but the LR images are given"):
        parse_degradation("reduce=area").degrade(PICTURE)
