"""The textbook implementation is held to the published results itself, apart from the engine."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pcsr_cli.engine.routing import Adaptive, Routing, Threshold, Tradeoff
from pcsr_cli.model.checkpoint import build_model, read_checkpoint
from tests import reference
from tests.closeness import surroundings
from tests.tiny import make_image, tiny_model


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
def test_the_textbook_gives_the_published_crop(case: str, routing: Routing, refine: int, shared: Path) -> None:
    model = build_model(read_checkpoint(shared / "hub" / "3587jjh" / "pcsr_carn"))
    with np.load(shared / "golden" / "crop_float32.npz") as crop:
        lr = torch.from_numpy(crop["lr"]).permute(2, 0, 1)[None] / 255
        golden, golden_heavy = torch.from_numpy(crop[case]), torch.from_numpy(crop[f"{case}_heavy"])
    expected = reference.upscale(model, lr, 4, routing, refine)
    flipped = (expected.labels > 0) != golden_heavy
    assert int(flipped.sum()) <= 2
    assert (expected.rgb - golden).abs().amax(dim=0)[~surroundings(flipped)].max() < 1e-4


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_nearest_centre_gets_the_feature_that_the_hr_centre_would(scale: int) -> None:
    features = torch.randn(1, 5, 7, 9, generator=torch.Generator().manual_seed(0))
    (query,) = reference._Queries(make_image(7, 9), features, scale)
    rows = -1 + (2 * torch.arange(7 * scale) + 1) / (7 * scale)
    columns = -1 + (2 * torch.arange(9 * scale) + 1) / (9 * scale)
    centres = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)[None]
    sampled = F.grid_sample(features, centres, mode="nearest", align_corners=False)[0].flatten(1).T
    assert torch.equal(query.q[:, :5], sampled)


@pytest.mark.parametrize("routing", [Threshold(), Adaptive()], ids=repr)
def test_chunks_do_not_show(routing: Routing, monkeypatch: pytest.MonkeyPatch) -> None:
    model, lr = tiny_model("fsrcnn"), make_image(9, 7)
    whole = reference.upscale(model, lr, 2.5, routing)
    monkeypatch.setattr(reference, "CHUNK", 37)
    chunked = reference.upscale(model, lr, 2.5, routing)
    assert torch.equal(whole.labels, chunked.labels)
    assert torch.allclose(whole.rgb, chunked.rgb, atol=1e-6)
