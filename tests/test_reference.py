"""The reference implementation gives the published results without the engine."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pcsr_cli.engine.rules import Adaptive, Routing, Threshold, Tradeoff
from pcsr_cli.model.checkpoint import build_model, read_checkpoint
from tests import reference
from tests.closeness import surroundings


@pytest.mark.shared
@pytest.mark.parametrize(
    ("case", "routing", "refine"),
    [
        ("k0", Threshold(), 1),
        ("k0_norefine", Tradeoff(0), 9),
        ("k1", Tradeoff(1), 1),
        ("adm", Adaptive(), 1),
        ("all_heavy", Tradeoff(-25), 1),
    ],
    ids=str,
)
def test_the_reference_gives_the_published_crop(case: str, routing: Routing, refine: int, shared: Path) -> None:
    model = build_model(read_checkpoint(shared / "hub" / "3587jjh" / "pcsr_carn"))
    with np.load(shared / "golden" / "crop_float32.npz") as crop:
        lr = torch.from_numpy(crop["lr"]).permute(2, 0, 1)[None] / 255
        golden, golden_heavy = torch.from_numpy(crop[case]), torch.from_numpy(crop[f"{case}_heavy"])
    expected = reference.upscale(model, lr, 4, routing, refine)
    flipped = (expected.labels > 0) != golden_heavy
    assert int(flipped.sum()) <= 2
    assert (expected.rgb - golden).abs().amax(dim=0)[~surroundings(flipped)].max() < 1e-4
