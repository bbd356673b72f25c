"""The commands that a newcomer guesses, from the habits of whisper, rembg, ffmpeg, ImageMagick and Real-ESRGAN."""

import json
import shlex
import time
from pathlib import Path
from typing import Any

import pytest

from pcsr_cli.api import load_model
from pcsr_cli.cli import main
from pcsr_cli.jobs.journal import HIDDEN
from pcsr_cli.model.registry import LoadedModel
from tests.failing import contains
from tests.images import levels, load, save

Guess = tuple[str, str]

RESULTS: list[Guess] = [
    ("pcsr in.png", "in_x4.png"),
    ("pcsr upscale in.png", "in_x4.png"),
    ("pcsr in.png out.png", "out.png"),
    ("pcsr upscale in.png out.jpg --quality 90", "out.jpg"),
    ("pcsr upscale in.png results", "results/in_x4.png"),
    ("pcsr upscale in.png new/", "new/in_x4.png"),
    ("pcsr in.png b.jpg results", "results/in_x4.png results/b_x4.jpg"),
    ("pcsr in.png b.jpg -o new", "new/in_x4.png new/b_x4.jpg"),
    ("pcsr upscale in.png -o out.png", "out.png"),
    ("pcsr in.png --output results", "results/in_x4.png"),
    ("pcsr upscale -i in.png out.png", "out.png"),
    ("pcsr -i in.png -o out.png -s 2", "out.png"),
    ("pcsr upscale in.png --scale 2", "in_x2.png"),
    ("pcsr in.png --scale 2x", "in_x2.png"),
    ("pcsr in.png --scale x2", "in_x2.png"),
    ("pcsr in.png --outscale 1.5", "in_x1.5.png"),
    ("pcsr in.png taken.png -y", "taken.png"),
    ("pcsr in.png taken.png --force", "taken.png"),
    ("pcsr in.png taken.png --skip-existing", ""),
    ("pcsr in.png --output_dir results", "results/in_x4.png"),
    ("pcsr in.png --out-dir .", "in_x4.png"),
    ("pcsr upscale folder results", "results/a_x4.png"),
    ("pcsr folder", "folder_x4/a_x4.png"),
    ("pcsr folder -o results --verbose", "results/a_x4.png"),
    ("pcsr upscale 'folder/*.png' results", "results/a_x4.png"),
    ("pcsr in.png --format jpg", "in_x4.jpg"),
    ("pcsr in.png --ext webp", "in_x4.webp"),
    ("pcsr in.png --name {stem}-large{suffix}", "in-large.png"),
    ("pcsr in.png --device cpu --threads 1 --tile-size 64", "in_x4.png"),
    ("pcsr in.png -v", "in_x4.png"),
    ("pcsr --scale 2 in.png", "in_x2.png"),
    ("pcsr -y -i in.png taken.png", "taken.png"),
    ("pcsr in.png -quality 90 -strip out.jpg", "out.jpg"),
    ("pcsr -i in.png -threads 1 out.png", "out.png"),
    ("pcsr in.png -f jpg", "in_x4.jpg"),
    ("pcsr in.png --output_format webp", "in_x4.webp"),
    ("pcsr in.png --longest-side 64", "in_long-edge64.png"),
]

SENTENCES: list[Guess] = [
    ("pcsr missing.png", "There is no file missing.png."),
    ("pcsr upscale missing.png out.png", "There is no file missing.png."),
    ("pcsr upscale missing results", "There is no file missing. Check the path."),
    ("pcsr missing/ results/", "There is no file missing. Check the path."),
    ("pcsr missing", "No such command or file 'missing'."),
    ("pcsr https://example.com//a//b.png", "https://example.com//a//b.png is a URL."),
    ("pcsr in.png --budget 8s", "Invalid budget '8s'. Use a share (60%) or GFLOPs (50G)."),
    ("pcsr in.png taken.png", "taken.png already exists. Choose another name. To replace it, use --overwrite."),
    ("pcsr in.png in.png", "The output in.png is also an input."),
    ("pcsr in.png b.jpg taken.png", "Several images need a folder for their results."),
    ("pcsr upscale '*.png'", "Give the folder"),
    ("pcsr https://example.com/cat.png", "https://example.com/cat.png is a URL. Download the image first."),
    ("pcsr upscale", "There is no image to enlarge."),
    ("pcsr in.png --gpu", "No such option: --gpu. Use --device cuda."),
    ("pcsr in.png --cpu", "--device cpu"),
    ("pcsr in.png --fp16", "--precision fp16"),
    ("pcsr in.png --denoise 1", "pcsr removes no noise"),
    ("pcsr in.png --face-enhance", "pcsr invents no faces"),
    ("pcsr in.png -resize 200%", "--scale"),
    ("pcsr bench folder --save", "requires an argument. See `pcsr bench --help`."),
    ("pcsr config unset colour", "Invalid value for 'NAME': 'colour' is not one of"),
    ("pcsr in.png --scale 200%", "Invalid --scale 200%. Use a number such as 2, 2x or 2.5."),
    ("pcsr in.png --scale 0.5", "A scale of 0.5 does not enlarge."),
    ("pcsr in.png --dry-run", "pcsr plan"),
    ("pcsr in.png --sclae 2", "--scale"),
    ("pcsr in.png --4k", "--fit 3840x2160"),
    ("pcsr in.png -resize 1920x1080 out.png", "--fit"),
    ("pcsr in.png -scale 200% out.png", "Invalid --scale 200%."),
    ("pcsr in.png --print A9", "Use A0 to A6, letter, or a size such as 60x40cm."),
    ("pcsr in.png --dpi 300", "--print"),
    ("pcsr in.png --suffix _big", "--name"),
    ("pcsr in.png --in-place", "pcsr keeps the image and writes a new file."),
    ("pcsr in.png --deblur", "pcsr removes no blur."),
    ("pcsr --list-models", "pcsr models"),
    ("pcsr download carn", "pcsr models fetch"),
    ("pcsr convert in.png out.png", "pcsr upscale"),
    ("pcsr enlarge in.png", "pcsr upscale"),
    ("pcsr version", "pcsr --version"),
    ("pcsr help", "pcsr --help"),
    ("pcsr models show auto", "auto takes the best available model. Show one of these: carn, builtin, builtin-jpeg."),
    ("pcsr sweep in.png -q", "--quiet leaves no result."),
    ("pcsr bench in.png -q", "--quiet leaves no result."),
    ("pcsr in.png --tile 0", "Invalid --tile 0."),
    ("pcsr in.png -o a.png --out-dir results", "--output and --out-dir exclude each other."),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with images of 16x16 pixels and a folder of results."""
    monkeypatch.chdir(tmp_path)
    for name in ("in.png", "b.jpg", "taken.png", "folder/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save(tmp_path / name, levels(16, 16))
    (tmp_path / "results").mkdir()
    return tmp_path


def run(command: str) -> int:
    return main.run(shlex.split(command)[1:])


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and HIDDEN not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize(("command", "results"), RESULTS, ids=[command for command, _ in RESULTS])
def test_a_guess_does_what_is_expected(folder: Path, command: str, results: str) -> None:
    before = contents(folder)
    assert run(f"{command} --model builtin") == 0
    after = contents(folder)
    assert {name for name in after if after[name] != before.get(name)} == set(results.split())
    assert set(before) <= set(after)
    scale = 2 if "2" in command else 1.5 if "1.5" in command else 4
    assert {load(folder / name).shape[0] for name in results.split()} <= {16 * scale}
    if results.count(" ") == 0 and "folder" not in command:  # one image leaves no journal
        assert not list(folder.rglob(HIDDEN))


@pytest.mark.parametrize(("command", "sentence"), SENTENCES, ids=[command for command, _ in SENTENCES])
def test_a_guess_gets_the_right_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str, sentence: str
) -> None:
    before = contents(folder)
    assert run(command) in {1, 2}
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and contains(printed.err, sentence), printed.err
    assert contents(folder) == before


@pytest.mark.parametrize("command", ["pcsr --version", "pcsr -V", "pcsr models list", "pcsr upscale -h"])
def test_what_is_there_is_printed(folder: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert run(command) == 0
    assert capsys.readouterr().out.strip()


def test_the_reported_time_is_that_of_the_command(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_slowly(*arguments: Any, **named: Any) -> LoadedModel:
        time.sleep(0.2)
        return load_model(*arguments, **named)

    monkeypatch.setattr("pcsr_cli.api.load_model", load_slowly)
    assert run("pcsr in.png --model builtin --json") == 0
    seconds = json.loads(capsys.readouterr().out)["seconds"]
    assert seconds["total"] >= seconds["load"] >= 0.2
