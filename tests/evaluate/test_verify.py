"""Variants of the computation compared with the whole image: small differences pass, larger ones fail."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcsr_cli.engine.rules import Adaptive, Threshold
from pcsr_cli.engine.upscale import Settings, predict_branches, upscale_whole
from pcsr_cli.evaluate import verify as verification
from pcsr_cli.evaluate.verify import EXACT, LOWER, Comparison, Tolerance, crop_middle, variants, verify
from tests.images import levels
from tests.tiny import BACKBONES, changeable_model, lowered, tiny_model

IMAGE = levels(50, 43)


@pytest.mark.parametrize(
    "backbone", [pytest.param(name, marks=[pytest.mark.slow] * (name == "carn")) for name in BACKBONES]
)
def test_all_variants_pass(backbone: str) -> None:
    found = verify(tiny_model(backbone), IMAGE, 2)
    assert all(one.passed for one in found)
    names = [one.variant for one in found if one.routing == "ADM"]
    assert names == ["tiles of 41", "tiles of 25", "2 threads", "features computed twice"]
    assert [one.variant for one in found if one.routing == "threshold 0.5"] == names[:-1]
    assert all(one.pixels == 8600 for one in found)


def test_a_model_with_three_branches_is_compared_by_adm() -> None:
    found = verify(tiny_model("fsrcnn", branches=3), IMAGE, 2, tiles=[20])
    assert all(one.passed for one in found)
    assert {one.routing for one in found} == {"ADM"}


def test_images_of_8_and_16_bits_give_the_same_comparisons() -> None:
    eight, sixteen = (
        verify(tiny_model("dense"), rgb, 2, [20]) for rgb in (IMAGE[:24], IMAGE[:24].astype(np.uint16) * 257)
    )
    assert eight == sixteen


def test_tiles_with_too_small_a_halo_fail() -> None:
    model = changeable_model("carn")
    model.encoder.receptive_radius = 1
    tiled = [one for one in verify(model, IMAGE, 2) if one.variant.startswith("tiles")]
    assert tiled and not any(one.passed for one in tiled)
    assert all(one.difference > 1e-3 and one.levels > 0 and one.changed > 100 for one in tiled)


@pytest.mark.parametrize(("tie", "passed"), [(0.0, False), (1.0, True)], ids=["no tie", "a tie"])
def test_only_pixels_on_the_cut_may_change_branch(monkeypatch: pytest.MonkeyPatch, tie: float, passed: bool) -> None:
    model = tiny_model("fsrcnn")
    nearest = _nearest_to_cut(model)
    _flip_when_tiled(monkeypatch, nearest)
    monkeypatch.setattr(verification, "TIE", tie)
    tiled = verify(model, IMAGE, 1, [20])[0]
    assert (tiled.variant, tiled.flipped, tiled.ties, tiled.passed) == ("tiles of 20", 1, int(passed), passed)
    # The flipped pixel and its neighbours are not compared.
    assert tiled.changed == 3 and tiled.levels == 0 and tiled.difference < 1e-5


def _nearest_to_cut(model: Any) -> tuple[int, int]:
    lr = torch.from_numpy(IMAGE.copy()).permute(2, 0, 1)[None]
    distance = (predict_branches(model, lr, 1, Settings(refine=1)).difficulty - 0.5).abs()
    row, column = divmod(int(distance.argmin()), distance.shape[1])
    return row, column


def _flip_when_tiled(monkeypatch: pytest.MonkeyPatch, at: tuple[int, int]) -> None:
    """Give one pixel of each tiled result the other branch and another colour."""
    original = upscale_whole

    def flipping(model: Any, lr: Any, scale: Any, settings: Settings, **named: Any) -> Any:
        rgb, labels, outcome = original(model, lr, scale, settings, **named)
        if settings.tile == 20:
            labels[at] = 1 - labels[at]
            rgb[at] += torch.where(rgb[at] < 0.5, 0.3, -0.3)
        return rgb, labels, outcome

    monkeypatch.setattr(verification, "upscale_whole", flipping)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_has_a_larger_tolerance(dtype: torch.dtype) -> None:
    lower = lowered(tiny_model("carn"), dtype)
    found = verify(tiny_model("carn"), IMAGE, 2, tiles=[60], lower=lower)
    halves = [one for one in found if one.variant == str(dtype).removeprefix("torch.")]
    assert len(halves) == 2 and all(one.passed for one in found)
    assert all(one.tolerance == LOWER[dtype] and one.difference > 1e-5 for one in halves)


def test_half_precision_beyond_its_tolerance_fails() -> None:
    lower = lowered(tiny_model("carn"), torch.float16)
    for sampler in lower.samplers:
        sampler.imnet.layers[-1].bias.add_(0.1)  # type: ignore[operator]
    found = verify(tiny_model("carn"), IMAGE, 1, tiles=[60], lower=lower)
    assert not all(one.passed for one in found)


@pytest.mark.parametrize("present", [1, 2])
def test_the_number_of_threads_is_restored(present: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(present)
    try:
        tried = variants(tiny_model("dense"), (9, 9), 2, Threshold(), [], None)
        other = [variant.threads for variant in tried if variant.threads]
        verify(tiny_model("dense"), levels(9, 9), 2)
        assert (torch.get_num_threads(), other) == (present, [3 - present])
    finally:
        torch.set_num_threads(before)


def test_an_image_that_is_tiled_by_default_is_compared_with_default_tiles() -> None:
    def names(tiles: list[int]) -> list[str]:
        return [variant.name for variant in variants(tiny_model("dense"), (40, 1600), 2, Adaptive(), tiles, None)]

    assert names([])[0] == "default tiles" and "default tiles" not in names([9])


def test_progress_rises_to_one() -> None:
    shares: list[float] = []
    verify(tiny_model("fsrcnn"), levels(12, 12), 2, [8], progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)


def comparison(**changes: Any) -> Comparison:
    facts: dict[str, Any] = {"routing": "ADM", "variant": "", "tolerance": EXACT, "pixels": 1000, "difference": 0.0}
    facts |= {"levels": 0, "changed": 0, "flipped": 0, "ties": None}
    return Comparison(**(facts | changes))


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, True),
        ({"difference": 1e-5, "levels": 1, "changed": 7}, True),
        ({"difference": 1.1e-5}, False),
        ({"flipped": 2, "ties": 2}, True),
        ({"flipped": 2, "ties": 1}, False),
        ({"tolerance": Tolerance(0.1, 0.05), "difference": 0.1, "flipped": 50}, True),
        ({"tolerance": Tolerance(0.1, 0.05), "flipped": 51}, False),
    ],
    ids=str,
)
def test_a_comparison_passes_within_its_tolerance(changes: dict[str, Any], passed: bool) -> None:
    assert comparison(**changes).passed is passed


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_the_crop_is_in_the_middle(height: int, width: int, side: int) -> None:
    rgb = np.dstack([*np.indices((height, width)), np.zeros((height, width))]).astype(np.uint8)
    middle = crop_middle(rgb, side)
    assert middle.shape == (min(height, side), min(width, side), 3)
    top, left = middle[0, 0, :2]
    bottom, right = (
        int(length) - 1 - int(last) for length, last in zip((height, width), middle[-1, -1, :2], strict=True)
    )
    assert abs(int(top) - bottom) <= 1 and abs(int(left) - right) <= 1
