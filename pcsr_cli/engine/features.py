"""Compute the backbone features of an image's tiles, band by band, and cache them between two passes."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from pcsr_cli.engine.device import upload_numbers
from pcsr_cli.engine.fused import PreparedModel
from pcsr_cli.engine.fused.rows import Ledger
from pcsr_cli.engine.sampling import FeatureBand
from pcsr_cli.engine.tiles import Rect, Span, Tile
from pcsr_cli.model.flops import Executed


class TileFeatures:
    """Computes the backbone's features of an LR image (1, 3, h, w), tile by tile.

    ``lr`` is RGB of float32 in [0, 1], uint8 or uint16, on any device. Features of dtype ``keep`` are cached until they
    are read again; None disables the cache.
    """

    def __init__(self, lr: Tensor, keep: torch.dtype | None) -> None:
        self.lr = lr
        self.keep = keep
        self._pixels = 0
        self._ledger = Ledger()
        self._kept: dict[Tile, list[FeatureBand]] = {}
        self._whole: dict[PreparedModel, list[FeatureBand]] = {}

    @property
    def executed(self) -> Executed:
        """The work that the backbone executed so far."""
        return Executed(backbone=self._pixels, repeated=self._ledger.repeated)

    def input(self, prepared: PreparedModel, tile: Tile) -> Tensor:
        """The tile's part of the image with its halo: (1, 3, h, w) float32 in [0, 1], on the model's device."""
        return upload_numbers(self.lr[:, :, *tile.input.slices], prepared.device)

    def bands(self, prepared: PreparedModel, tile: Tile, lr: Tensor) -> Iterator[FeatureBand]:
        """Yield the features that a tile samples in float32, top to bottom. ``lr`` is the result of ``input`` for this
        tile."""
        for band in self._bands(prepared, tile, lr):
            yield FeatureBand(band.rows, band.features.float())

    def _bands(self, prepared: PreparedModel, tile: Tile, lr: Tensor) -> Iterable[FeatureBand]:
        if prepared.reads_whole_image:
            return self._of_whole(prepared, tile)
        if tile in self._kept:
            return self._kept.pop(tile)
        computed = self._computed(prepared, tile, lr)
        return self._keeping(tile, computed) if self.keep == prepared.dtype else computed

    def forget(self, tile: Tile) -> None:
        """Drop the cached features of a tile."""
        self._kept.pop(tile, None)

    def _keeping(self, tile: Tile, bands: Iterator[FeatureBand]) -> Iterator[FeatureBand]:
        """Cache the bands in one block of memory while they are yielded. Separate blocks would fragment the heap."""
        kept: list[FeatureBand] = []
        block: Tensor | None = None
        for band in bands:
            if block is None:
                shape = (1, band.features.shape[1], tile.sampled.rows.length, band.features.shape[3])
                like = band.features
                block = torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)
            part = block[:, :, band.rows.within(tile.sampled.rows)]
            part.copy_(band.features)
            kept.append(FeatureBand(band.rows, part))
            yield kept[-1]
        self._kept[tile] = kept

    def _of_whole(self, prepared: PreparedModel, tile: Tile) -> Iterator[FeatureBand]:
        """Yield a tile's part of the features of the whole image, which are computed once."""
        if prepared not in self._whole:
            image = Rect(Span(0, self.lr.shape[2]), Span(0, self.lr.shape[3]))
            whole = Tile(image, image, image, image, image)
            self._whole[prepared] = list(self._computed(prepared, whole, self.input(prepared, whole)))
        for band in self._whole[prepared]:
            wanted = band.rows.intersection(tile.sampled.rows)
            if wanted.length:
                part = band.features[
                    :, :, wanted.within(band.rows), tile.sampled.columns.start : tile.sampled.columns.stop
                ]
                yield FeatureBand(wanted, part)

    def _computed(self, prepared: PreparedModel, tile: Tile, lr: Tensor) -> Iterator[FeatureBand]:
        columns = tile.sampled.columns.within(tile.input.columns)
        top = tile.input.rows.start
        for features in prepared.feature_bands(prepared.model.normalise(lr), self._ledger):
            self._pixels += features.shape[2] * features.shape[3]
            rows = Span(top, top + features.shape[2])
            top = rows.stop
            wanted = rows.intersection(tile.sampled.rows)
            if wanted.length:
                yield FeatureBand(wanted, features[:, :, wanted.within(rows), columns])
