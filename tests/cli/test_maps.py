"""``pcsr upscale`` with maps and masks."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.command import Pcsr, Ran
from tests.images import levels, load, save


@pytest.fixture
def upscale(run_pcsr: Pcsr, tiny_folder: Path) -> Callable[..., Ran]:
    """Runs ``pcsr upscale`` beside an image and masks."""
    save(run_pcsr.cwd / "in.png", levels(12, 16))
    face = np.zeros((12, 16, 1), np.uint8)
    face[2:6, 3:9] = 255
    save(run_pcsr.cwd / "face.png", face)
    save(run_pcsr.cwd / "sky.png", np.roll(face, 6, axis=0))
    save(run_pcsr.cwd / "odd.png", face[1:])
    return partial(run_pcsr, "upscale", "in.png", "--model", tiny_folder)


@pytest.mark.parametrize("routing", [["--threshold", "0.4"], ["--adm"], ["--k", "0.5"]], ids=" ".join)
def test_the_maps_agree_with_the_report(run_pcsr: Pcsr, upscale: Callable[..., Ran], routing: list[str]) -> None:
    ran = upscale("out.png", *routing, "--map", "m.png", "--map-style", "mask", "--json").succeeded()
    report = ran.document["routing"]
    upscale("out.png", *routing, "--map", "p.npy", "--overwrite").succeeded()
    mask, p_heavy = load(run_pcsr.cwd / "m.png"), np.load(run_pcsr.cwd / "p.npy")
    assert np.array_equal(mask == 255, p_heavy > np.float32(report["cuts"][0]))
    assert report["branch_pixels"][1] == (mask == 255).sum() and set(np.unique(mask)) <= {0, 255}


def test_an_overlay_differs_from_the_result_where_it_is_heavy(run_pcsr: Pcsr, upscale: Callable[..., Ran]) -> None:
    upscale("out.png", "--map", "o.png").succeeded()
    upscale("out.png", "--map", "m.png", "--map-style", "mask", "--overwrite").succeeded()
    result, overlay, mask = (load(run_pcsr.cwd / name) for name in ("out.png", "o.png", "m.png"))
    changed = (overlay[:48] != result).any(axis=2)
    assert not changed[mask == 0].any() and changed[mask == 255].mean() > 0.99


def test_masks_are_applied_and_counted(run_pcsr: Pcsr, upscale: Callable[..., Ran]) -> None:
    forced = ["--force-heavy", "face.png", "--force-light", "sky.png", "--map", "m.png", "--map-style", "mask"]
    report = upscale("out.png", *forced, "--json").succeeded().document["routing"]
    mask = load(run_pcsr.cwd / "m.png")
    assert (mask[8:24, 12:36] == 255).all() and (mask[32:48, 12:36] == 0).all()
    assert (report["forced_heavy"], report["forced_light"]) == (16 * 24, 16 * 24)
    shown = upscale("out.png", *forced, "--overwrite", "--verbose").succeeded()
    assert "384 pixels heavy" in shown.stderr and "384 pixels light" in shown.stderr


@pytest.mark.parametrize(
    ("code", "message", "more"),
    [
        (1, "but the image is", ["--force-heavy", "odd.png"]),
        (1, "pixels to be both heavy and light.", ["--force-heavy", "face.png", "--force-light", "face.png"]),
        (2, "Cannot write a map as", ["--map", "m.gif"]),
        (2, "A .npy map holds p_heavy as numbers", ["--map", "m.npy", "--map-style", "overlay"]),
        (2, "--map-style needs --map.", ["--map-style", "mask"]),
        (2, "Two results have the path", ["--map", "out.png"]),
        (2, "already exists", ["--map", "face.png"]),
        (2, "is also an input.", ["--force-heavy", "face.png", "--map", "face.png", "--overwrite"]),
    ],
)
def test_an_invalid_request_is_refused(
    run_pcsr: Pcsr, upscale: Callable[..., Ran], code: int, message: str, more: list[str]
) -> None:
    before = run_pcsr.files()
    upscale("out.png", *more).failed(code, message)
    assert run_pcsr.files() == before


@pytest.mark.parametrize("option", ["--map", "--force-heavy", "--force-light"])
def test_maps_and_masks_are_for_a_single_image(upscale: Callable[..., Ran], option: str) -> None:
    upscale("face.png", "--out-dir", "out", option, "m.png").failed(2, f"{option} is for a single image.")


def test_a_map_of_a_reduced_result_is_drawn(run_pcsr: Pcsr, upscale: Callable[..., Ran]) -> None:
    upscale("out.png", "--scale", "2.5", "--map", "o.png", "--force-heavy", "face.png").succeeded()
    assert load(run_pcsr.cwd / "out.png").shape[:2] == (30, 40)
    assert load(run_pcsr.cwd / "o.png").shape[1] == 40
