"""Splitting the first layer of an MLP changes the work and not the result."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pcsr_cli.model.sampler import PixelSampler

hidden_sizes = st.lists(st.integers(1, 12), max_size=4).map(tuple)


def sampler(width: int, hidden: tuple[int, ...], outputs: int, seed: int = 0) -> PixelSampler:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return PixelSampler(width, hidden, outputs).requires_grad_(False)


def test_layers_have_the_published_keys() -> None:
    state = sampler(52, (74, 74), 3).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == {
        "imnet.layers.0.weight": (74, 56),
        "imnet.layers.0.bias": (74,),
        "imnet.layers.2.weight": (74, 74),
        "imnet.layers.2.bias": (74,),
        "imnet.layers.4.weight": (3, 74),
        "imnet.layers.4.bias": (3,),
    }


def test_a_sampler_without_hidden_layers_is_linear() -> None:
    plain = sampler(8, (), 2)
    q = torch.randn(5, 12)
    assert list(plain.state_dict()) == ["imnet.layers.0.weight", "imnet.layers.0.bias"]
    assert torch.equal(plain(q), nn.functional.linear(q, plain.first.weight, plain.first.bias))


def test_relu_is_between_layers_and_not_after_the_last() -> None:
    mlp = sampler(2, (3,), 1)
    layers = list(mlp.imnet.layers)
    assert [type(layer) for layer in layers] == [nn.Linear, nn.ReLU, nn.Linear]


@given(st.integers(1, 10), hidden_sizes, st.integers(1, 4), st.integers(0, 100))
def test_the_split_first_layer_matches_the_formula(
    width: int, hidden: tuple[int, ...], outputs: int, seed: int
) -> None:
    mlp = sampler(width, hidden, outputs, seed)
    generator = torch.Generator().manual_seed(seed)
    lr_height, lr_width, rows, columns = 3, 4, 7, 5
    features = torch.randn(1, width, lr_height, lr_width, generator=generator)
    rel_y, rel_x = torch.rand(rows, generator=generator), torch.rand(columns, generator=generator)
    lr_index = torch.randint(lr_height * lr_width, (rows, columns), generator=generator)
    cell = (0.7, 0.9)

    row_terms, column_terms = mlp.coordinate_terms(rel_y, rel_x, cell)
    shared = features[0].flatten(1).T @ mlp.first.weight[:, :width].T
    split = mlp.finish((shared[lr_index] + row_terms[:, None] + column_terms).flatten(0, 1))
    assert torch.allclose(split, mlp(queries(features, lr_index, rel_y, rel_x, cell)), atol=1e-5)


def queries(features: Tensor, lr_index: Tensor, rel_y: Tensor, rel_x: Tensor, cell: tuple[float, float]) -> Tensor:
    """q of every pixel: feature, rel_y, rel_x, cell_y, cell_x."""
    flat = features[0].flatten(1).T
    pixels = [
        torch.cat((flat[lr_index[row, column]], torch.stack((y, x)), torch.tensor(cell)))
        for row, y in enumerate(rel_y)
        for column, x in enumerate(rel_x)
    ]
    return torch.stack(pixels)


def test_rows_are_before_columns() -> None:
    mlp = sampler(2, (), 1)
    mlp.first.weight.copy_(torch.tensor([[0.0, 0.0, 1.0, 10.0, 100.0, 1000.0]]))
    mlp.first.bias.zero_()
    rows, columns = mlp.coordinate_terms(torch.tensor([1.0, 2.0]), torch.tensor([3.0]), cell=(4.0, 5.0))
    assert rows[:, 0].tolist() == [1 + 400 + 5000, 2 + 400 + 5000]
    assert columns[:, 0].tolist() == [30]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_coordinates_keep_full_precision_until_the_end(dtype: torch.dtype) -> None:
    # rel and cell come in float32; rounding them before multiplying would shift pixels.
    mlp = sampler(4, (6,), 3).to(dtype)
    rel = torch.linspace(-1, 1, 50)
    rows, columns = mlp.coordinate_terms(rel, rel, (0.5, 0.5))
    weight, bias = mlp.first.weight.double(), mlp.first.bias.double()
    exact = rel.double()[:, None] * weight[:, 5]
    assert rows.dtype == columns.dtype == dtype
    assert torch.equal(columns, exact.float().to(dtype))
    exact_rows = rel.double()[:, None] * weight[:, 4] + bias + 0.5 * weight[:, 6] + 0.5 * weight[:, 7]
    assert torch.allclose(rows.double(), exact_rows, rtol=2 ** (-8 if dtype == torch.bfloat16 else -11), atol=1e-4)


def test_costs_of_a_pixel() -> None:
    mlp = sampler(52, (10, 10), 2)
    assert mlp.pixel_cost().paper == 2 * (56 * 10 + 10 * 10 + 10 * 2) == 1_360
    assert mlp.pixel_cost().executed == 2 * (10 * 10 + 10 * 2)
    assert mlp.shared_cost().executed == 2 * 52 * 10
    assert mlp.shared_cost().paper == 0
