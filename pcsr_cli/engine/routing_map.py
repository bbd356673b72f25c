"""What routing decided, pixel by pixel: difficulty and branch, taken down in the pass that makes the result."""

import torch

from pcsr_cli.engine.routing import difficulty
from pcsr_cli.engine.sampling import Prediction
from pcsr_cli.engine.tiles import Rect, Tile


class RoutingMap:
    """The difficulty (H, W) float32 and the branch (H, W) uint8 of every pixel of a result, on the CPU.

    For two branches difficulty is p_heavy. A pixel that was forced has the branch it was forced to; ``forced`` counts
    those forced light, and those forced heavy. ``cuts`` are told by the engine when all is done; where branches were
    chosen by their cost there are none.
    """

    def __init__(self, height: int, width: int, branches: int = 2, forced: tuple[int, int] = (0, 0)) -> None:
        self.branches = branches
        self.forced = forced
        self.cuts: tuple[float, ...] = ()
        self.difficulty = torch.empty(height, width, dtype=torch.float32, device="cpu")
        self.labels = torch.empty(height, width, dtype=torch.uint8, device="cpu")

    @property
    def branch_pixels(self) -> tuple[int, ...]:
        """How many pixels each branch got."""
        return tuple(int((self.labels == branch).sum()) for branch in range(self.branches))

    def record(self, tile: Tile, prediction: Prediction) -> None:
        """Take some rows of a tile's region; what is outside its core is another tile's."""
        core = Rect(prediction.rows.intersection(tile.core.rows), tile.core.columns)
        inside = core.within(Rect(prediction.rows, tile.region.columns))
        labels = prediction.labels[inside]
        values = difficulty(prediction.probabilities[inside].flatten(0, 1))
        self.difficulty[core.slices] = values.view(labels.shape).cpu()
        self.labels[core.slices] = labels.cpu()
