"""Maps are the routing, pixel for pixel; the legend stays below them."""

import numpy as np
import pytest

from pcsr_cli.jobs.maps import (
    TINT,
    as_16_bit,
    coloured,
    difficulty_colours,
    difficulty_legend,
    mask,
    shares_legend,
    tinted,
)
from tests.images import levels

LABELS = np.random.default_rng(1).integers(0, 3, (20, 30)).astype(np.uint8)
DIFFICULTY = np.random.default_rng(2).random((20, 30), dtype=np.float32)


def test_overlay_tints_the_heavy_pixels_and_no_others() -> None:
    rgb, heavy = levels(20, 30), LABELS > 0
    drawn = tinted(rgb, heavy.astype(np.uint8), 2)
    assert np.array_equal(drawn[~heavy], rgb[~heavy])
    expected = np.rint(0.45 * rgb[heavy] + 0.55 * np.array(TINT))
    assert np.abs(drawn[heavy] - expected).max() <= 1


def test_overlay_tints_the_more_the_heavier() -> None:
    grey = np.full((20, 30, 3), 128, np.uint8)
    drawn = tinted(grey, LABELS, 3).astype(int)
    reds = [set(drawn[branch == LABELS][:, 0]) for branch in range(3)]
    assert [len(red) for red in reds] == [1, 1, 1]
    assert max(reds[0]) < max(reds[1]) < max(reds[2])


@pytest.mark.parametrize(("branches", "greys"), [(2, [0, 255]), (3, [0, 128, 255])])
def test_mask_is_black_to_white(branches: int, greys: list[int]) -> None:
    labels = LABELS.clip(0, branches - 1)
    drawn = mask(labels, branches)
    assert [np.unique(drawn[labels == branch]).tolist() for branch in range(branches)] == [[grey] for grey in greys]


def test_difficulty_has_the_colour_of_its_place_on_the_scale() -> None:
    scale = difficulty_colours()
    values = np.array([[0, 0.25, 0.5, 0.999, 1]], np.float32)
    assert np.array_equal(coloured(values)[0], scale[[0, 64, 128, 255, 255]])


def test_16_bits_are_the_nearest() -> None:
    assert np.abs(as_16_bit(DIFFICULTY) / 65535 - DIFFICULTY).max() <= 0.5 / 65535 + 1e-9
    assert as_16_bit(np.array([0, 1], np.float32)).tolist() == [0, 65535]


@pytest.mark.parametrize("width", [1, 7, 40, 300, 4000])
def test_a_legend_is_as_wide_as_its_map(width: int) -> None:
    for strip in (
        shares_legend(width, (730, 270)),
        shares_legend(width, (1, 2, 3), (1, 0)),
        difficulty_legend(width, (0.5,)),
        difficulty_legend(width, (-0.1, 1.2)),
    ):
        assert strip.shape[1:] == (width, 3) and strip.dtype == np.uint8


def test_a_legend_tells_of_the_shares() -> None:
    one, other = shares_legend(300, (730, 270)), shares_legend(300, (270, 730))
    assert one.shape == other.shape and (one != other).any()


def test_a_legend_shows_where_the_cut_is() -> None:
    low, high = (difficulty_legend(300, (cut,)).astype(int) for cut in (0.2, 0.8))
    changed = np.flatnonzero((low != high).any(axis=(0, 2)))
    assert changed.min() < 100 and changed.max() > 200


def test_what_was_forced_is_told() -> None:
    assert shares_legend(400, (50, 50), (0, 10)).shape == shares_legend(400, (50, 50)).shape
    assert (shares_legend(400, (50, 50), (0, 10)) != shares_legend(400, (50, 50))).any()
