"""``pcsr upscale`` of one image: files, output, and the published results."""

import io
import json
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import pcsr_cli
from pcsr_cli.cli import upscale as command
from pcsr_cli.engine import limits
from pcsr_cli.errors import InputError
from pcsr_cli.model.checkpoint import save_folder
from pcsr_cli.model.spec import Scales
from tests.command import Pcsr, Ran
from tests.failing import fails
from tests.hub_server import Hub
from tests.images import levels, load, save
from tests.tiny import file_sha256, tiny_model

CARN = "3587jjh/pcsr_carn"


@dataclass
class Upscale:
    """Runs ``pcsr upscale`` with the tiny model."""

    run_pcsr: Pcsr
    model: Path

    def __call__(self, *arguments: str | Path, source: str = "in.png", output: str = "out.png") -> Ran:
        return self.run_pcsr("upscale", source, output, "--model", self.model, *arguments)

    @property
    def cwd(self) -> Path:
        return self.run_pcsr.cwd

    def image(self, *arguments: str | Path, source: str = "in.png", output: str = "out.png") -> Image.Image:
        """The result, loaded."""
        self(*arguments, source=source, output=output).succeeded()
        with Image.open(self.run_pcsr.cwd / output) as image:
            image.load()
            return image


@pytest.fixture
def upscale(run_pcsr: Pcsr, tiny_folder: Path) -> Upscale:
    save(run_pcsr.cwd / "in.png", levels(9, 14))
    return Upscale(run_pcsr, tiny_folder)


def save_film(upscale: Upscale, name: str, frames: int = 3, height: int = 4, width: int = 5) -> list[Image.Image]:
    """Save an animation and return its frames."""
    film = [Image.fromarray(levels(height, width, seed=seed)) for seed in range(frames)]
    options: dict[str, Any] = {} if name.endswith(".tif") else {"duration": [50, 100, 150][:frames], "loop": 0}
    save_pil(upscale, film[0], name, save_all=True, append_images=film[1:], **options)
    return film


def save_pil(upscale: Upscale, image: Image.Image, name: str = "in.png", **options: Any) -> None:
    image.save(upscale.cwd / name, **options)


# Kinds of files.


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".webp", ".tif", ".bmp"])
def test_every_format_is_read_and_written(upscale: Upscale, suffix: str) -> None:
    save(upscale.cwd / f"in{suffix}", levels(5, 7))
    result = upscale.image(source=f"in{suffix}", output=f"out{suffix}")
    assert result.size == (28, 20)
    assert upscale.run_pcsr.files() == sorted({"in.png", f"in{suffix}", f"out{suffix}"})


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (33, 17)])
def test_an_image_of_any_size_is_enlarged(upscale: Upscale, size: tuple[int, int]) -> None:
    save(upscale.cwd / "in.png", levels(*size))
    assert upscale.image().size == (4 * size[1], 4 * size[0])


@pytest.mark.parametrize(
    "name", ["täst bild.png", "画像.png", "a b  c.png", "[red]x[blue.png", "100%.png", "{task}.png"]
)
def test_a_file_may_have_any_name(upscale: Upscale, name: str) -> None:
    shutil.copy(upscale.cwd / "in.png", upscale.cwd / name)
    ran = upscale("--json", source=name, output=f"out {name}").succeeded()
    assert ran.document["output"] == f"out {name}"
    shown = upscale("--overwrite", source=name, output=f"out {name}").succeeded().stderr
    assert f"out {name}" in shown


def test_a_name_may_contain_control_characters_or_invalid_utf8(upscale: Upscale) -> None:
    names = [os.fsdecode(b"\xff\xfe.png"), "\x1b[2J\n.png"]
    for name in names:
        shutil.copy(upscale.cwd / "in.png", upscale.cwd / name)
        assert upscale("--json", source=name, output=f"o{name}").succeeded().document["source"] == name
        ran = upscale("--overwrite", source=name, output=f"o{name}").succeeded()
        assert "\x1b" not in ran.stderr


@pytest.mark.parametrize("level", [0, 1, 254])
def test_constant_transparency_stays_exact(upscale: Upscale, level: int) -> None:
    pixels = levels(5, 6, 4)
    pixels[..., 3] = level
    save(upscale.cwd / "in.png", pixels)
    assert (np.asarray(upscale.image())[..., 3] == level).all()


def test_transparency_does_not_change_the_colours(upscale: Upscale) -> None:
    clear = np.dstack([levels(9, 14), levels(9, 14, 1, seed=5).clip(min=1)])  # fully transparent pixels do not count
    save(upscale.cwd / "clear.png", clear)
    with_alpha = np.asarray(upscale.image(source="clear.png", output="clear_out.png"))
    assert np.array_equal(with_alpha[..., :3], np.asarray(upscale.image()))


def test_transparency_keeps_its_position(upscale: Upscale) -> None:
    pixels = levels(8, 8, 4)
    pixels[..., 3] = 0
    pixels[2:5, 4:7, 3] = 255
    save(upscale.cwd / "in.png", pixels)
    alpha = np.asarray(upscale.image())[..., 3].astype(float)
    assert alpha[14, 22] > 240
    assert alpha[:4].max() < 8
    rows, columns = (alpha.sum(axis=axis) @ (np.arange(32) + 0.5) / alpha.sum() for axis in (1, 0))
    assert (rows, columns) == (pytest.approx(14, abs=0.1), pytest.approx(22, abs=0.1))


def test_a_rotated_photograph_is_turned_upright(upscale: Upscale) -> None:
    pixels = levels(5, 9)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    save_pil(upscale, Image.fromarray(pixels), exif=exif)
    turned = upscale.image(output="turned.png")
    save(upscale.cwd / "upright.png", np.ascontiguousarray(np.rot90(pixels, -1)))
    assert np.array_equal(np.asarray(turned), np.asarray(upscale.image(source="upright.png")))
    assert turned.getexif().get(0x0112, 1) == 1


def test_the_first_page_is_used_with_a_note(upscale: Upscale) -> None:
    save_film(upscale, "film.tif")
    assert upscale("--json", source="film.tif").succeeded().document["notes"] == ["only the first of 3 pages was used"]


@pytest.mark.parametrize("suffix", [".gif", pytest.param(".webp", marks=pytest.mark.slow), ".png"])
def test_frames_enlarges_every_frame(upscale: Upscale, suffix: str) -> None:
    save_film(upscale, f"film{suffix}")
    ran = upscale("--json", "--frames", source=f"film{suffix}", output=f"out{suffix}").succeeded()
    assert ran.document["notes"][0] == "3 frames were enlarged"
    assert sum(ran.document["routing"]["branch_pixels"]) == 3 * 16 * 20
    with Image.open(upscale.cwd / f"out{suffix}") as film:
        assert (getattr(film, "n_frames", 1), film.size) == (3, (20, 16))
    single = upscale("--json", source=f"film{suffix}", output="still.png").succeeded().document
    assert "only the first of 3 frames was used" in single["notes"][0]
    assert ran.document["gflops"]["paper"]["all_heavy"] == pytest.approx(3 * single["gflops"]["paper"]["all_heavy"])


def test_the_report_of_an_animation_sums_its_frames(upscale: Upscale) -> None:
    save_film(upscale, "film.png", height=12, width=15)
    options = ("--json", "--frames", "--refine", "9")
    budgeted = upscale(*options, "--budget", "4%", source="film.png", output="a.png").succeeded().document
    single = upscale("--json", "--budget", "4%", source="film.png", output="b.png").succeeded().document
    assert budgeted["budget"]["asked"] == pytest.approx(3 * single["budget"]["asked"])
    assert budgeted["budget"]["spent"] == pytest.approx(budgeted["gflops"]["paper"]["pcsr"])
    assert budgeted["routing"]["rule"].endswith(" a frame")
    adaptive = upscale(*options, "--adm", source="film.png", output="c.png").succeeded().document
    assert adaptive["routing"]["cuts"] == []
    fixed = upscale(*options, "--threshold", "0.25", source="film.png", output="d.png").succeeded().document
    assert fixed["routing"]["cuts"] == [0.25]


def test_a_frame_equals_the_result_of_the_image_alone(upscale: Upscale) -> None:
    save_pil(upscale, save_film(upscale, "film.png", frames=2)[1], "second.png")
    upscale("--frames", source="film.png", output="film_x4.png").succeeded()
    with Image.open(upscale.cwd / "film_x4.png") as film:
        film.seek(1)
        second = np.asarray(film.convert("RGB"))
    assert np.array_equal(second, np.asarray(upscale.image(source="second.png")))


def test_frames_needs_an_animation_and_excludes_map(upscale: Upscale) -> None:
    upscale("--frames").failed(1, "in.png has only one frame.")
    upscale("--frames", "--map", "m.png").failed(2, "--frames and --map exclude each other.")


def test_quiet_prints_nothing_even_for_damaged_metadata(upscale: Upscale) -> None:
    path = save(upscale.cwd / "in.jpg", levels(5, 6))
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
    assert load(upscale.cwd / "out.png").shape == (size[1], size[0], 3)
    assert "reduced" in upscale("--scale", scale, "--overwrite").succeeded().stderr


@pytest.mark.parametrize(("name", "scale"), [("out.png", "8"), ("out.jpg", "10.7")])
def test_a_larger_scale_is_enlarged_from_the_trained_one_with_a_note(upscale: Upscale, name: str, scale: str) -> None:
    ran = upscale("--scale", scale, "--json", "--map", "map.png", output=name).succeeded()
    assert tuple(ran.document["output_size"]) == (round(14 * float(scale)), round(9 * float(scale)))
    assert (ran.document["scale"], ran.document["working_scale"]) == (float(scale), 4)
    (note,) = ran.document["notes"]
    assert note.endswith(f"enlarged x4, then enlarged bicubically to x{scale}")
    assert load(upscale.cwd / name).shape[:2] == tuple(reversed(ran.document["output_size"]))


# Output.


def test_json_is_one_document_on_stdout(upscale: Upscale) -> None:
    ran = upscale("--json").succeeded()
    assert ran.document["notes"] == []
    assert ran.stderr == ""


@pytest.mark.slow
def test_json_fits_an_ascii_encoding(upscale: Upscale) -> None:
    arguments = ("upscale", "in.png", "画.png", "--model", upscale.model, "--json")
    ran = upscale.run_pcsr.in_new_interpreter(*arguments, env={"PYTHONIOENCODING": "ascii"}).succeeded()
    assert ran.document["output"] == "画.png"


def test_a_narrow_panel_abbreviates_nothing(upscale: Upscale) -> None:
    upscale.run_pcsr.env["COLUMNS"] = "20"
    ran = upscale("--verbose").succeeded()
    assert "…" not in ran.stderr and "..." not in ran.stderr


@pytest.mark.slow
def test_a_terminal_shows_colours_and_a_bar(upscale: Upscale) -> None:
    text = upscale.run_pcsr.on_terminal("upscale", "in.png", "out.png", "--model", upscale.model)
    assert "\x1b[" in text
    assert "x4 in.png" in text


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


def test_one_line_shows_sizes_bytes_time_and_the_share_saved(upscale: Upscale) -> None:
    ran = upscale("--scale", "2").succeeded()
    note, line = ran.stderr.splitlines()
    assert note.startswith("Note: ") and "reduced bicubically" in note
    size = (upscale.cwd / "out.png").stat().st_size
    assert re.fullmatch(
        rf"out.png  14x9 -> 28x18  {size / 1000:.1f} kB  \d+\.\d s(  \(\d+% of the compute saved\))?", line
    )


def test_the_panel_on_stderr_agrees_with_the_document(upscale: Upscale) -> None:
    document = upscale("--json").succeeded().document
    ran = upscale("--overwrite", "--verbose").succeeded()
    panel = ran.stderr
    assert ran.stdout == "" and "\x1b" not in panel and "\r" not in panel
    paper, executed = document["gflops"]["paper"], document["gflops"]["executed"]
    parts = [
        "14x9 -> 56x36", "x4", "tiny", document["model"]["sha256"][:12], f"{document['parameters']:,} parameters",
        document["device"], document["precision"], "1 tile", document["routing"]["rule"], "refined at #h = 1",
        f"{document['routing']['heavy_share']:.1%} of the pixels heavy", document["model"]["licence"], "MiB",
        f"{paper['saved_percent']['all_heavy']:.1f}%", f"{paper['saved_percent']['original']:.1f}%",
        f"{executed['saved_percent']['all_heavy']:.1f}%", f"{executed['pcsr']:.2f}", f"{paper['original']:.2f}",
    ]  # fmt: skip
    assert not [part for part in parts if part not in panel]


def test_the_panel_of_a_model_without_an_original_has_no_column_for_it(upscale: Upscale) -> None:
    panel = upscale("--model", "builtin", "--verbose").succeeded().stderr
    assert "all heavy" in panel and "original" not in panel


def test_the_file_records_how_it_was_made(upscale: Upscale) -> None:
    text = upscale.image("--adm", "--refine", "3").text  # type: ignore[attr-defined]
    assert str(upscale.model.parent).encode() not in (upscale.cwd / "out.png").read_bytes()
    assert text == {
        "Software": f"pcsr {pcsr_cli.__version__}",
        "pcsr:model": "tiny",
        "pcsr:weights-sha256": file_sha256(upscale.model / "model.safetensors"),
        "pcsr:routing": "ADM, refine 3",
        "pcsr:scale": "4",
    }


# Options.


def result(upscale: Upscale, *arguments: str) -> NDArray[np.uint8]:
    return np.asarray(upscale.image(*arguments, "--overwrite"))


@pytest.mark.slow
def test_options_change_the_result(upscale: Upscale) -> None:
    plain = result(upscale)
    assert np.array_equal(plain, result(upscale, "--threshold", "0.5"))
    assert np.array_equal(plain, result(upscale, "--tile", "8"))
    assert np.array_equal(plain, result(upscale, "--device", "cpu", "--precision", "fp32"))
    heavy = result(upscale, "--k", "-25")
    assert np.array_equal(heavy, result(upscale, "--threshold", "0", "--no-refine"))
    for arguments in (["--no-refine"], ["--refine", "0"], ["--k", "1"], ["--threshold", "1"], ["--precision", "bf16"]):
        assert not np.array_equal(plain, result(upscale, *arguments)), arguments


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
    expected = np.asarray(upscale.image(output="expected.png"))
    upscale.model = Path(f"someone/tiny@{commit}")
    downloaded = upscale.image()
    assert np.array_equal(np.asarray(downloaded), expected)
    assert downloaded.text["pcsr:model"] == f"someone/tiny at {commit}"  # type: ignore[attr-defined]
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


class _Endless(io.RawIOBase):
    """A stream of zeros without an end."""

    def read(self, size: int = -1) -> bytes:
        return bytes(size)


def test_an_endless_stdin_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "available_memory", lambda: 4 * command.STDIN_BLOCK)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=_Endless()))
    with fails(InputError, "stdin has more than the limit of 33,554,432 bytes."):
        command._read_stdin(allow_huge=False)
