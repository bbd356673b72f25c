"""Refinement smooths only light pixels beside heavy ones."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pcsr_cli.engine.refine import refine, refine_bands
from pcsr_cli.engine.rules import NEVER
from tests.reference import smooth_seams

sides = st.integers(1, 12)
strengths = st.integers(0, 9)


def case(height: int, width: int, seed: int, share: float = 0.3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randn(3, height, width, generator=generator)
    return prediction, torch.rand(height, width, generator=generator) < share


@given(sides, sides, st.integers(0, 1000), st.floats(0, 1), strengths)
def test_refinement_matches_the_definition(height: int, width: int, seed: int, share: float, minimum: int) -> None:
    prediction, heavy = case(height, width, seed, share)
    expected = smooth_seams(prediction[None], heavy, minimum)[0]
    refined = refine(prediction.clone(), heavy, minimum)
    assert torch.allclose(refined, expected, atol=1e-6)
    unchanged = (expected == prediction).all(dim=0)
    assert torch.equal(refined[:, unchanged], prediction[:, unchanged])


@given(sides, sides, st.integers(0, 1000), strengths)
def test_heavy_pixels_and_the_border_are_unchanged(height: int, width: int, seed: int, minimum: int) -> None:
    prediction, heavy = case(height, width, seed)
    kept = heavy.clone()
    kept[[0, -1], :] = True
    kept[:, [0, -1]] = True
    assert torch.equal(refine(prediction.clone(), heavy, minimum)[:, kept], prediction[:, kept])


def test_minimum_zero_replaces_every_inner_light_pixel() -> None:
    prediction, _ = case(6, 7, seed=1)
    changed = (refine(prediction.clone(), torch.zeros(6, 7, dtype=torch.bool), 0) != prediction).all(dim=0)
    inside = torch.zeros(6, 7, dtype=torch.bool)
    inside[1:-1, 1:-1] = True
    assert torch.equal(changed, inside)


def test_nine_neighbours_are_never_reached() -> None:
    prediction, heavy = case(8, 8, seed=2, share=1.0)
    heavy[4, 4] = False
    assert torch.equal(refine(prediction.clone(), heavy, NEVER), prediction)
    assert not torch.equal(refine(prediction.clone(), heavy, NEVER - 1), prediction)


def test_means_are_of_the_prediction_before_any_replacement() -> None:
    prediction = torch.arange(25.0).view(1, 5, 5).repeat(3, 1, 1) ** 2
    heavy = torch.zeros(5, 5, dtype=torch.bool)
    heavy[2, 2] = True
    refined = refine(prediction.clone(), heavy, 1)
    assert refined[0, 1, 1].item() == pytest.approx(prediction[0, 0:3, 0:3].mean().item())
    assert refined[0, 1, 2].item() == pytest.approx(prediction[0, 0:3, 1:4].mean().item())


@given(sides, sides, st.integers(0, 1000), st.floats(0, 1), strengths, st.lists(st.integers(1, 5), min_size=12))
def test_refining_in_bands_equals_refining_the_whole(
    height: int, width: int, seed: int, share: float, minimum: int, bands: list[int]
) -> None:
    prediction, heavy = case(height, width, seed, share)
    edges = list(itertools.accumulate(bands, initial=0))
    pairs = [(prediction[:, a:b].clone(), heavy[a:b].byte()) for a, b in itertools.pairwise(edges) if a < height]
    parts = list(refine_bands(pairs, minimum))
    assert torch.equal(torch.cat([rgb for rgb, _ in parts], dim=1), refine(prediction, heavy, minimum))
    assert torch.equal(torch.cat([labels for _, labels in parts]), heavy.byte())


def test_refined_rows_lag_by_no_more_than_one() -> None:
    prediction, heavy = case(6, 5, seed=5)
    rows = ((prediction[:, row : row + 1], heavy[row : row + 1].byte()) for row in range(6))
    assert [len(labels) for _, labels in refine_bands(rows, 1)] == [0, 1, 1, 1, 1, 1, 1]


def test_rows_pass_through_without_refinement() -> None:
    prediction, heavy = case(3, 5, seed=6)
    ((rgb, _),) = refine_bands([(prediction, heavy.byte())], NEVER)
    assert rgb is prediction
