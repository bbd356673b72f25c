"""The published CARN checkpoint gives the published results, up to rounding.

A handful of pixels lie so near the cut that rounding decides their branch; they and what refinement carries of them are
left out, and counted.
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

from pcsr_cli.engine.refine import NEVER
from pcsr_cli.engine.routing import Adaptive, Tradeoff
from pcsr_cli.engine.upscale import Outcome, Settings, upscale_whole
from pcsr_cli.evaluate.metrics import psnr
from pcsr_cli.model.checkpoint import build_model, read_checkpoint
from pcsr_cli.model.flops import model_costs, original_flops, paper_flops
from pcsr_cli.model.network import Pcsr
from tests.closeness import surroundings
from tests.conftest import SHARED

pytestmark = pytest.mark.shared

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

MOST_FLIPPED = 100
"""Of 1.85 million pixels."""

whole_pictures = pytest.mark.parametrize("case", [pytest.param(case, marks=pytest.mark.slow) for case in CASES])


@cache
def published_carn() -> Pcsr:
    return build_model(read_checkpoint(SHARED / "hub" / "3587jjh" / "pcsr_carn"))


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


@whole_pictures
def test_the_demo_image_agrees(case: str) -> None:
    rgb, labels, _ = upscaled(case)
    golden = torch.from_numpy(read(GOLDEN / f"{case}.png")).int()
    golden_heavy = torch.from_numpy(read(GOLDEN / f"{case}_heavy.png")) > 0
    flipped = (labels > 0) != golden_heavy
    assert int(flipped.sum()) <= MOST_FLIPPED
    difference = (rgb.int() - golden).abs()[~surroundings(flipped)]
    assert int(difference.max()) <= 1
    assert float((difference == 0).float().mean()) >= 0.9999


@whole_pictures
def test_as_many_pixels_are_heavy(case: str) -> None:
    _, _, outcome = upscaled(case)
    assert outcome.branch_pixels[1] == pytest.approx(expected()[case]["heavy_pixels"], abs=MOST_FLIPPED)
    assert outcome.heavy_share == pytest.approx(expected()[case]["heavy_fraction"], abs=1e-4)


@whole_pictures
def test_flops_by_the_paper_agree(case: str) -> None:
    _, _, outcome = upscaled(case)
    flops = paper_flops(model_costs(published_carn()), outcome.plan.lr_pixels, outcome.branch_pixels)
    assert flops / 1e9 == pytest.approx(expected()[case]["gflops"], rel=1e-4)


@whole_pictures
def test_quality_agrees(case: str) -> None:
    rgb, _, _ = upscaled(case)
    decibels = psnr(rgb.numpy(), demo()[1], shave=4)
    assert decibels == pytest.approx(expected()[case]["psnr_rgb_shave4"], abs=1e-4)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tile", [None, 17])
def test_a_crop_agrees_before_rounding(case: str, tile: int | None) -> None:
    with np.load(GOLDEN / "crop_float32.npz") as crop:
        lr = torch.from_numpy(crop["lr"]).permute(2, 0, 1)[None] / 255
        golden, golden_heavy = torch.from_numpy(crop[case]), torch.from_numpy(crop[f"{case}_heavy"])
    how = Settings(CASES[case].routing, refine=CASES[case].refine, tile=tile)
    rgb, labels, _ = upscale_whole(published_carn(), lr, SCALE, how)
    flipped = (labels > 0) != golden_heavy
    assert int(flipped.sum()) <= 2
    assert (rgb.permute(2, 0, 1) - golden).abs().amax(dim=0)[~surroundings(flipped)].max() < 1e-4


def test_the_original_costs_what_was_measured() -> None:
    content = json.loads((GOLDEN / "expected.json").read_text())
    cost = original_flops("carn", 4, 276 * 420)
    assert cost is not None
    assert cost.paper / 1e9 == pytest.approx(content["original"]["gflops"], rel=1e-9)


def test_the_checkpoint_has_as_many_parameters() -> None:
    content = json.loads((GOLDEN / "expected.json").read_text())
    assert published_carn().parameter_count() == content["params"]
