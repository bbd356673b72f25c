"""The way out of the engine: one tile's rows, refined, cut to what the tile owns, onto the canvas."""

from torch import Tensor

from pcsr_cli.engine.canvas import Canvas
from pcsr_cli.engine.sampling import Prediction
from pcsr_cli.engine.tiles import Rect, Span, Tile
from pcsr_cli.refine import RowRefiner


class Strip:
    """One tile's way out: predictions come in rows, are refined, cut to the core, and go to the canvas."""

    def __init__(self, tile: Tile, refine: int, canvas: Canvas, counts: Tensor) -> None:
        self.tile = tile
        self.refiner = RowRefiner(refine)
        self.canvas = canvas
        self.counts = counts
        self.next_row = tile.region.rows.start

    def push(self, prediction: Prediction) -> None:
        """Take the next rows of the region."""
        self._write(*self.refiner.push(prediction.rgb, prediction.labels))

    def finish(self) -> None:
        """Hand over what the refiner held back."""
        if last := self.refiner.finish():
            self._write(*last)

    def _write(self, rgb: Tensor, labels: Tensor) -> None:
        rows = Span(self.next_row, self.next_row + labels.shape[0])
        self.next_row = rows.stop
        core = Rect(rows.intersection(self.tile.core.rows), self.tile.core.columns)
        if core.area:
            inside = core.within(Rect(rows, self.tile.region.columns))
            rgb, labels = rgb[inside], labels[inside]
            for branch in range(1, self.counts.numel()):
                self.counts[branch] += (labels == branch).sum()
            self.canvas.write(core, rgb, labels)
