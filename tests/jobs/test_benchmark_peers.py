"""Networks of others, in files, are timed and measured beside ours."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import peers
from pcsr_cli.engine.rules import ALL_HEAVY
from pcsr_cli.engine.upscale import Settings, upscale_whole
from pcsr_cli.evaluate.metrics import psnr
from pcsr_cli.images.resize import resize_bicubic_8bit
from tests.images import levels
from tests.tiny import tiny_model


class Bicubic(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=4.0, mode="bicubic")


class Shuffled(nn.Module):
    """A convolution and a pixel-shuffle: nothing like the image."""

    def __init__(self, scale: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.body(x)
        return result


def save_script(network: nn.Module, path: Path) -> None:
    torch.jit.trace(network.eval(), torch.rand(1, 3, 8, 8)).save(path)  # type: ignore[no-untyped-call]


def save_program(network: nn.Module, path: Path) -> None:
    sides = {2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    torch.export.save(torch.export.export(network.eval(), (torch.rand(1, 3, 8, 8),), dynamic_shapes=(sides,)), path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # TorchScript is deprecated
def test_peers_are_measured_beside_ours(tmp_path: Path) -> None:
    save_script(Bicubic(), tmp_path / "a.ts")
    save_program(Bicubic(), tmp_path / "a.pt2")
    save_script(Shuffled(), tmp_path / "b.ts")
    (tmp_path / "notes.txt").touch()
    image = levels(50, 75)
    model = tiny_model("dense")
    rows = peers.frontier(tmp_path, {"tiny": model}, image, runs=2)
    assert list(rows) == ["tiny, threshold", "tiny, all heavy", "a.pt2", "a.ts", "b.ts"]
    hr = image[:48, :72]
    lr = torch.from_numpy(resize_bicubic_8bit(hr, 12, 18)).permute(2, 0, 1)[None].float() / 255
    ours = upscale_whole(model, lr, 4, Settings(ALL_HEAVY, refine=1), torch.uint8)[0].numpy()
    assert rows["tiny, all heavy"]["dB"] == psnr(ours, hr, 4)
    theirs = (Bicubic()(lr)[0].permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    assert rows["a.ts"]["dB"] == pytest.approx(psnr(theirs, hr, 4), abs=0.01)
    assert rows["a.pt2"]["dB"] == pytest.approx(rows["a.ts"]["dB"], abs=0.01)
    fastest, best = min(rows.values(), key=lambda row: row["seconds"]), max(rows.values(), key=lambda row: row["dB"])
    assert fastest["frontier"] == best["frontier"] == 1
    assert not all(row["frontier"] for row in rows.values())
    peers.plot(rows, tmp_path / "frontier.png")
    assert (tmp_path / "frontier.png").stat().st_size > 1000


@pytest.mark.filterwarnings("ignore")
def test_a_peer_with_another_scale_is_an_error(tmp_path: Path) -> None:
    save_script(Shuffled(scale=2), tmp_path / "half.ts")
    with pytest.raises(SystemExit, match=r"half.ts returns \(1, 3, 24, 36\) instead of \(1, 3, 48, 72\)"):
        peers.frontier(tmp_path, {}, np.zeros((48, 72, 3), np.uint8), runs=1)
