"""The original x4 networks with the optimisations of the engine, to compare times: folded, packed, in bands of rows."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcsr_cli.engine.fused.backbones import prepare_backbone
from pcsr_cli.engine.fused.kernels import FusedConv
from pcsr_cli.engine.fused.rows import Ledger, RowWindow
from pcsr_cli.model.backbones import Original
from pcsr_cli.model.backbones.bsrn import BsrnOriginal
from pcsr_cli.model.backbones.carn import CarnOriginal
from pcsr_cli.model.backbones.fsrcnn import FsrcnnOriginal
from pcsr_cli.model.backbones.srresnet import SLOPE, SrresnetOriginal

Enlarge = Callable[[Tensor], Tensor]


def prepared_original(net: Original) -> Enlarge:
    """Return a function from normalised LR (1, 3, h, w) on the CPU to normalised HR (1, 3, 4h, 4w)."""
    backbone = prepare_backbone(net)
    tail, radius = _tail(net)

    def enlarge(x: Tensor) -> Tensor:
        height = x.shape[2]
        out = torch.empty(1, 3, 4 * height, 4 * x.shape[3])
        window = RowWindow(height)
        done = 0
        for features in backbone.stream(x.contiguous(memory_format=torch.channels_last), Ledger()):
            window.append(features, keep_from=done - radius)
            ready = window.ready(radius)
            if ready > done:
                top, bottom = max(0, done - radius), min(height, ready + radius)
                enlarged = tail(window.rows(top, bottom))
                out[:, :, 4 * done : 4 * ready] = enlarged[:, :, 4 * (done - top) : 4 * (ready - top)]
                done = ready
        return (
            out
            if not isinstance(net, SrresnetOriginal)
            else out.add_(F.interpolate(x, scale_factor=4, mode="bilinear"))
        )

    return enlarge


def _tail(net: Original) -> tuple[Callable[[Tensor], Tensor], int]:
    """Return the upsampling of rows that include their neighbours, and its receptive radius in rows."""
    match net:
        case CarnOriginal():
            ups = [_fused(conv, relu=True) for conv in net.upsample.modules() if isinstance(conv, nn.Conv2d)]
            last = _fused(net.exit)

            def carn(rows: Tensor) -> Tensor:
                for up in ups:
                    rows = _shuffled(up(rows))
                return last(rows)

            return carn, 2
        case FsrcnnOriginal():
            return net.tail_conv, 2
        case BsrnOriginal():
            last = _fused(net.last)
            return lambda rows: F.pixel_shuffle(last(rows), 4), 1
        case SrresnetOriginal():
            ups, hr, last = [_fused(net.upconv1), _fused(net.upconv2)], _fused(net.HRconv), _fused(net.conv_last)

            def srresnet(rows: Tensor) -> Tensor:
                for up in ups:
                    rows = F.leaky_relu_(_shuffled(up(rows)), SLOPE)
                return last(F.leaky_relu_(hr(rows), SLOPE))

            return srresnet, 2


def _fused(conv: nn.Conv2d, relu: bool = False) -> FusedConv:
    return FusedConv(conv.weight, conv.bias, (1, 1), conv.groups, relu)


def _shuffled(x: Tensor) -> Tensor:
    return F.pixel_shuffle(x, 2).contiguous(memory_format=torch.channels_last)
