"""Convolutions and linear layers with their ReLU and their sum fused in, weights packed once.

On a CPU in float32 they call oneDNN through PyTorch's own, but private, operators (torch.ops.mkldnn). Where those
are missing or refuse, and on every other device and precision, the plain operations do the same."""

import torch
import torch.nn.functional as F
from torch import Tensor

_UNIT = [1, 1]


def onednn_usable(like: Tensor) -> bool:
    """Whether oneDNN's fused operators can be called for tensors such as this one."""
    wanted = ("_convolution_pointwise", "_linear_pointwise", "_reorder_convolution_weight", "_reorder_linear_weight")
    return (
        like.device.type == "cpu"
        and like.dtype == torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and all(hasattr(torch.ops.mkldnn, name) for name in wanted)
    )


class FusedConv:
    """A convolution of stride 1, with an optional sum and an optional ReLU behind it.

    ``weight`` (out, in / groups, k, k) and ``bias`` (out,) or None. ``padding`` is (rows, columns): bands of rows
    bring their own neighbours, so rows are usually not padded.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, padding: tuple[int, int], groups: int = 1, relu: bool = False
    ) -> None:
        self.weight = weight.detach().contiguous(memory_format=torch.channels_last)
        self.bias = None if bias is None else bias.detach().contiguous()
        self.padding = list(padding)
        self.groups = groups
        self.relu = relu
        self.packed: Tensor | None = None

    @property
    def flops_per_pixel(self) -> int:
        """Executed FLOPs of one output pixel."""
        return 2 * self.weight.numel()

    def pack(self) -> None:
        """Pack the weights, where oneDNN does the work."""
        if onednn_usable(self.weight):
            shape = [1, self.weight.shape[1] * self.groups, 32, 480]
            self.packed = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight, self.padding, _UNIT, _UNIT, self.groups, shape
            )

    def __call__(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """(1, in, h, w) to (1, out, h', w); ``add`` is summed before the ReLU."""
        if self.packed is not None:
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
    """A linear layer with an optional ReLU behind it; ``weight`` (out, in), ``bias`` (out,) or None."""

    def __init__(self, weight: Tensor, bias: Tensor | None, relu: bool = False) -> None:
        self.weight = weight.detach().contiguous()
        self.bias = None if bias is None else bias.detach().contiguous()
        self.relu = relu
        self.packed: Tensor | None = None
        if onednn_usable(self.weight):
            self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight, None)

    def __call__(self, x: Tensor) -> Tensor:
        """(N, in) to (N, out)."""
        if self.packed is None:
            return self.plain(x)
        unary = "relu" if self.relu else "none"
        fused: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, unary, [], "")
        return fused

    def plain(self, x: Tensor) -> Tensor:
        """The same by PyTorch's public operations."""
        out = F.linear(x, self.weight, self.bias)
        return out.relu_() if self.relu else out
