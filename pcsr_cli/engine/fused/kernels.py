"""Convolutions and linear layers with their ReLU and their sum fused in, weights packed once.

On a CPU in float32 they call oneDNN through PyTorch's private operators (torch.ops.mkldnn). Where a self-test finds
these missing or wrong, and on every other device and precision, plain operations compute the same."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

_UNIT = [1, 1]
_TOLERANCE = 1e-4


def onednn_usable(like: Tensor) -> bool:
    """Whether oneDNN's fused operators are used for tensors of this device and type."""
    return like.device.type == "cpu" and like.dtype == torch.float32 and onednn_problem() is None


@cache
def onednn_problem() -> str | None:
    """Why oneDNN's fused operators are not used in this process; None if they are.

    The first call tests them: a small convolution and a small linear layer have to agree with the plain operations."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return "this build of PyTorch does not have oneDNN"
    try:
        agree = _convolutions_agree() and _linear_layers_agree()
    except Exception as error:  # private operators may fail in any way
        return f"PyTorch's operators for it failed: {type(error).__name__}: {error}"
    return None if agree else "PyTorch's operators for it give other numbers than the plain operations"


def _convolutions_agree() -> bool:
    generator = torch.Generator().manual_seed(0)
    x, add = torch.randn(1, 8, 7, 9, generator=generator), torch.randn(1, 6, 5, 9, generator=generator)
    weight, bias = torch.randn(6, 4, 3, 3, generator=generator) / 6, torch.randn(6, generator=generator)
    x, add, weight = (each.contiguous(memory_format=torch.channels_last) for each in (x, add, weight))
    packed = _pack_convolution(weight, [0, 1], 2)
    plain = F.conv2d(x, weight, bias, padding=(0, 1), groups=2)
    return all(
        torch.allclose(_convolution(x, packed, bias, [0, 1], 2, relu, term), expected, atol=_TOLERANCE)
        for relu, term, expected in (
            (False, None, plain),
            (True, None, plain.relu()),
            (False, add, plain + add),
            (True, add, (plain + add).relu()),
        )
    )


def _linear_layers_agree() -> bool:
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*shape, generator=generator) for shape in ((5, 7), (3, 7), (3,)))
    packed, plain = _pack_linear(weight), F.linear(x, weight, bias)
    return all(
        torch.allclose(_linear(x, packed, bias, relu), expected, atol=_TOLERANCE)
        for relu, expected in ((False, plain), (True, plain.relu()))
    )


def _pack_convolution(weight: Tensor, padding: list[int], groups: int) -> Tensor:
    shape = [1, weight.shape[1] * groups, 32, 480]
    packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(weight, padding, _UNIT, _UNIT, groups, shape)
    return packed


def _convolution(
    x: Tensor, packed: Tensor, bias: Tensor | None, padding: list[int], groups: int, relu: bool, add: Tensor | None
) -> Tensor:
    common = (bias, padding, _UNIT, _UNIT, groups)
    pointwise = torch.ops.mkldnn._convolution_pointwise
    if add is None:
        out: Tensor = pointwise(x, packed, *common, "relu" if relu else "none", [], "")
    else:
        out = pointwise.binary(x, add, packed, *common, "add", 1.0, "relu" if relu else None, [], "")
    return out


def _pack_linear(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return packed


def _linear(x: Tensor, packed: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "relu" if relu else "none", [], "")
    return out


class FusedConv:
    """A convolution of stride 1, with an optional sum and an optional ReLU after it.

    ``weight`` (out, in / groups, k, k) and ``bias`` (out,) or None. ``padding`` is (rows, columns): bands of rows
    include their neighbours, so rows are usually not padded.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, padding: tuple[int, int], groups: int = 1, relu: bool = False
    ) -> None:
        self.weight = weight.detach().contiguous(memory_format=torch.channels_last)
        self.bias = None if bias is None else bias.detach().contiguous()
        self.padding = list(padding)
        self.groups = groups
        self.relu = relu
        usable = onednn_usable(self.weight)
        self.packed = _pack_convolution(self.weight, self.padding, groups) if usable else None

    @property
    def flops_per_pixel(self) -> int:
        """Executed FLOPs of one output pixel."""
        return 2 * self.weight.numel()

    def __call__(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """(1, in, h, w) to (1, out, h', w'); ``add`` is summed before the ReLU and left unchanged."""
        if self.packed is not None and x.shape[3] > 1:  # the fused operator of torch 2.9 rejects a single column
            return _convolution(x, self.packed, self.bias, self.padding, self.groups, self.relu, add)
        out = F.conv2d(x, self.weight, self.bias, padding=self.padding, groups=self.groups)
        if add is not None:
            out += add
        return out.relu_() if self.relu else out


class FusedLinear:
    """A linear layer with an optional ReLU after it; ``weight`` (out, in), ``bias`` (out,) or None."""

    def __init__(self, weight: Tensor, bias: Tensor | None, relu: bool = False) -> None:
        self.weight = weight.detach().contiguous()
        self.bias = None if bias is None else bias.detach().contiguous()
        self.relu = relu
        self.packed = _pack_linear(self.weight) if onednn_usable(self.weight) else None

    def __call__(self, x: Tensor) -> Tensor:
        """(N, in) to (N, out)."""
        return self.plain(x) if self.packed is None else _linear(x, self.packed, self.bias, self.relu)

    def plain(self, x: Tensor) -> Tensor:
        """(N, in) to (N, out) by PyTorch's public operations."""
        out = F.linear(x, self.weight, self.bias)
        return out.relu_() if self.relu else out
