"""Prepared backbones: BatchNorm is folded, weights are packed, and rows are computed in bands.

``prepare_backbone`` returns a backbone that computes the features of the plain one, up to rounding.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcsr_cli.engine.fused.kernels import FusedConv
from pcsr_cli.engine.fused.rows import (
    BlueprintStage,
    CascadeStage,
    Chain,
    ConvStage,
    Ledger,
    ResidualChain,
    RowWindow,
    Stage,
)
from pcsr_cli.model.backbones import Backbone
from pcsr_cli.model.backbones.bsrn import Block, BlueprintConv, BsrnBackbone
from pcsr_cli.model.backbones.carn import CarnBackbone
from pcsr_cli.model.backbones.dense import DenseBackbone
from pcsr_cli.model.backbones.fsrcnn import FsrcnnBackbone
from pcsr_cli.model.backbones.srresnet import SLOPE, SrresnetBackbone

BAND_FLOATS = 600_000
"""How many float32 values one band of one feature map has. A few bands of this size have to fit the cache together."""


Kernels = Callable[[int, Ledger], Stage]
"""Builds the network for crops of a given height. The network takes input rows and returns feature rows with a delay.
"""


class BandedBackbone:
    """A backbone, or a part of one, that computes its features in bands of rows."""

    def __init__(self, width: int, network: Kernels) -> None:
        self.width = width
        self.network = network

    def stream(self, x: Tensor, ledger: Ledger) -> Iterator[Tensor]:
        """Yield the features of normalised input (1, 3, h, w) in consecutive bands (1, C, rows, w) from the top."""
        height, width = x.shape[2:]
        band = max(4, BAND_FLOATS // (self.width * width))
        network = self.network(height, ledger)
        source = RowWindow(height)
        for top in range(0, height, band):
            source.append(x[:, :, top : top + band], keep_from=network.needs)
            features = network.advance(source)
            if features is not None:
                yield features


def prepare_backbone(backbone: Backbone) -> "BandedBackbone | BandedBsrn":
    """Fold and pack a backbone's weights."""
    match backbone:
        case BsrnBackbone():
            return BandedBsrn(backbone)
        case CarnBackbone():
            network = _carn(backbone)
        case FsrcnnBackbone():
            network = _fsrcnn(backbone)
        case SrresnetBackbone():
            slope = torch.full((1,), SLOPE, dtype=backbone.conv_first.weight.dtype)
            network = _residual(backbone.conv_first, slope, backbone.recon_trunk)
        case DenseBackbone():
            network = _residual(backbone.head, None, backbone.blocks)
    return BandedBackbone(backbone.width, network)


def _fused(conv: nn.Conv2d, relu: bool = False) -> FusedConv:
    columns = conv.padding[1]
    assert isinstance(columns, int)
    return FusedConv(conv.weight, conv.bias, (0, columns), conv.groups, relu)


def _residual(head: nn.Conv2d, slope: Tensor | None, blocks: nn.Sequential) -> Kernels:
    """A convolution, with PReLU if ``slope`` is given, and residual blocks of convolution, ReLU and convolution."""
    first = _fused(head)
    convs = [[layer for layer in block.children() if isinstance(layer, nn.Conv2d)] for block in blocks]
    pairs = [(_fused(inner, relu=True), _fused(outer)) for inner, outer in convs]

    def make(height: int, ledger: Ledger) -> Stage:
        return ResidualChain(ConvStage(first, 1, slope), pairs, height)

    return make


def _fsrcnn(net: FsrcnnBackbone) -> Kernels:
    layers: list[tuple[FusedConv, int, Tensor | None]] = []
    for module in (leaf for part in (net.head_conv, net.body_conv) for leaf in part.modules()):
        if isinstance(module, nn.PReLU):
            conv, radius, _ = layers[-1]
            layers[-1] = (conv, radius, module.weight.detach())
        elif isinstance(module, nn.Conv2d):
            layers.append((_fused(module), module.kernel_size[0] // 2, None))
    return lambda height, ledger: Chain([ConvStage(*layer) for layer in layers], height)


class _CascadeRows:
    """CARN's cascade: three blocks, each followed by a 1x1 fusion of the input and all block outputs so far."""

    def __init__(self, blocks: list[Stage], fusions: list["_Fusion"], height: int) -> None:
        self.blocks = blocks
        self.fusions = fusions
        self.outputs = [RowWindow(height) for _ in blocks[1:]]
        self.fused = [RowWindow(height) for _ in blocks[1:]]
        self.done = [0 for _ in blocks]

    @property
    def needs(self) -> int:
        """The first (topmost) input row that is still needed."""
        return min(self.blocks[0].needs, self.done[-1])

    def advance(self, source: RowWindow) -> Tensor | None:
        """Compute the output rows that ``source`` now allows."""
        previous = source
        for index, (block, fusion) in enumerate(zip(self.blocks, self.fusions, strict=True)):
            new = block.advance(previous)
            if new is None:
                return None
            begin, end = self.done[index], self.done[index] + new.shape[2]
            earlier = [window.rows(begin, end) for window in (source, *self.outputs[:index])]
            out = fusion([*earlier, new])
            self.done[index] = end
            if index == len(self.blocks) - 1:
                return out
            self.outputs[index].append(new, keep_from=self.done[-1])
            self.fused[index].append(out, keep_from=self.blocks[index + 1].needs)
            previous = self.fused[index]
        raise AssertionError("a cascade has blocks")


def _carn(net: CarnBackbone) -> Kernels:
    entry = _fused(net.entry)
    outer = [_Fusion(fusion, net.width) for fusion in (net.c1, net.c2, net.c3)]
    inner: list[tuple[tuple[FusedConv, FusedConv, FusedConv], list[_Fusion]]] = []
    for block in (net.b1, net.b2, net.b3):
        first, second, third = (layer for layer in block.b1.body if isinstance(layer, nn.Conv2d))
        residual = (_fused(first, relu=True), _fused(second, relu=True), _fused(third, relu=True))
        inner.append((residual, [_Fusion(fusion, net.width) for fusion in (block.c1, block.c2, block.c3)]))

    def make(height: int, ledger: Ledger) -> Stage:
        blocks: list[Stage] = [
            _CascadeRows([CascadeStage(ledger, *residual) for _ in range(3)], fusions, height)
            for residual, fusions in inner
        ]
        return Chain([ConvStage(entry, 1), _CascadeRows(blocks, outer, height)], height)

    return make


class _Fusion:
    """1x1 convolution, BatchNorm and ReLU over concatenated maps of ``width`` channels.

    The layer sums one convolution per map, so that the maps are not copied into one tensor.
    """

    def __init__(self, fusion: nn.Sequential, width: int) -> None:
        conv, norm = fusion[0], fusion[1]
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None and norm.running_var is not None
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        dtype = conv.weight.dtype
        weights = torch.split((conv.weight * factor[:, None, None, None]).to(dtype), width, dim=1)
        bias = (norm.bias - norm.running_mean * factor).to(dtype)
        self.first = FusedConv(weights[0], bias, (0, 0))
        self.others = [FusedConv(weight, None, (0, 0), relu=weight is weights[-1]) for weight in weights[1:]]

    def __call__(self, maps: list[Tensor]) -> Tensor:
        """Fuse several feature maps (1, C, h, w) into one of the same shape."""
        out = self.first(maps[0])
        for conv, each in zip(self.others, maps[1:], strict=True):
            conv.accumulate(each, out)
        return out


class BandedBsrn:
    """BSRN in bands of rows. The attention at the end of a block reads the whole image, so blocks run one by one."""

    def __init__(self, net: BsrnBackbone) -> None:
        self.head = _blueprint(net.fea_conv, net.width)
        self.tail = _blueprint(net.c2, net.width)
        self.blocks = [_BandedBlock(block, net.width) for block in net.blocks]
        parts = torch.split(net.c1.weight, net.width, dim=1)
        self.parts = [FusedConv(part, net.c1.bias if part is parts[0] else None, (0, 0)) for part in parts]

    def stream(self, x: Tensor, ledger: Ledger) -> Iterator[Tensor]:
        """Yield the features of normalised input (1, 3, h, w) in consecutive bands (1, C, rows, w) from the top."""
        first = out = _joined(self.head.stream(x.repeat(1, 4, 1, 1), ledger))
        fused: Tensor | None = None
        for block, part in zip(self.blocks, self.parts, strict=True):
            out = block(out, ledger)
            fused = part(out) if fused is None else part.accumulate(out, fused)
        assert fused is not None
        top = 0
        for band in self.tail.stream(F.gelu(fused), ledger):
            yield band.add_(first[:, :, top : (top := top + band.shape[2])])


class _BandedBlock:
    """A block of BSRN: convolutions in bands, then attention."""

    def __init__(self, block: Block, width: int) -> None:
        self.block = block
        kept = [_fused(conv) for conv in (block.c1_d, block.c2_d, block.c3_d)]
        refined = [_packed(conv) for conv in (block.c1_r, block.c2_r, block.c3_r)]
        last = _packed(block.c4)
        parts = torch.split(block.c5.weight, width // 2, dim=1)
        fusion = [FusedConv(part, block.c5.bias if part is parts[0] else None, (0, 0)) for part in parts]
        self.rows = BandedBackbone(
            width, lambda height, ledger: _BlockRows(height, ledger, kept, refined, last, fusion)
        )
        self.reduce, self.direct, self.expand = (
            _fused(c) for c in (block.esa.conv1, block.esa.conv_f, block.esa.conv4)
        )

    def __call__(self, x: Tensor, ledger: Ledger) -> Tensor:
        """Map (1, C, h, w) to the same shape."""
        out = _joined(self.rows.stream(x, ledger))
        narrow = self.reduce(out)
        weights = self.expand(self.direct.accumulate(narrow, self.block.esa.surroundings(narrow)))
        out.mul_(weights.sigmoid_())
        return torch.addcmul(x, out, self.block.cca.weights(out))


class _BlockRows:
    """The convolutions of a block of BSRN, from the block's input to its attention."""

    def __init__(
        self,
        height: int,
        ledger: Ledger,
        kept: list[FusedConv],
        refined: list[tuple[FusedConv, FusedConv]],
        last: tuple[FusedConv, FusedConv],
        fusion: list[FusedConv],
    ) -> None:
        self.kept = kept
        self.stages = [BlueprintStage(ledger, *each, residual=True) for each in refined]
        self.last = BlueprintStage(ledger, *last)
        self.windows = [RowWindow(height) for _ in refined]
        self.fusion = fusion

    @property
    def needs(self) -> int:
        """The first (topmost) input row that is still needed."""
        return min(self.stages[0].needs, self.last.done)

    def advance(self, source: RowWindow) -> Tensor | None:
        """Compute the output rows that ``source`` now allows."""
        sources = [source, *self.windows]
        following = [*self.stages[1:], self.last]
        for stage, before, after, following_stage in zip(self.stages, sources, self.windows, following, strict=False):
            new = stage.advance(before)
            if new is None:
                return None
            after.append(F.gelu(new), keep_from=min(following_stage.needs, self.last.done))
        begin = self.last.done
        new = self.last.advance(sources[-1])
        if new is None:
            return None
        parts = [
            F.gelu(keep(window.rows(begin, self.last.done))) for keep, window in zip(self.kept, sources, strict=False)
        ]
        out: Tensor | None = None
        for conv, part in zip(self.fusion, [*parts, F.gelu(new)], strict=True):
            out = conv(part) if out is None else conv.accumulate(part, out)
        return out


def _packed(conv: BlueprintConv) -> tuple[FusedConv, FusedConv]:
    return _fused(conv.pw), _fused(conv.dw)


def _blueprint(conv: BlueprintConv, width: int) -> BandedBackbone:
    pair = _packed(conv)
    return BandedBackbone(width, lambda height, ledger: BlueprintStage(ledger, *pair))


def _joined(bands: Iterator[Tensor]) -> Tensor:
    return torch.cat(list(bands), dim=2)
