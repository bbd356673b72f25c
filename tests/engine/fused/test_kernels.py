"""Fused operations match the plain ones, with oneDNN or without."""

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pcsr_cli.engine.fused import kernels
from pcsr_cli.engine.fused.kernels import FusedConv, onednn_problem, onednn_usable, precision_notes

TOLERANCE = 1e-5


@pytest.fixture(autouse=True)
def cleared_cache() -> Iterator[None]:
    onednn_problem.cache_clear()
    yield
    onednn_problem.cache_clear()


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Normal values."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def conv_case(groups: int, each: int, out: int, kernel: int, bias: bool, relu: bool) -> tuple[FusedConv, Tensor]:
    weight = randn(groups * out, each, kernel, kernel) / (each * kernel * kernel) ** 0.5
    conv = FusedConv(weight, randn(groups * out, seed=1) if bias else None, (0, kernel // 2), groups, relu)
    return conv, weight


def plain(conv: FusedConv, weight: Tensor, x: Tensor, add: Tensor | None) -> Tensor:
    out = F.conv2d(x, weight, conv.bias, padding=(0, weight.shape[2] // 2), groups=conv.groups)
    out = out if add is None else out + add
    return out.relu() if conv.relu else out


@given(
    *(st.integers(1, 4), st.integers(1, 14), st.integers(1, 14), st.sampled_from([1, 3, 5])),
    *(st.booleans(), st.booleans(), st.booleans(), st.integers(5, 9), st.integers(1, 9)),
)
def test_a_fused_convolution_matches_the_plain_one(
    groups: int,
    each: int,
    out: int,
    kernel: int,
    bias: bool,
    relu: bool,
    add: bool,
    height: int,
    width: int,
) -> None:
    conv, weight = conv_case(groups, each, out, kernel, bias, relu)
    x = randn(1, groups * each, height, width, seed=2).contiguous(memory_format=torch.channels_last)
    shape = (1, groups * out, height - kernel + 1, width)
    term = randn(*shape, seed=3).contiguous(memory_format=torch.channels_last) if add else None
    expected = plain(conv, weight, x, term)
    result = conv(x) if term is None else conv.accumulate(x, term)
    assert torch.allclose(result, expected, atol=TOLERANCE)
    assert term is None or result is term, "the sum should be in place"


def test_rows_of_a_larger_image_are_accepted() -> None:
    conv, weight = conv_case(2, 4, 4, 3, bias=True, relu=True)
    x = randn(1, 8, 20, 9).contiguous(memory_format=torch.channels_last)[:, :, 5:14]
    term = randn(1, 8, 30, 9, seed=4).contiguous(memory_format=torch.channels_last)[:, :, 3:10]
    assert torch.allclose(conv.accumulate(x, term.clone()), plain(conv, weight, x, term), atol=TOLERANCE)


@pytest.mark.parametrize("name", ["_convolution_pointwise", "_reorder_convolution_weight"])
def test_missing_private_operators_are_replaced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        def __getattr__(self, attribute: str) -> object:
            if attribute == name:
                raise AttributeError(attribute)
            return getattr(torch.ops.mkldnn, attribute)

    class Operators:
        mkldnn = Missing()

    class Torch:
        ops = Operators()

        def __getattr__(self, attribute: str) -> object:
            return getattr(torch, attribute)

    monkeypatch.setattr(kernels, "torch", Torch())
    assert name in (onednn_problem(torch.float32) or "")
    assert_plain_operations_are_used()


@pytest.mark.parametrize("wrong", [lambda out: 1.001 * out, lambda out: out * torch.nan], ids=["off", "NaN"])
def test_wrong_operators_are_replaced(wrong: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    original = FusedConv._convolve

    def convolve(conv: FusedConv, x: Tensor, relu: bool) -> Tensor:
        out = original(conv, x, relu)
        return out if conv.packed is None else wrong(out)

    with monkeypatch.context() as patch:
        patch.setattr(FusedConv, "_convolve", convolve)
        assert "other numbers" in (onednn_problem(torch.float32) or "")
    assert_plain_operations_are_used()


def test_the_operators_are_tested_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert onednn_usable(torch.empty(1))
    monkeypatch.setattr(kernels, "_convolutions_agree", lambda _: False)
    assert onednn_usable(torch.empty(1))


def assert_plain_operations_are_used() -> None:
    assert not onednn_usable(torch.empty(1))
    conv, weight = conv_case(2, 3, 3, 3, bias=True, relu=True)
    assert conv.packed is None and conv.flops_per_pixel == 2 * 3 * 6 * 9
    x = randn(1, 6, 7, 7)
    assert torch.allclose(conv(x), plain(conv, weight, x, None), atol=TOLERANCE)


@pytest.mark.parametrize(
    "like", [torch.empty(1, device="meta"), torch.empty(1, dtype=torch.float16)], ids=["meta", "float16"]
)
def test_other_devices_and_precisions_use_plain_operations(like: Tensor) -> None:
    assert not onednn_usable(like)


@pytest.mark.parametrize("present", [True, False], ids=["instructions", "none"])
def test_bfloat16_is_used_if_the_cpu_has_instructions_for_it(present: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if present and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("PyTorch does not compute in bfloat16 on this CPU")
    monkeypatch.setattr(kernels, "_computes_in_bfloat16", lambda: present)
    assert onednn_usable(torch.empty(1, dtype=torch.bfloat16)) == present
    notes = precision_notes(torch.device("cpu"), torch.bfloat16)
    assert ["bfloat16 may be slower than float32" in note for note in notes] == ([] if present else [True])
    assert precision_notes(torch.device("meta"), torch.bfloat16) == ()


def test_float16_on_a_cpu_carries_a_note() -> None:
    assert "float16 may be slower than float32" in precision_notes(torch.device("cpu"), torch.float16)[0]


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this build of PyTorch is without oneDNN")  # type: ignore[no-untyped-call]
def test_this_machine_uses_the_fused_operators() -> None:
    # If this fails, PyTorch has changed its private operators and the engine is slower.
    assert onednn_usable(torch.empty(1))
    conv, weight = conv_case(4, 13, 13, 3, bias=True, relu=True)
    assert conv.packed is not None and conv.packed.layout == torch._mkldnn  # type: ignore[attr-defined]
    assert conv.packed.shape == weight.shape, "the count of FLOPs needs this shape"
    assert conv.flops_per_pixel == 2 * 13 * 52 * 9
