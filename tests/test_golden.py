"""The published CARN checkpoint gives the published results, up to rounding.

Rounding decides the branch of a few pixels that lie near the cut. The tests count them and ignore their surroundings,
which refinement changes. Tests with the marker ``hub`` need only the checkpoint.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pcsr_cli.api import load_model
from pcsr_cli.engine.rules import NEVER, Adaptive, Tradeoff
from pcsr_cli.engine.upscale import Outcome, Settings, upscale_whole
from pcsr_cli.errors import HubError
from pcsr_cli.evaluate.metrics import psnr
from pcsr_cli.model.checkpoint import build_model, read_checkpoint
from pcsr_cli.model.flops import model_costs, original_flops, paper_flops
from pcsr_cli.model.network import Pcsr
from tests.closeness import surroundings
from tests.conftest import ROOT, SHARED

SCALE = 4
GOLDEN = SHARED / "golden"

CASES = {
    "k0": Settings(Tradeoff(0), refine=1),
    "k0_norefine": Settings(Tradeoff(0), refine=NEVER),
    "k1": Settings(Tradeoff(1), refine=1),
    "adm": Settings(Adaptive(), refine=1),
    "adm_norefine": Settings(Adaptive(), refine=NEVER),
    "all_heavy": Settings(Tradeoff(-25), refine=1),
}

EXAMPLE = {
    "k0": (29408, [0.5245801, 0.3822118, 0.2374332]),
    "k0_norefine": (29408, [0.524784, 0.3823993, 0.2376099]),
    "k1": (5413, [0.5248786, 0.3825155, 0.2377204]),
    "adm": (26008, [0.5245813, 0.3822144, 0.2374345]),
    "adm_norefine": (26008, [0.5247651, 0.3823854, 0.2376023]),
    "all_heavy": (81920, [0.5249313, 0.3825232, 0.2377244]),
}
"""Heavy pixels and mean of the result for a crop of examples/chelsea.png; the reference implementation agrees."""

MAX_FLIPPED = 100
"""Of 1.85 million pixels."""

whole_images = pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow, pytest.mark.shared]) for case in CASES]
)


@cache
def carn_from_the_hub() -> Pcsr | HubError:
    try:
        return load_model("carn", "cpu", "fp32").network
    except HubError as error:
        return error


@cache
def published_carn() -> Pcsr:
    """The checkpoint from the Hub, or from the reference material if the Hub cannot be reached."""
    found, folder = carn_from_the_hub(), SHARED / "hub" / "3587jjh" / "pcsr_carn"
    if isinstance(found, Pcsr):
        return found
    if not folder.is_dir():
        pytest.skip(f"no published checkpoint: {found}")
    return build_model(read_checkpoint(folder))


@cache
def demo() -> tuple[Tensor, np.ndarray[Any, Any]]:
    """The demo image (1, 3, 276, 420), and its HR original in bytes."""
    lr = torch.from_numpy(read(SHARED / "images" / "demo_lr_x4.png"))
    return lr.permute(2, 0, 1)[None] / 255, read(SHARED / "images" / "demo_hr.png")


@cache
def expected() -> dict[str, dict[str, Any]]:
    content = json.loads((GOLDEN / "expected.json").read_text())
    return {case["name"]: case for case in content["cases"]}


@cache
def upscaled(case: str) -> tuple[Tensor, Tensor, Outcome]:
    lr, _ = demo()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        return upscale_whole(published_carn(), lr, SCALE, CASES[case], torch.uint8)
    finally:
        torch.set_num_threads(threads)


def read(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as image:
        return np.array(image)


@whole_images
def test_the_demo_image_agrees(case: str) -> None:
    rgb, labels, _ = upscaled(case)
    golden = torch.from_numpy(read(GOLDEN / f"{case}.png")).int()
    golden_heavy = torch.from_numpy(read(GOLDEN / f"{case}_heavy.png")) > 0
    flipped = (labels > 0) != golden_heavy
    assert int(flipped.sum()) <= MAX_FLIPPED
    difference = (rgb.int() - golden).abs()[~surroundings(flipped)]
    assert int(difference.max()) <= 1
    assert float((difference == 0).float().mean()) >= 0.9999


@whole_images
def test_heavy_pixels_flops_and_quality_agree(case: str) -> None:
    rgb, _, outcome = upscaled(case)
    figures = expected()[case]
    assert outcome.branch_pixels[1] == pytest.approx(figures["heavy_pixels"], abs=MAX_FLIPPED)
    assert outcome.heavy_share == pytest.approx(figures["heavy_fraction"], abs=1e-4)
    flops = paper_flops(model_costs(published_carn()), outcome.plan.lr_pixels, outcome.branch_pixels)
    assert flops / 1e9 == pytest.approx(figures["gflops"], rel=1e-4)
    assert psnr(rgb.numpy(), demo()[1], shave=4) == pytest.approx(figures["psnr_rgb_shave4"], abs=1e-4)


@pytest.mark.shared
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tile", [None, 17])
def test_a_crop_agrees_before_rounding(case: str, tile: int | None) -> None:
    with np.load(GOLDEN / "crop_float32.npz") as crop:
        lr = torch.from_numpy(crop["lr"]).permute(2, 0, 1)[None] / 255
        golden, golden_heavy = torch.from_numpy(crop[case]), torch.from_numpy(crop[f"{case}_heavy"])
    settings = Settings(CASES[case].routing, refine=CASES[case].refine, tile=tile)
    rgb, labels, _ = upscale_whole(published_carn(), lr, SCALE, settings)
    flipped = (labels > 0) != golden_heavy
    assert int(flipped.sum()) <= 2
    assert (rgb.permute(2, 0, 1) - golden).abs().amax(dim=0)[~surroundings(flipped)].max() < 1e-4


@pytest.mark.hub
@pytest.mark.parametrize("case", CASES)
def test_an_example_gives_the_recorded_results(case: str) -> None:
    lr = torch.from_numpy(read(ROOT / "examples" / "chelsea.png")[100:164, 100:180]).permute(2, 0, 1)[None] / 255
    rgb, _, outcome = upscale_whole(published_carn(), lr, SCALE, CASES[case])
    heavy, mean = EXAMPLE[case]
    assert outcome.branch_pixels[1] == pytest.approx(heavy, abs=5)
    assert rgb.mean(dim=(0, 1)).tolist() == pytest.approx(mean, abs=1e-5)


@pytest.mark.hub
def test_the_checkpoint_has_168970_parameters() -> None:
    assert published_carn().parameter_count() == 168_970


def test_the_cost_of_the_original_agrees() -> None:
    cost = original_flops("carn", 4, 276 * 420)
    assert cost is not None
    assert cost.paper / 1e9 == pytest.approx(130.91355648, rel=1e-9)
