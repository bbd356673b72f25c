"""Layers give the same result for the whole and for rows in any bands, also at the borders."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pcsr_cli.engine.fused.kernels import FusedConv
from pcsr_cli.engine.fused.rows import CascadeStage, Chain, ConvStage, Ledger, ResidualChain, RowWindow, Stage

CHANNELS = 3

heights = st.integers(1, 25)
band_heights = st.lists(st.integers(1, 7), min_size=25, max_size=25)


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def image(height: int, width: int = 6) -> Tensor:
    return randn(1, CHANNELS, height, width, seed=9).contiguous(memory_format=torch.channels_last)


def make_conv(kernel: int, seed: int, relu: bool = False) -> FusedConv:
    weight = randn(CHANNELS, CHANNELS, kernel, kernel, seed=seed) / (CHANNELS * kernel**2) ** 0.5
    return FusedConv(weight, randn(CHANNELS, seed=seed + 1), (0, kernel // 2), relu=relu)


def plain(conv: FusedConv, x: Tensor) -> Tensor:
    out = F.conv2d(x, conv.weight, conv.bias, padding=conv.weight.shape[2] // 2)
    return out.relu() if conv.relu else out


def in_bands(make: Callable[[int], Stage], x: Tensor, bands: list[int]) -> tuple[Tensor, int]:
    """The result of a stage for ``x`` in bands, and the number of bands of the result."""
    height = x.shape[2]
    stage, source, parts, start = make(height), RowWindow(height), [], 0
    for band in bands:
        if start >= height:
            break
        source.append(x[:, :, start : start + band], keep_from=stage.needs)
        start += band
        part = stage.advance(source)
        if part is not None:
            parts.append(part.clone())
    return torch.cat(parts, dim=2), len(parts)


@given(heights, band_heights, st.integers(0, 2))
def test_a_window_pads_its_rows_and_keeps_only_the_needed_ones(height: int, bands: list[int], radius: int) -> None:
    x, window, done, start = image(height), RowWindow(height), 0, 0
    padded = F.pad(x, (0, 0, radius, radius))
    for band in bands:
        if start >= height:
            break
        window.append(x[:, :, start : start + band], keep_from=done - radius)
        start += band
        stop = max(done, window.ready(radius))
        if stop > done:
            shown = window.rows(done - radius, stop + radius)
            assert torch.equal(shown, padded[:, :, done : stop + 2 * radius])
        done = stop
        assert window.data is not None and window.data.shape[2] <= 3 * (max(bands) + 6)
    assert done == height


@given(heights, band_heights, st.sampled_from([1, 3, 5]), st.booleans())
def test_a_convolution_matches_the_plain_one(height: int, bands: list[int], kernel: int, prelu: bool) -> None:
    x, conv = image(height), make_conv(kernel, seed=1)
    slope = torch.tensor([0.3]) if prelu else None
    expected = plain(conv, x)
    result, _ = in_bands(lambda _: ConvStage(conv, kernel // 2, slope), x, bands)
    assert torch.allclose(result, expected if slope is None else F.prelu(expected, slope), atol=1e-5)


@given(heights, band_heights)
def test_a_cascade_stage_matches_the_plain_layers_and_counts_repetitions(height: int, bands: list[int]) -> None:
    x, ledger = image(height), Ledger()
    convs = [make_conv(kernel, seed=kernel + i, relu=True) for i, kernel in enumerate((3, 3, 1))]
    inner = plain(convs[1], plain(convs[0], x))
    expected = (x + F.conv2d(inner, convs[2].weight, convs[2].bias)).relu()
    result, parts = in_bands(lambda _: CascadeStage(ledger, *convs), x, bands)
    assert torch.allclose(result, expected, atol=1e-5)
    assert ledger.repeated == parts * 2 * x.shape[3] * convs[0].flops_per_pixel


@given(heights, band_heights)
def test_a_chain_matches_its_layers(height: int, bands: list[int]) -> None:
    x = image(height)
    wide, narrow = (make_conv(kernel, seed=kernel) for kernel in (5, 1))
    result, _ = in_bands(lambda rows: Chain([ConvStage(wide, 2), ConvStage(narrow, 0)], rows), x, bands)
    assert torch.allclose(result, plain(narrow, plain(wide, x)), atol=1e-5)


@given(heights, band_heights, st.integers(1, 4))
def test_residual_blocks_match_the_plain_ones(height: int, bands: list[int], count: int) -> None:
    x, head = image(height), make_conv(3, seed=20)
    blocks = [(make_conv(3, seed=2 * i, relu=True), make_conv(3, seed=2 * i + 1)) for i in range(count)]
    expected = plain(head, x)
    for first, second in blocks:
        expected = expected + plain(second, plain(first, expected))
    result, _ = in_bands(lambda rows: ResidualChain(ConvStage(head, 1), blocks, rows), x, bands)
    assert torch.allclose(result, expected, atol=1e-5)
