"""Compares two results: equal up to rounding, except at pixels on the cut between two branches."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pcsr_cli.engine.routing import CostRule, Cuts, Decision, difficulty

TIE = 2e-6
"""Rounding may move a value this close to a cut to either side."""


def near_cut(decision: Decision, probabilities: Tensor) -> Tensor:
    """From (H, W, M) probabilities to the pixels (H, W) bool where rounding may change the branch."""
    if isinstance(decision, CostRule):
        weight = torch.tensor(decision.costs, dtype=torch.float64) ** -decision.k
        scores = (probabilities * (weight / weight.max())).sort(dim=-1, descending=True).values
        return (scores[..., 0] - scores[..., 1]) <= TIE * scores[..., 0].clamp(min=1e-30)
    assert isinstance(decision, Cuts)
    values = difficulty(probabilities.movedim(-1, 0))
    return torch.stack([(values - cut).abs() <= TIE for cut in decision.values]).any(dim=0)


def surroundings(mask: Tensor) -> Tensor:
    """Grow a mask (H, W) bool by one pixel: refinement carries a changed branch that far."""
    return F.max_pool2d(mask[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0


def assert_same(
    result: tuple[Tensor, Tensor],
    expected: tuple[Tensor, Tensor],
    decision: Decision,
    probabilities: Tensor,
    tolerance: float = 1e-5,
) -> None:
    """Assert that labels differ only at ties and RGB only around them: (3, H, W) RGB and (H, W) labels each."""
    (rgb, labels), (expected_rgb, expected_labels) = result, expected
    assert rgb.shape == expected_rgb.shape
    flipped = labels != expected_labels
    assert not (flipped & ~near_cut(decision, probabilities)).any(), "labels differ away from the cut"
    difference = (rgb - expected_rgb).abs().amax(dim=0)
    assert torch.isfinite(difference).all()
    worst = difference[~surroundings(flipped)].max().item() if not surroundings(flipped).all() else 0.0
    assert worst <= tolerance, f"pixels differ by {worst:.2g}"
