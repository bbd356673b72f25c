"""Prepared MLPs follow the formula."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pcsr_cli.engine.fused import samplers
from pcsr_cli.engine.fused.samplers import PreparedMlp, in_output_units, one_logit
from pcsr_cli.engine.grid import make_axis
from pcsr_cli.model.sampler import PixelSampler

CPU = torch.device("cpu")
LR_SIZE, HR_SIZE = (3, 4), (7, 9)

hidden_sizes = st.lists(st.integers(1, 12), max_size=4).map(tuple)


def sampler(width: int, hidden: tuple[int, ...], outputs: int, seed: int = 0) -> PixelSampler:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return PixelSampler(width, hidden, outputs).requires_grad_(False)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def prepared_and_plain(mlp: PixelSampler, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs (outputs, N) at some of the HR pixels of a small image: prepared, and by the formula."""
    rows, columns = (make_axis(lr, hr, 0, hr, CPU) for lr, hr in zip(LR_SIZE, HR_SIZE, strict=True))
    features = randn(mlp.width, *LR_SIZE)
    row, column = pixels // HR_SIZE[1], pixels % HR_SIZE[1]
    lr_index = rows.nearest[row] * LR_SIZE[1] + columns.nearest[column]
    cell = torch.tensor((rows.cell, columns.cell)).expand(len(pixels), 2)
    q = torch.cat((features.flatten(1).T[lr_index], rows.rel[row, None], columns.rel[column, None], cell), dim=1)
    prepared = PreparedMlp(mlp)
    lr_pixels = LR_SIZE[0] * LR_SIZE[1]
    bags = torch.stack((lr_index, row + lr_pixels, column + lr_pixels + HR_SIZE[0]), dim=1)
    return prepared.at(prepared.table(features, rows, columns), bags.int()), mlp(q).T


@given(st.integers(1, 10), hidden_sizes, st.integers(1, 4), st.lists(st.integers(0, 62), max_size=70))
def test_a_prepared_mlp_follows_the_formula(
    width: int, hidden: tuple[int, ...], outputs: int, pixels: list[int]
) -> None:
    mlp, chosen = sampler(width, hidden, outputs), torch.tensor(pixels, dtype=torch.int64)
    prepared, plain = prepared_and_plain(mlp, chosen)
    assert prepared.shape == plain.shape
    assert torch.allclose(prepared, plain, atol=1e-5)


@given(hidden_sizes, st.integers(0, 40))
def test_pieces_do_not_change_the_result(hidden: tuple[int, ...], count: int) -> None:
    mlp = PreparedMlp(sampler(5, hidden, 3))
    axis = make_axis(2, 2, 0, 2, CPU)
    table = mlp.table(randn(5, 2, 2), axis, axis)
    bags = torch.randint(len(table), (count, 3), generator=torch.Generator().manual_seed(count)).int()
    whole = mlp.at(table, bags)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samplers, "PIECE", 8)
        patch.setattr(samplers, "PART", 3)
        pieces = mlp.at(table, bags)
    assert torch.allclose(pieces, whole, atol=1e-5)


@given(hidden_sizes)
def test_planes_hold_the_terms_of_the_table(hidden: tuple[int, ...]) -> None:
    mlp, features = PreparedMlp(sampler(5, hidden, 3)), randn(5, *LR_SIZE)
    axes = [make_axis(lr, hr, 0, hr, CPU) for lr, hr in zip(LR_SIZE, HR_SIZE, strict=True)]
    of_pixels, of_rows, of_columns = mlp.planes(features, *axes)
    terms = torch.cat((of_pixels.transpose(0, 1).flatten(1), of_rows[:, :, 0].T, of_columns), dim=1)
    assert torch.allclose(terms.T, mlp.table(features, *axes), atol=1e-6)


@given(hidden_sizes)
def test_one_logit_matches_two_logits(hidden: tuple[int, ...]) -> None:
    classifier, q = sampler(5, hidden, 2), randn(40, 9)
    heavy = one_logit(classifier)(q).sigmoid()
    assert heavy.shape == (40, 1)
    assert torch.allclose(heavy[:, 0], classifier(q).softmax(dim=1)[:, 1], atol=1e-6)


@given(hidden_sizes)
def test_residuals_are_in_output_units(hidden: tuple[int, ...]) -> None:
    mlp, q, std = sampler(5, hidden, 3), randn(40, 9), (0.2, 0.5, 1.0)
    assert torch.allclose(in_output_units(mlp, std)(q), mlp(q) * torch.tensor(std), atol=1e-6)


@pytest.mark.parametrize("prepare", [one_logit, lambda mlp: in_output_units(mlp, (2.0, 3.0, 4.0))])
def test_the_plain_network_is_not_modified(prepare: object) -> None:
    assert callable(prepare)
    mlp = sampler(5, (4,), 2 if prepare is one_logit else 3)
    before = {key: value.clone() for key, value in mlp.state_dict().items()}
    prepare(mlp)
    assert all(torch.equal(value, before[key]) for key, value in mlp.state_dict().items())
