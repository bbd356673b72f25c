"""Run networks one band of rows at a time, so that data between layers stays in the cache.

A layer that reads neighbouring rows lags behind its input, and a ``RowWindow`` keeps the rows that it still needs. Only
the first layers of CARN's and BSRN's blocks compute rows twice, one above and one below each band. Beyond the crop's
border the windows contain zeros, as the padding of the plain network does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from pcsr_cli.engine.fused.kernels import FusedConv

MARGIN = 2
"""The number of zero rows above and below a window. No stage has a larger radius."""


@dataclass
class Ledger:
    """Counts the FLOPs of two kinds of work: rows that are computed a second time, and layers at a lower resolution."""

    repeated: int = 0


class RowWindow:
    """The latest rows of a channels-last feature map (1, C, height, width), addressed by row number.

    ``stop`` is one past the last available row. The feature map is complete when ``stop`` reaches ``height``.
    """

    def __init__(self, height: int) -> None:
        self.height = height
        self.start = -MARGIN
        self.stop = 0
        self.data: Tensor | None = None

    def ready(self, radius: int) -> int:
        """One past the last row that a layer of this radius can compute."""
        return self.height if self.stop == self.height else self.stop - radius

    def rows(self, first: int, last: int) -> Tensor:
        """Rows ``first``..``last`` as a view. Up to MARGIN rows beyond the border are zeros."""
        assert self.data is not None and self.start <= first <= last
        return self.data[:, :, first - self.start : last - self.start]

    def append(self, rows: Tensor, keep_from: int) -> None:
        """Append ``rows`` at the bottom. Rows above ``keep_from`` may be dropped."""
        count = rows.shape[2]
        if self.data is None or self.stop - self.start + count + MARGIN > self.data.shape[2]:
            self._make_room(rows, keep_from)
        assert self.data is not None
        at = self.stop - self.start
        self.data[:, :, at : at + count] = rows
        self.stop += count
        if self.stop == self.height:
            self.data[:, :, at + count : at + count + MARGIN] = 0

    def _make_room(self, rows: Tensor, keep_from: int) -> None:
        """Move the rows that are still needed to the front of the buffer, or of a larger one if necessary."""
        first = max(self.start, keep_from)
        kept = self.stop - first
        needed = kept + rows.shape[2] + MARGIN
        old, offset = self.data, first - self.start
        if old is None or needed > old.shape[2]:
            shape = (1, rows.shape[1], needed + MARGIN, rows.shape[3])
            self.data = torch.empty(shape, dtype=rows.dtype, device=rows.device, memory_format=torch.channels_last)
        assert self.data is not None
        if old is None:
            self.data[:, :, :kept] = 0
        else:
            self.data[:, :, :kept] = old[:, :, offset : offset + kept].clone()
        self.start = first


class Stage(Protocol):
    """A part of a network that converts rows of one window to rows of its output."""

    @property
    def needs(self) -> int:
        """The first (topmost) input row that is still needed."""
        ...

    def advance(self, source: RowWindow) -> Tensor | None:
        """Compute the output rows that ``source`` now allows, in order; None if there are none."""
        ...


class ConvStage:
    """A convolution with a radius of ``radius`` rows, followed by PReLU if ``slope`` (1,) is given."""

    def __init__(self, conv: FusedConv, radius: int, slope: Tensor | None = None) -> None:
        self.conv = conv
        self.radius = radius
        self.slope = slope
        self.done = 0

    @property
    def needs(self) -> int:
        """The first (topmost) input row that is still needed."""
        return self.done - self.radius

    def advance(self, source: RowWindow) -> Tensor | None:
        """Compute the output rows that ``source`` now allows."""
        last = source.ready(self.radius)
        if last <= self.done:
            return None
        out = self.conv(source.rows(self.done - self.radius, last + self.radius))
        self.done = last
        return out if self.slope is None else F.prelu(out, self.slope)


class _RepeatingStage:
    """A stage whose first layer computes one row above and one row below each band a second time."""

    def __init__(self, ledger: Ledger, first: FusedConv, radius: int) -> None:
        self.ledger = ledger
        self.first = first
        self.radius = radius
        self.done = 0

    @property
    def needs(self) -> int:
        """The first (topmost) input row that is still needed."""
        return self.done - self.radius

    def advance(self, source: RowWindow) -> Tensor | None:
        """Compute the output rows that ``source`` now allows."""
        begin, end = self.done, source.ready(self.radius)
        if end <= begin:
            return None
        inner = self.first(source.rows(begin - self.radius, end + self.radius))
        # Beyond the border the next layer must read zeros, not the first layer's output for zeros.
        if begin == 0:
            inner[:, :, 0] = 0
        if end == source.height:
            inner[:, :, -1] = 0
        self.ledger.repeated += 2 * inner.shape[3] * self.first.flops_per_pixel
        self.done = end
        return self.finish(inner, source.rows(begin, end))

    def finish(self, inner: Tensor, skip: Tensor) -> Tensor:
        """Compute the layers after the first. ``skip`` is the input at the rows of the output."""
        raise NotImplementedError


class BlueprintStage(_RepeatingStage):
    """A 1x1 convolution and a depthwise 3x3 convolution, plus the input if ``residual``."""

    def __init__(self, ledger: Ledger, pointwise: FusedConv, depthwise: FusedConv, residual: bool = False) -> None:
        super().__init__(ledger, pointwise, radius=1)
        self.depthwise = depthwise
        self.residual = residual

    def finish(self, inner: Tensor, skip: Tensor) -> Tensor:
        """Compute the depthwise convolution and the sum."""
        out = self.depthwise(inner)
        return out.add_(skip) if self.residual else out


class CascadeStage(_RepeatingStage):
    """Two 3x3 convolutions and a 1x1 convolution, plus the input."""

    def __init__(self, ledger: Ledger, first: FusedConv, second: FusedConv, third: FusedConv) -> None:
        super().__init__(ledger, first, radius=2)
        self.second = second
        self.third = third

    def finish(self, inner: Tensor, skip: Tensor) -> Tensor:
        """Compute the second and third convolution and the sum."""
        return self.third.accumulate(self.second(inner), skip.clone())


class Chain:
    """A sequence of stages with a window between consecutive stages."""

    def __init__(self, stages: Sequence[Stage], height: int) -> None:
        self.stages = list(stages)
        self.windows = [RowWindow(height) for _ in self.stages[1:]]

    @property
    def needs(self) -> int:
        """The first (topmost) input row that is still needed."""
        return self.stages[0].needs

    def advance(self, source: RowWindow) -> Tensor | None:
        """Compute the output rows that ``source`` now allows."""
        out = self.stages[0].advance(source)
        for window, stage in zip(self.windows, self.stages[1:], strict=True):
            if out is None:
                return None
            window.append(out, keep_from=stage.needs)
            out = stage.advance(window)
        return out


class ResidualChain:
    """A stage, and residual blocks of two 3x3 convolutions that replace their input by their output.

    The blocks share one window. From top to bottom it has the rows of the last block, the last two rows of each block
    before, and the new rows of the first stage. No row is copied from block to block, and none is computed twice.
    """

    def __init__(self, head: ConvStage, blocks: Sequence[tuple[FusedConv, FusedConv]], height: int) -> None:
        self.head = head
        self.blocks = [_Block(*block) for block in blocks]
        self.window = RowWindow(height)

    @property
    def needs(self) -> int:
        """The first (topmost) input row that is still needed."""
        return self.head.needs

    def advance(self, source: RowWindow) -> Tensor | None:
        """Compute the output rows that ``source`` now allows. The next call may overwrite these rows."""
        new = self.head.advance(source)
        if new is None:
            return None
        begin = self.blocks[-1].done
        self.window.append(new, keep_from=begin - 1)
        shape = (1, new.shape[1], new.shape[2] + 2 * len(self.blocks) + 2, new.shape[3])
        inner = torch.empty(shape, dtype=new.dtype, device=new.device, memory_format=torch.channels_last)
        ready = self.window.stop
        for block in self.blocks:
            ready = block.replace(self.window, ready, inner)
        return self.window.rows(begin, ready) if ready > begin else None


class _Block:
    """A residual block of two 3x3 convolutions. ``done`` is one past the last row that it has replaced."""

    def __init__(self, first: FusedConv, second: FusedConv) -> None:
        self.first = first
        self.second = second
        self.done = 0
        self.inner_done = 0
        self.kept: Tensor | None = None

    def replace(self, window: RowWindow, ready: int, buffer: Tensor) -> int:
        """Replace the rows that the input rows above ``ready`` allow. Returns ``done``.

        ``buffer`` is memory for the rows between the two convolutions. The last two of them are kept.
        """
        inner_stop = ready if ready == window.height else ready - 1
        if inner_stop <= self.inner_done:
            return self.done
        above = 1 if self.kept is None else 2
        buffer[:, :, :above] = 0 if self.kept is None else self.kept
        stop = above + inner_stop - self.inner_done
        self.first.accumulate(window.rows(self.inner_done - 1, inner_stop + 1), buffer[:, :, above:stop].zero_())
        self.inner_done = inner_stop
        if inner_stop == window.height:  # beyond the border the second convolution reads zeros
            buffer[:, :, stop] = 0
            stop += 1
        begin, self.done = self.done, self.done + stop - 2
        if self.done > begin:
            self.second.accumulate(buffer[:, :, :stop], window.rows(begin, self.done))
        self.kept = buffer[:, :, stop - 2 : stop].clone()
        return self.done
