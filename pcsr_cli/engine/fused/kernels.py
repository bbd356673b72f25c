"""Convolutions and linear layers with fused sum and ReLU, and with weights packed once.

On a CPU in float32, the layers call oneDNN through PyTorch's private operators (torch.ops.mkldnn). On other devices, in
other precisions, and if a self-test of the private operators fails, the layers call the public operations.
"""

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
    """The reason why oneDNN's fused operators are not used in this process; None if they are used.

    The first call compares a small convolution and a small linear layer with the plain operations.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return "this build of PyTorch does not have oneDNN"
    try:
        agree = _convolutions_agree() and _linear_layers_agree()
    except Exception as error:  # private operators may fail in any way
        return f"PyTorch's operators for it failed: {type(error).__name__}: {error}"
    return None if agree else "PyTorch's operators for it give other numbers than the plain operations"


def _convolutions_agree() -> bool:
    shapes = (1, 8, 7, 9), (1, 6, 5, 9), (6, 4, 3, 3)
    x, add, weight = (_noise(*shape).contiguous(memory_format=torch.channels_last) for shape in shapes)
    for relu in (False, True):
        fused, plain = (FusedConv(weight, _noise(6), (0, 1), 2, relu, fuse) for fuse in (True, False))
        if not all(torch.allclose(fused(x, term), plain(x, term), atol=_TOLERANCE) for term in (None, add)):
            return False
    return True


def _linear_layers_agree() -> bool:
    layers = [FusedLinear(_noise(3, 7), _noise(3), relu, fuse=True) for relu in (False, True)]
    return all(torch.allclose(layer(_noise(5, 7)), layer.plain(_noise(5, 7)), atol=_TOLERANCE) for layer in layers)


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) / 4


class FusedConv:
    """A convolution of stride 1, followed by an optional sum and an optional ReLU.

    ``weight`` is (out, in / groups, k, k), ``bias`` (out,) or None. ``padding`` is (rows, columns). Rows are usually
    not padded, because bands include their neighbouring rows. ``fuse`` None uses oneDNN if it is usable.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        padding: tuple[int, int],
        groups: int = 1,
        relu: bool = False,
        fuse: bool | None = None,
    ) -> None:
        self.weight = weight.detach().contiguous(memory_format=torch.channels_last)
        self.bias = None if bias is None else bias.detach().contiguous()
        self.padding = list(padding)
        self.groups = groups
        self.relu = relu
        self.packed: Tensor | None = None
        if onednn_usable(self.weight) if fuse is None else fuse:
            shape = [1, weight.shape[1] * groups, 32, 480]
            self.packed = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight, self.padding, _UNIT, _UNIT, groups, shape
            )

    @property
    def flops_per_pixel(self) -> int:
        """Executed FLOPs of one output pixel."""
        return 2 * self.weight.numel()

    def __call__(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """Map (1, in, h, w) to (1, out, h', w'). ``add`` is added before the ReLU and left unchanged."""
        # The fused operator of torch 2.9 rejects a single column and a sum into a single channel.
        if self.packed is not None and x.shape[3] > 1 and self.weight.shape[0] > 1:
            return self._onednn(x, add)
        out = F.conv2d(x, self.weight, self.bias, padding=self.padding, groups=self.groups)
        if add is not None:
            out += add
        return out.relu_() if self.relu else out

    def _onednn(self, x: Tensor, add: Tensor | None) -> Tensor:
        common = (self.bias, self.padding, _UNIT, _UNIT, self.groups)
        pointwise = torch.ops.mkldnn._convolution_pointwise
        unary = "relu" if self.relu else "none"
        if add is None:
            out: Tensor = pointwise(x, self.packed, *common, unary, [], "")
        else:
            out = pointwise.binary(x, add, self.packed, *common, "add", 1.0, unary if self.relu else None, [], "")
        return out


class FusedLinear:
    """A linear layer followed by an optional ReLU; ``weight`` (out, in), ``bias`` (out,) or None."""

    def __init__(self, weight: Tensor, bias: Tensor | None, relu: bool = False, fuse: bool | None = None) -> None:
        self.weight = weight.detach().contiguous()
        self.bias = None if bias is None else bias.detach().contiguous()
        self.relu = relu
        self.packed: Tensor | None = None
        if onednn_usable(self.weight) if fuse is None else fuse:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight, None)

    def __call__(self, x: Tensor) -> Tensor:
        """Map (N, in) to (N, out)."""
        if self.packed is None:
            return self.plain(x)
        unary = "relu" if self.relu else "none"
        fused: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, unary, [], "")
        return fused

    def plain(self, x: Tensor) -> Tensor:
        """Map (N, in) to (N, out) with PyTorch's public operations."""
        out = F.linear(x, self.weight, self.bias)
        return out.relu_() if self.relu else out
