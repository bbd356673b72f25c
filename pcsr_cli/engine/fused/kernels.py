"""Convolutions with fused sum and ReLU, and with weights packed once.

On a CPU in float32, or in bfloat16 if the CPU has instructions for it, the layers call oneDNN through PyTorch's
private operators (torch.ops.mkldnn). On other devices, in other precisions, and if a self-test of the private operators
fails, the layers call the public operations.
"""

import platform
from functools import cache
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

_UNIT = [1, 1]
_TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 1e-2}


def onednn_usable(like: Tensor) -> bool:
    """Whether oneDNN's fused operators are used for tensors of this device and type."""
    return like.device.type == "cpu" and onednn_problem(like.dtype) is None


@cache
def onednn_problem(dtype: torch.dtype) -> str | None:
    """The reason why oneDNN's fused operators are not used for a dtype in this process; None if they are used.

    The first call compares a small convolution with the plain operation.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return "this build of PyTorch does not have oneDNN"
    if dtype not in _TOLERANCES:
        return f"pcsr uses oneDNN for float32 and bfloat16, not for {str(dtype).removeprefix('torch.')}"
    try:
        if dtype == torch.bfloat16 and not _computes_in_bfloat16():
            return "the CPU has no instructions for bfloat16"
        agree = _convolutions_agree(dtype)
    except Exception as error:  # private operators may fail in any way
        return f"PyTorch's operators for it failed: {type(error).__name__}: {error}"
    return None if agree else "PyTorch's operators for it give other numbers than the plain operations"


def precision_notes(device: torch.device, dtype: torch.dtype) -> tuple[str, ...]:
    """Warnings for the user about computing in a dtype on a device."""
    if device.type != "cpu" or dtype == torch.float32 or (problem := onednn_problem(dtype)) is None:
        return ()
    return (f"{str(dtype).removeprefix('torch.')} may be slower than float32 on this CPU: {problem}",)


def _computes_in_bfloat16() -> bool:
    """Whether the CPU multiplies in bfloat16. oneDNN converts each number on other CPUs."""
    if platform.machine().lower() in {"x86_64", "amd64"}:
        return bool(torch.cpu._is_avx512_bf16_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _convolutions_agree(dtype: torch.dtype) -> bool:
    x, add = (_noise(*shape).to(dtype, memory_format=torch.channels_last) for shape in ((1, 8, 7, 9), (1, 6, 5, 9)))
    for groups, relu in product((1, 2), (False, True)):
        weight = _noise(6, 8 // groups, 3, 3).to(dtype)
        fused, plain = (FusedConv(weight, _noise(6).to(dtype), (0, 1), groups, relu, fuse) for fuse in (True, False))
        if not _close(fused(x), plain(x)):
            return False
        if not _close(fused.accumulate(x, add.clone()), plain.accumulate(x, add.clone())):
            return False
    return True


def _close(a: Tensor, b: Tensor) -> bool:
    tolerance = _TOLERANCES[a.dtype]
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance)


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

    def __call__(self, x: Tensor) -> Tensor:
        """Map (1, in, h, w) to (1, out, h', w')."""
        return self._convolve(x, self.relu)

    def accumulate(self, x: Tensor, out: Tensor) -> Tensor:
        """Add the convolution of ``x`` to ``out`` (1, out, h', w') in place, then apply the ReLU. Returns ``out``."""
        if self.groups == 1 and self._fuses(x):  # PyTorch does not fuse a sum with several groups
            relu = "relu" if self.relu else None
            torch.ops.mkldnn._convolution_pointwise_.binary(out, x, *self._packed(), "add", 1.0, relu, [], "")
            return out
        out += self._convolve(x, relu=False)
        return out.relu_() if self.relu else out

    def _convolve(self, x: Tensor, relu: bool) -> Tensor:
        if self._fuses(x):
            unary = "relu" if relu else "none"
            fused: Tensor = torch.ops.mkldnn._convolution_pointwise(x, *self._packed(), unary, [], "")
            return fused
        out = F.conv2d(x, self.weight, self.bias, padding=self.padding, groups=self.groups)
        return out.relu_() if relu else out

    def _fuses(self, x: Tensor) -> bool:
        # The fused operator of torch 2.9 rejects a single column and a sum into a single channel.
        return self.packed is not None and x.shape[3] > 1 and self.weight.shape[0] > 1

    def _packed(self) -> tuple[object, ...]:
        return self.packed, self.bias, self.padding, _UNIT, _UNIT, self.groups
