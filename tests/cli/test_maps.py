"""``pcsr upscale`` with maps and masks."""

from pathlib import Path

import numpy as np
import pytest

from tests.command import Pcsr
from tests.failing import tells
from tests.images import levels, load, save


@pytest.fixture
def enlarge(run_pcsr: Pcsr, tiny_folder: Path) -> Pcsr:
    """The command in a folder with an image and masks."""
    save(run_pcsr.cwd / "in.png", levels(12, 16))
    face = np.zeros((12, 16, 1), np.uint8)
    face[2:6, 3:9] = 255
    save(run_pcsr.cwd / "face.png", face)
    save(run_pcsr.cwd / "sky.png", np.roll(face, 6, axis=0))
    save(run_pcsr.cwd / "odd.png", face[1:])
    return run_pcsr


def arguments(tiny_folder: Path, *more: str) -> list[str]:
    return ["upscale", "in.png", "out.png", "--model", str(tiny_folder), *more]


@pytest.mark.parametrize("routing", [["--threshold", "0.4"], ["--adm"], ["--k", "0.5"]], ids=" ".join)
def test_mask_and_p_heavy_agree_with_the_report(enlarge: Pcsr, tiny_folder: Path, routing: list[str]) -> None:
    ran = enlarge(*arguments(tiny_folder, *routing, "--map", "m.png", "--map-style", "mask", "--json")).succeeded()
    told = ran.document["routing"]
    again = enlarge(*arguments(tiny_folder, *routing, "--map", "p.npy", "--overwrite")).succeeded()
    assert again.code == 0
    mask, p_heavy = load(enlarge.cwd / "m.png"), np.load(enlarge.cwd / "p.npy")
    assert np.array_equal(mask == 255, p_heavy > np.float32(told["cuts"][0]))
    assert told["branch_pixels"][1] == (mask == 255).sum() and set(np.unique(mask)) <= {0, 255}


def test_an_overlay_differs_from_the_result_where_it_is_heavy(enlarge: Pcsr, tiny_folder: Path) -> None:
    enlarge(*arguments(tiny_folder, "--map", "o.png")).succeeded()
    enlarge(*arguments(tiny_folder, "--map", "m.png", "--map-style", "mask", "--overwrite")).succeeded()
    result, overlay, mask = (load(enlarge.cwd / name) for name in ("out.png", "o.png", "m.png"))
    changed = (overlay[:48] != result).any(axis=2)
    assert not changed[mask == 0].any() and changed[mask == 255].mean() > 0.99


def test_masks_are_applied_and_counted(enlarge: Pcsr, tiny_folder: Path) -> None:
    forced = ["--force-heavy", "face.png", "--force-light", "sky.png", "--map", "m.png", "--map-style", "mask"]
    told = enlarge(*arguments(tiny_folder, *forced, "--json")).succeeded().document["routing"]
    mask = load(enlarge.cwd / "m.png")
    assert (mask[8:24, 12:36] == 255).all() and (mask[32:48, 12:36] == 0).all()
    assert (told["forced_heavy"], told["forced_light"]) == (16 * 24, 16 * 24)
    shown = enlarge(*arguments(tiny_folder, *forced, "--overwrite")).succeeded()
    assert "384 pixels heavy" in shown.stderr and "384 pixels light" in shown.stderr


@pytest.mark.parametrize(
    ("code", "said", "more"),
    [
        (1, "but the image is", ["--force-heavy", "odd.png"]),
        (
            1,
            "pixels to be both heavy and light.",
            ["--force-heavy", "face.png", "--force-light", "face.png"],
        ),
        (2, "Cannot write a map as", ["--map", "m.gif"]),
        (2, "A .npy map holds p_heavy as numbers", ["--map", "m.npy", "--map-style", "overlay"]),
        (2, "--map-style needs --map.", ["--map-style", "mask"]),
        (2, "Two results have the path", ["--map", "out.png"]),
        (2, "is also an input.", ["--force-heavy", "face.png", "--map", "face.png", "--overwrite"]),
    ],
)
def test_an_invalid_request_is_one_line_and_leaves_no_files(
    enlarge: Pcsr, tiny_folder: Path, code: int, said: str, more: list[str]
) -> None:
    before = enlarge.files()
    ran = enlarge(*arguments(tiny_folder, *more)).failed(code)
    assert tells(ran.stderr, said)
    assert enlarge.files() == before


def test_an_existing_map_needs_overwrite(enlarge: Pcsr, tiny_folder: Path) -> None:
    enlarge(*arguments(tiny_folder, "--map", "face.png")).failed(2, "already exists")


@pytest.mark.parametrize("option", ["--map", "--force-heavy", "--force-light"])
def test_several_images_have_no_map(enlarge: Pcsr, tiny_folder: Path, option: str) -> None:
    ran = enlarge("upscale", "in.png", "face.png", "--out-dir", "out", option, "m.png", "--model", tiny_folder).failed(
        2
    )
    assert tells(ran.stderr, f"{option} is for a single image.")


def test_a_map_of_a_reduced_result_is_drawn(enlarge: Pcsr, tiny_folder: Path) -> None:
    enlarge(*arguments(tiny_folder, "--scale", "2.5", "--map", "o.png", "--force-heavy", "face.png")).succeeded()
    assert load(enlarge.cwd / "out.png").shape[:2] == (30, 40)
    assert load(enlarge.cwd / "o.png").shape[1] == 40
