"""``pcsr upscale`` of one image: files, output, and the published results."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

import pcsr_cli
from pcsr_cli.model.checkpoint import save_folder
from pcsr_cli.model.hub import file_sha256
from pcsr_cli.model.spec import Scales
from tests.command import Pcsr, Ran
from tests.failing import tells
from tests.hub_server import Hub
from tests.images import levels, load, save
from tests.tiny import tiny_model

CARN = "3587jjh/pcsr_carn"


@dataclass
class Upscale:
    """Runs ``pcsr upscale`` with the tiny model."""

    run_pcsr: Pcsr
    model: Path

    def __call__(self, *arguments: str | Path, source: str = "in.png", output: str = "out.png") -> Ran:
        return self.run_pcsr("upscale", source, output, "--model", self.model, *arguments)

    def picture(self, *arguments: str | Path, source: str = "in.png", output: str = "out.png") -> Image.Image:
        """The result, loaded."""
        self(*arguments, source=source, output=output).succeeded()
        with Image.open(self.run_pcsr.cwd / output) as image:
            image.load()
            return image


@pytest.fixture
def upscale(run_pcsr: Pcsr, tiny_folder: Path) -> Upscale:
    save(run_pcsr.cwd / "in.png", levels(9, 14))
    return Upscale(run_pcsr, tiny_folder)


def save_pil(upscale: Upscale, image: Image.Image, name: str = "in.png", **options: Any) -> None:
    image.save(upscale.run_pcsr.cwd / name, **options)


# Files of every kind.


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".webp", ".tif", ".bmp"])
def test_every_format_is_read_and_written(upscale: Upscale, suffix: str) -> None:
    save(upscale.run_pcsr.cwd / f"in{suffix}", levels(5, 7))
    result = upscale.picture(source=f"in{suffix}", output=f"out{suffix}")
    assert result.size == (28, 20)
    assert upscale.run_pcsr.files() == sorted({"in.png", f"in{suffix}", f"out{suffix}"})


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (33, 17)])
def test_every_size(upscale: Upscale, size: tuple[int, int]) -> None:
    save(upscale.run_pcsr.cwd / "in.png", levels(*size))
    assert upscale.picture().size == (4 * size[1], 4 * size[0])


@pytest.mark.parametrize(
    "name", ["täst bild.png", "画像.png", "a b  c.png", "[red]x[blue.png", "100%.png", "{task}.png"]
)
def test_every_name(upscale: Upscale, name: str) -> None:
    shutil.copy(upscale.run_pcsr.cwd / "in.png", upscale.run_pcsr.cwd / name)
    ran = upscale("--json", source=name, output=f"out {name}").succeeded()
    assert ran.document["output"] == f"out {name}"
    shown = upscale("--overwrite", source=name, output=f"out {name}").succeeded().stderr
    assert f"out {name}" in shown


def test_names_that_are_not_utf8_and_names_with_control_characters(upscale: Upscale) -> None:
    names = [os.fsdecode(b"\xff\xfe.png"), "\x1b[2J\n.png"]
    for name in names:
        shutil.copy(upscale.run_pcsr.cwd / "in.png", upscale.run_pcsr.cwd / name)
        assert upscale("--json", source=name, output=f"o{name}").succeeded().document["source"] == name
        ran = upscale("--overwrite", source=name, output=f"o{name}").succeeded()
        assert "\x1b" not in ran.stderr


@pytest.mark.parametrize(
    ("mode", "becomes"),
    [("1", "L"), ("L", "L"), ("LA", "LA"), ("RGB", "RGB"), ("RGBA", "RGBA"), ("P", "RGB"), ("CMYK", "RGB")],
)
def test_every_mode(upscale: Upscale, mode: str, becomes: str) -> None:
    name = "in.tif" if mode == "CMYK" else "in.png"
    save_pil(upscale, Image.fromarray(levels(6, 7, 4)).convert("RGB" if mode == "P" else "RGBA").convert(mode), name)
    result = upscale.picture(source=name)
    assert (result.mode, result.size) == (becomes, (28, 24))


def test_a_transparent_palette_colour(upscale: Upscale) -> None:
    image = Image.new("P", (6, 4))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (3, 0, 6, 4))
    save_pil(upscale, image, transparency=0)
    alpha = np.asarray(upscale.picture().getchannel("A"))
    assert (alpha[:, :8] == 0).all()
    assert (alpha[:, -8:] == 255).all()


@pytest.mark.parametrize("level", [0, 1, 254])
def test_constant_transparency_stays_exact(upscale: Upscale, level: int) -> None:
    pixels = levels(5, 6, 4)
    pixels[..., 3] = level
    save(upscale.run_pcsr.cwd / "in.png", pixels)
    assert (np.asarray(upscale.picture())[..., 3] == level).all()


def test_transparency_does_not_change_the_colours(upscale: Upscale) -> None:
    clear = np.dstack([levels(9, 14), levels(9, 14, 1, seed=5).clip(min=1)])  # fully transparent pixels do not count
    save(upscale.run_pcsr.cwd / "clear.png", clear)
    with_alpha = np.asarray(upscale.picture(source="clear.png", output="clear_out.png"))
    assert np.array_equal(with_alpha[..., :3], np.asarray(upscale.picture()))


def test_transparency_keeps_its_position(upscale: Upscale) -> None:
    pixels = levels(8, 8, 4)
    pixels[..., 3] = 0
    pixels[2:5, 4:7, 3] = 255
    save(upscale.run_pcsr.cwd / "in.png", pixels)
    alpha = np.asarray(upscale.picture())[..., 3].astype(float)
    assert alpha[14, 22] > 240
    assert alpha[:4].max() < 8
    rows, columns = (alpha.sum(axis=axis) @ (np.arange(32) + 0.5) / alpha.sum() for axis in (1, 0))
    assert (rows, columns) == (pytest.approx(14, abs=0.1), pytest.approx(22, abs=0.1))


def test_grey_stays_grey(upscale: Upscale) -> None:
    save(upscale.run_pcsr.cwd / "in.png", levels(6, 7, 1))
    assert upscale.picture().mode == "L"


def test_a_rotated_photograph_is_turned_upright(upscale: Upscale) -> None:
    pixels = levels(5, 9)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    save_pil(upscale, Image.fromarray(pixels), exif=exif)
    turned = upscale.picture(output="turned.png")
    save(upscale.run_pcsr.cwd / "upright.png", np.ascontiguousarray(np.rot90(pixels, -1)))
    assert np.array_equal(np.asarray(turned), np.asarray(upscale.picture(source="upright.png")))
    assert turned.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_the_colour_profile_is_kept(upscale: Upscale, suffix: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    save_pil(upscale, Image.fromarray(levels(5, 6)), icc_profile=profile)
    assert upscale.picture(output=f"out{suffix}").info["icc_profile"] == profile


def test_the_profile_of_a_converted_image_is_dropped(upscale: Upscale) -> None:
    save_pil(upscale, Image.fromarray(levels(5, 6, 4), mode=None).convert("CMYK"), "in.tif", icc_profile=b"of inks")
    ran = upscale("--json", source="in.tif").succeeded()
    with Image.open(upscale.run_pcsr.cwd / "out.png") as image:
        assert "icc_profile" not in image.info
    assert ran.document["notes"] == ["CMYK was converted to RGB by the simple formula, because its profile is damaged"]


def test_of_an_animation_the_first_frame_is_used_with_a_note(upscale: Upscale) -> None:
    frames = [Image.fromarray(levels(4, 5, seed=seed)) for seed in range(3)]
    save_pil(upscale, frames[0], "film.tif", save_all=True, append_images=frames[1:])
    assert upscale("--json", source="film.tif").succeeded().document["notes"] == ["only the first of 3 pages was used"]


@pytest.mark.parametrize("suffix", [".gif", pytest.param(".webp", marks=pytest.mark.slow), ".png"])
def test_with_frames_every_frame_is_enlarged(upscale: Upscale, suffix: str) -> None:
    frames = [Image.fromarray(levels(4, 5, seed=seed)) for seed in range(3)]
    options: dict[str, Any] = {"save_all": True, "append_images": frames[1:], "duration": [50, 100, 150], "loop": 0}
    save_pil(upscale, frames[0], f"film{suffix}", **options)
    ran = upscale("--json", "--frames", source=f"film{suffix}", output=f"out{suffix}").succeeded()
    assert ran.document["notes"][0] == "3 frames were enlarged"
    assert sum(ran.document["routing"]["branch_pixels"]) == 3 * 16 * 20
    with Image.open(upscale.run_pcsr.cwd / f"out{suffix}") as film:
        assert (getattr(film, "n_frames", 1), film.size) == (3, (20, 16))
    single = upscale("--json", source=f"film{suffix}", output="still.png").succeeded().document
    assert "only the first of 3 frames was used" in single["notes"][0]
    assert ran.document["gflops"]["paper"]["all_heavy"] == pytest.approx(3 * single["gflops"]["paper"]["all_heavy"])


def test_the_report_of_an_animation_sums_its_frames(upscale: Upscale) -> None:
    frames = [Image.fromarray(levels(12, 15, seed=seed)) for seed in range(3)]
    save_pil(upscale, frames[0], "film.png", save_all=True, append_images=frames[1:])
    asked = ("--json", "--frames", "--refine", "9")
    budgeted = upscale(*asked, "--budget", "4%", source="film.png", output="a.png").succeeded().document
    single = upscale("--json", "--budget", "4%", source="film.png", output="b.png").succeeded().document
    assert budgeted["budget"]["asked"] == pytest.approx(3 * single["budget"]["asked"])
    assert budgeted["budget"]["spent"] == pytest.approx(budgeted["gflops"]["paper"]["pcsr"])
    assert budgeted["routing"]["rule"].endswith(" a frame")
    adaptive = upscale(*asked, "--adm", source="film.png", output="c.png").succeeded().document
    assert adaptive["routing"]["cuts"] == []
    fixed = upscale(*asked, "--threshold", "0.25", source="film.png", output="d.png").succeeded().document
    assert fixed["routing"]["cuts"] == [0.25]


def test_a_frame_equals_the_result_of_the_image_alone(upscale: Upscale) -> None:
    frames = [Image.fromarray(levels(4, 5, seed=seed)) for seed in range(2)]
    save_pil(upscale, frames[0], "film.png", save_all=True, append_images=frames[1:])
    save_pil(upscale, frames[1], "second.png")
    upscale("--frames", source="film.png", output="film_x4.png").succeeded()
    with Image.open(upscale.run_pcsr.cwd / "film_x4.png") as film:
        film.seek(1)
        second = np.asarray(film.convert("RGB"))
    assert np.array_equal(second, np.asarray(upscale.picture(source="second.png")))


def test_a_still_image_has_no_frames(upscale: Upscale) -> None:
    assert tells(upscale("--frames").failed(1).stderr, "in.png has only one frame.")
    assert tells(upscale("--frames", "--map", "m.png").failed(2).stderr, "--frames and --map exclude each other.")


def test_a_large_or_unusual_image_prints_no_warning(upscale: Upscale) -> None:
    # Pillow prints warnings about damaged metadata.
    path = save(upscale.run_pcsr.cwd / "in.jpg", levels(5, 6))
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1\x00\x10Exif\0\0II*\0\xff\xff\0\0" + data[2:])
    ran = upscale("--quiet", source="in.jpg").succeeded()
    assert (ran.stdout, ran.stderr) == ("", "")


# Scales.


@pytest.mark.parametrize(("scale", "size"), [("1", (14, 9)), ("1.5", (21, 14)), ("2.5", (35, 22))])
def test_a_smaller_scale_is_reduced_from_the_trained_one_with_a_note(
    upscale: Upscale, scale: str, size: tuple[int, int]
) -> None:
    ran = upscale("--scale", scale, "--json").succeeded()
    assert tuple(ran.document["output_size"]) == size
    assert (ran.document["scale"], ran.document["working_scale"]) == (float(scale), 4)
    (note,) = ran.document["notes"]
    assert "x4" in note and "reduced bicubically" in note and f"x{scale}" in note
    assert load(upscale.run_pcsr.cwd / "out.png").shape == (size[1], size[0], 3)
    assert "reduced" in upscale("--scale", scale, "--overwrite").succeeded().stderr


def test_the_trained_scale_needs_no_note(upscale: Upscale) -> None:
    assert upscale("--json").succeeded().document["notes"] == []


# What it says.


def test_quiet_is_silent(upscale: Upscale) -> None:
    ran = upscale("--quiet").succeeded()
    assert (ran.stdout, ran.stderr) == ("", "")


def test_json_is_one_document_on_stdout_and_nothing_else(upscale: Upscale) -> None:
    ran = upscale("--json").succeeded()
    assert isinstance(json.loads(ran.stdout), dict)
    assert ran.stderr == ""


@pytest.mark.slow
def test_json_in_an_ascii_encoding(upscale: Upscale) -> None:
    arguments = ("upscale", "in.png", "画.png", "--model", upscale.model, "--json")
    ran = upscale.run_pcsr.in_new_interpreter(*arguments, env={"PYTHONIOENCODING": "ascii"}).succeeded()
    assert ran.document["output"] == "画.png"


def test_the_panel_goes_to_stderr_without_colours_or_bars(upscale: Upscale) -> None:
    ran = upscale().succeeded()
    assert ran.stdout == ""
    assert "\x1b" not in ran.stderr
    assert "\r" not in ran.stderr


def test_a_narrow_panel_breaks_numbers_and_cuts_none(upscale: Upscale) -> None:
    ran = upscale.run_pcsr("upscale", "in.png", "x.png", "--model", upscale.model, env={"COLUMNS": "20"}).succeeded()
    assert "…" not in ran.stderr and "..." not in ran.stderr


@pytest.mark.slow
def test_a_terminal_shows_colours_and_a_bar(upscale: Upscale) -> None:
    master, terminal = os.openpty()
    command = [sys.executable, "-m", "pcsr_cli", "upscale", "in.png", "out.png", "--model", str(upscale.model)]
    env = {**upscale.run_pcsr.env, "TERM": "xterm-256color"}
    subprocess.run(command, cwd=upscale.run_pcsr.cwd, env=env, stderr=terminal, check=True)
    os.close(terminal)
    said = b""
    while piece := _read(master):
        said += piece
    os.close(master)
    assert b"\x1b[" in said
    assert b"x4 in.png" in said


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 10_000)
    except OSError:  # a terminal raises this when the other side is closed
        return b""


def test_the_document_is_complete(upscale: Upscale) -> None:
    document = upscale("--json", "--k", "0.5", "--refine", "2", "--tile", "8").succeeded().document
    assert set(document) == {
        "pcsr", "torch", "source", "output", "input_size", "output_size", "scale", "working_scale", "model",
        "parameters", "device", "precision", "routing", "tiles", "gflops", "seconds", "peak_memory_bytes", "notes",
    }  # fmt: skip
    assert document["pcsr"] == pcsr_cli.__version__
    assert (document["input_size"], document["output_size"]) == ([14, 9], [56, 36])
    assert document["model"]["sha256"] == file_sha256(upscale.model / "model.safetensors")
    assert (document["model"]["name"], document["model"]["revision"]) == ("tiny", None)
    assert document["routing"]["rule"] == "k = 0.5"
    assert document["routing"]["refine"] == 2
    assert sum(document["routing"]["branch_pixels"]) == 56 * 36
    assert document["tiles"] == 2 * 2
    for convention in ("paper", "executed"):
        gflops = document["gflops"][convention]
        assert set(gflops) == {"pcsr", "all_heavy", "original", "saved_percent"}
        assert gflops["saved_percent"]["all_heavy"] == pytest.approx(100 * (1 - gflops["pcsr"] / gflops["all_heavy"]))
    seconds = document["seconds"]
    assert seconds["total"] == pytest.approx(seconds["load"] + seconds["compute"] + seconds["save"])
    assert document["peak_memory_bytes"] > 2**20


def test_the_panel_and_the_document_agree(upscale: Upscale) -> None:
    document = upscale("--json").succeeded().document
    panel = upscale("--overwrite").succeeded().stderr
    paper, executed = document["gflops"]["paper"], document["gflops"]["executed"]
    told = [
        "14x9 -> 56x36", "x4", "tiny", document["model"]["sha256"][:12], f"{document['parameters']:,} parameters",
        document["device"], document["precision"], "1 tile", document["routing"]["rule"], "refined at #h = 1",
        f"{document['routing']['heavy_share']:.1%} of the pixels heavy", document["model"]["licence"], "MiB",
        f"{paper['saved_percent']['all_heavy']:.1f}%", f"{paper['saved_percent']['original']:.1f}%",
        f"{executed['saved_percent']['all_heavy']:.1f}%", f"{executed['pcsr']:.2f}", f"{paper['original']:.2f}",
    ]  # fmt: skip
    for words in told:
        assert words in panel


def test_the_file_records_how_it_was_made(upscale: Upscale) -> None:
    text = upscale.picture("--adm", "--refine", "3").text  # type: ignore[attr-defined]
    assert text == {
        "Software": f"pcsr {pcsr_cli.__version__}",
        "pcsr:model": "tiny",
        "pcsr:weights-sha256": file_sha256(upscale.model / "model.safetensors"),
        "pcsr:routing": "ADM, refine 3",
        "pcsr:scale": "4",
    }


def test_the_file_does_not_contain_the_path_of_the_model(upscale: Upscale) -> None:
    upscale().succeeded()
    content = (upscale.run_pcsr.cwd / "out.png").read_bytes()
    assert str(upscale.model.parent).encode() not in content


# Options change what they should, and no more.


def result(upscale: Upscale, *arguments: str) -> NDArray[np.uint8]:
    return np.asarray(upscale.picture(*arguments, "--overwrite"))


@pytest.mark.slow
def test_options_reach_the_engine(upscale: Upscale) -> None:
    plain = result(upscale)
    assert np.array_equal(plain, result(upscale, "--threshold", "0.5"))
    assert np.array_equal(plain, result(upscale, "--tile", "8"))
    assert np.array_equal(plain, result(upscale, "--device", "cpu", "--precision", "fp32"))
    heavy = result(upscale, "--k", "-25")
    assert np.array_equal(heavy, result(upscale, "--threshold", "0", "--no-refine"))
    for arguments in (["--no-refine"], ["--refine", "0"], ["--k", "1"], ["--threshold", "1"], ["--precision", "bf16"]):
        assert not np.array_equal(plain, result(upscale, *arguments)), arguments


def test_overwrite_replaces_the_file(upscale: Upscale) -> None:
    (upscale.run_pcsr.cwd / "out.png").write_bytes(b"old")
    assert upscale.picture("--overwrite").size == (56, 36)


def test_a_model_for_every_scale_in_a_range_needs_no_reduction(upscale: Upscale, tmp_path: Path) -> None:
    save_folder(tiny_model("dense"), Scales((1.0, 4.0), continuous=True), tmp_path / "any")
    document = upscale.run_pcsr(
        "upscale", "in.png", "out.png", "--model", tmp_path / "any", "--scale", "2.5", "--json"
    ).document
    assert (document["working_scale"], document["notes"]) == (2.5, [])
    assert document["gflops"]["paper"]["original"] is None


# A model from the Hub.


def test_a_model_from_the_hub_is_downloaded_once(run_pcsr: Pcsr, hub: Hub, tiny_folder: Path, upscale: Upscale) -> None:
    commit = hub.add("someone/tiny", tiny_folder)
    expected = np.asarray(upscale.picture(output="expected.png"))
    upscale.model = Path(f"someone/tiny@{commit}")
    found = upscale.picture()
    assert np.array_equal(np.asarray(found), expected)
    assert found.text["pcsr:model"] == f"someone/tiny at {commit}"  # type: ignore[attr-defined]
    hub.close()
    assert np.array_equal(result(upscale), expected)


CASES = {
    "k0": ["--k", "0"],
    "k0_norefine": ["--k", "0", "--no-refine"],
    "k1": ["--k", "1"],
    "adm": ["--adm"],
    "adm_norefine": ["--adm", "--no-refine"],
    "all_heavy": ["--k", "-25"],
}


def assert_agrees(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> None:
    """Check that 99.99% of the 8-bit values are equal and the rest within 1, where the routing is the same."""
    difference = np.abs(found.astype(int) - expected)
    off = (difference > 1).any(axis=2)
    # A flipped pixel changes itself and, through refinement, the ring around it.
    assert off.sum() <= 9 * 100
    near = np.zeros_like(off)
    for row, column in np.argwhere(off):
        near[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = True
    assert (difference[~near] == 0).mean() >= 0.9999


@pytest.mark.shared
@pytest.mark.slow
def test_the_published_model_gives_the_published_results(run_pcsr: Pcsr, hub: Hub, shared: Path) -> None:
    folder = shared / "hub" / CARN
    pinned = hub.add(CARN, folder)
    revision = run_pcsr("models", "show", "carn", "--json").succeeded().document["revision"]
    commits = hub.repositories[CARN].commits
    commits[revision] = commits.pop(pinned)
    expected = {case["name"]: case for case in json.loads((shared / "golden" / "expected.json").read_text())["cases"]}
    for name, arguments in CASES.items():
        command = ["upscale", str(shared / "images" / "demo_lr_x4.png"), f"{name}.png", "--scale", "4", "--json"]
        document = run_pcsr(*command, "--model", "carn", *arguments).succeeded().document
        assert_agrees(load(run_pcsr.cwd / f"{name}.png"), load(shared / "golden" / f"{name}.png"))
        assert abs(document["routing"]["branch_pixels"][1] - expected[name]["heavy_pixels"]) <= 100
        assert document["gflops"]["paper"]["pcsr"] == pytest.approx(expected[name]["gflops"], rel=1e-4)
        assert document["model"]["revision"] == revision
        if name == "k0":
            assert len([path for path in hub.paths("GET") if "config.json" in path or "/large/" in path]) == 2
            hub.close()  # from here on only the cache is available
