"""Invalid input is one line on stderr and an exit code, and leaves no files."""

import errno
import io
import json
import os
import pickle
import shutil
import signal
import stat
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pcsr_cli.errors import OutputError
from pcsr_cli.images import files
from tests.command import Pcsr
from tests.images import chunk, levels, load, save


@pytest.fixture
def image(run_pcsr: Pcsr) -> Path:
    """An image in the folder of the command."""
    return save(run_pcsr.cwd / "in.png", levels(12, 12))


class Refused:
    """Runs ``pcsr upscale`` and checks that it fails with one line and leaves the folder unchanged."""

    def __init__(self, run_pcsr: Pcsr, model: Path) -> None:
        self.run_pcsr = run_pcsr
        self.model = model

    def __call__(
        self,
        code: int,
        *words: str,
        source: str = "in.png",
        output: str | Path = "out.png",
        options: Sequence[str] = (),
        model: str | Path | None = None,
        max_file_size: int | None = None,
    ) -> None:
        before = self.run_pcsr.files()
        ran = self.run_pcsr(
            "upscale", source, output, "--model", model or self.model, *options, max_file_size=max_file_size
        )
        ran.failed(code, *words)
        assert self.run_pcsr.files() == before


@pytest.fixture
def refused(run_pcsr: Pcsr, tiny_folder: Path, image: Path) -> Refused:
    return Refused(run_pcsr, tiny_folder)


# Inputs.


def encode(image: Image.Image, format: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format)
    return buffer.getvalue()


def encode_bomb() -> bytes:
    """A PNG file of 60,000 x 60,000 pixels without data."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


NOISE = Image.fromarray(levels(40, 40))
EMPTY_GIF = b"GIF89a" + bytes(7) + b"," + bytes(8) + b"\0\x02\x02\x4c\x01\0;"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("nowhere.png", None, ["no file nowhere.png", "Check the path"]),
        ("text.png", b"hello", ["text.png is not an image", "Known formats: .png"]),
        ("text.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", ["text.png is not an image"]),
        ("zeros.png", bytes(999), ["zeros.png is not an image"]),
        ("empty.png", b"", ["empty.png is empty"]),
        ("empty.gif", EMPTY_GIF, ["empty.gif"]),
        ("half.png", encode(NOISE, "PNG")[:2000], ["half.png is", "damaged", "--accept-damaged"]),
        ("half.jpg", encode(NOISE, "JPEG")[:1000], ["half.jpg is", "damaged"]),
        ("bomb.png", encode_bomb(), ["60,000 x 60,000 pixels", "--allow-huge"]),
        ("float.tif", encode(Image.new("F", (8, 8)), "TIFF"), ["Floating-point", "16 bits"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_invalid_image_is_refused(
    refused: Refused, run_pcsr: Pcsr, name: str, content: bytes | None, words: list[str]
) -> None:
    if content is not None:
        (run_pcsr.cwd / name).write_bytes(content)
    refused(1, *words, source=name)


def test_a_damaged_image_is_enlarged_on_request(run_pcsr: Pcsr, tiny_folder: Path) -> None:
    (run_pcsr.cwd / "half.jpg").write_bytes(encode(NOISE, "JPEG")[:1000])
    ran = run_pcsr("upscale", "half.jpg", "out.png", "--model", tiny_folder, "--accept-damaged", "--json")
    ran.succeeded()
    assert any("the file is damaged" in note for note in json.loads(ran.stdout)["notes"])
    assert load(run_pcsr.cwd / "out.png").shape == (160, 160, 3)


def test_a_folder_needs_images_and_a_folder_for_its_results(refused: Refused, run_pcsr: Pcsr) -> None:
    (run_pcsr.cwd / "folder").mkdir()
    refused(2, "out.png is not a folder", "another name", source="folder")
    refused(1, "No image found in folder", source="folder", output="results")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
@pytest.mark.parametrize(
    "command",
    ["upscale PIPE out.png", "plan PIPE", "models --registry PIPE", "models convert PIPE out", "train PIPE --out run"],
)
def test_a_named_pipe_is_refused_without_waiting(run_pcsr: Pcsr, command: str) -> None:
    os.mkfifo(run_pcsr.cwd / "pipe")
    run_pcsr(*command.replace("PIPE", "pipe").split()).failed(1, "pipe")
    assert run_pcsr.files() == ["pipe"]


IMPOSSIBLE = """
upscale NAME out.png; upscale in.png NAME; upscale in.png --out-dir NAME; upscale in.png out.png --map NAME;
upscale in.png out.png --force-heavy NAME; plan NAME; verify NAME; sweep NAME; sweep in.png --lr NAME;
sweep in.png --original NAME; sweep in.png --csv NAME; sweep in.png --plot NAME; sweep in.png --report NAME;
bench NAME; bench in.png --lr NAME; bench in.png --original NAME; bench in.png --csv NAME; bench in.png --report NAME;
report page.html NAME; report NAME in.png; models --registry NAME; models convert NAME folder; train NAME --out run
"""


@pytest.mark.parametrize("name", ["in" * 200 + ".png", "in.png/in.png"], ids=["long", "below a file"])
@pytest.mark.parametrize("command", [command.strip() for command in IMPOSSIBLE.split(";")])
def test_an_impossible_path_is_refused(run_pcsr: Pcsr, image: Path, tiny_folder: Path, command: str, name: str) -> None:
    arguments: list[str | Path] = [*command.replace("NAME", name).split()]
    if arguments[0] not in {"models", "train"}:
        arguments += ["--model", tiny_folder]
    ran = run_pcsr(*arguments)
    ran.failed(2 if ran.code == 2 else 1)
    assert run_pcsr.files() == ["in.png"]


@pytest.mark.parametrize("name", ["out" * 200, "in.png/out"])
def test_a_plan_accepts_an_impossible_output(run_pcsr: Pcsr, image: Path, tiny_folder: Path, name: str) -> None:
    run_pcsr("plan", "in.png", f"{name}/x.png", "--model", tiny_folder).succeeded()


@pytest.mark.parametrize("name", [".", "/"])
def test_a_folder_without_a_name_is_no_image(run_pcsr: Pcsr, image: Path, name: str) -> None:
    run_pcsr("compare", name, "in.png").failed(1, f"{name} is a folder, not an image.")


# Outputs.


@pytest.mark.parametrize("name", ["out.xyz", "out", ".png"])
def test_an_unknown_output_format_is_refused(refused: Refused, name: str) -> None:
    refused(2, "format", ".png", ".jpg", "--format", output=name)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_an_existing_output_needs_overwrite(refused: Refused, run_pcsr: Pcsr, suffix: str) -> None:
    existing = save(run_pcsr.cwd / f"out{suffix}")
    before = existing.read_bytes()
    refused(2, "exists", "--overwrite", output=existing.name)
    assert existing.read_bytes() == before


def test_the_input_is_never_the_output(refused: Refused, run_pcsr: Pcsr, image: Path) -> None:
    before = image.read_bytes()
    (run_pcsr.cwd / "link.png").symlink_to(image)
    for output in ("in.png", "./in.png", image, "link.png"):
        refused(2, "is also an input", output=output, options=["--overwrite"])
    assert image.read_bytes() == before


def test_a_folder_is_never_replaced(refused: Refused, run_pcsr: Pcsr) -> None:
    (run_pcsr.cwd / "in_x4.png").mkdir()
    refused(2, "folder", output=".", options=["--overwrite"])


@pytest.mark.parametrize("name", ["nowhere/out.png", "in.png/out.png", "out" * 100 + ".png"])
def test_an_impossible_output_is_refused(refused: Refused, name: str) -> None:
    refused(1, "cannot be written", output=name)


def test_a_missing_permission_is_an_output_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*args: object, **named: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    # Root may write anywhere, so the test does not use permissions.
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OutputError, match="permission denied") as raised, files.atomic_write(tmp_path / "out.png"):
        pass
    assert raised.value.next_step


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_changes_no_files(refused: Refused, run_pcsr: Pcsr, suffix: str, existing: bool) -> None:
    output = run_pcsr.cwd / f"out{suffix}"
    if existing:
        output.write_bytes(b"mine")
    refused(1, "cannot be written", "large", output=output.name, options=["--overwrite"], max_file_size=400)
    assert not existing or output.read_bytes() == b"mine"


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_a_format_without_transparency_is_refused(refused: Refused, run_pcsr: Pcsr, suffix: str) -> None:
    save(run_pcsr.cwd / "clear.png", levels(channels=4))
    refused(2, "transparency", ".png", source="clear.png", output=f"out{suffix}")


@pytest.mark.parametrize(("suffix", "side"), [(".webp", 4096), (".jpg", 16_376)])
def test_a_result_too_large_for_its_format_is_refused(refused: Refused, run_pcsr: Pcsr, suffix: str, side: int) -> None:
    save(run_pcsr.cwd / "long.png", levels(1, side))
    refused(2, "pixels per side", ".png", source="long.png", output=f"out{suffix}")


# Options.


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--k 1 --adm", ["--k and --adm", "exclude"]),
        ("--threshold 1.5", ["1.5", "0 to 1"]),
        ("--threshold nan", ["nan", "0 to 1"]),
        ("--k inf", ["out of range"]),
        ("--k nan", ["out of range"]),
        ("--refine 10", ["--refine 10", "0"]),
        ("--tile 0", ["--tile 0", "auto"]),
        ("--memory lots", ["--memory lots", "512M"]),
        ("--tile " + "9" * 5000, ["--tile", "auto"]),
        ("--device toaster", ["toaster", "cpu"]),
        ("--device cuda:7", ["not available", "See --device"]),
        ("--device meta", ["meta", "See --device"]),
        ("--device=", ["--device is empty"]),
        ("--device cpu:7", ["cpu:7", "See --device"]),
        ("--precision fp64", ["fp64", "fp32"]),
        ("--scale 0.5", ["0.5", "at least 1"]),
        ("--scale -4", ["-4", "at least 1"]),
        ("--scale nan", ["nan", "at least 1"]),
        ("--scale inf", ["inf", "at most 10,000"]),
        ("--scale big", ["Invalid --scale big", "such as 2"]),
        ("--out-dir=", ["--out-dir is empty"]),
        ("--json --quiet", ["exclude"]),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_an_invalid_option_is_refused(refused: Refused, options: str, words: list[str]) -> None:
    refused(2, *words, options=options.split())


# Models.


@pytest.mark.parametrize(
    ("code", "name", "words"),
    [
        *((2, name, ["no model", "carn"]) for name in ("nonsense", "carn@main", "x" * 300, "a/b/c")),
        (2, "https://huggingface.co/a/b", ["no model", "carn"]),
        *((2, name, ["no model", name]) for name in ("gone.pth", "gone.safetensors", "folder/gone.pth")),
        (1, "carn", ["cannot be reached", "`pcsr models fetch carn`"]),
        (1, "in.png", ["in.png is not a model", ".safetensors"]),
    ],
)
def test_an_unknown_model_is_refused(refused: Refused, code: int, name: str, words: list[str]) -> None:
    refused(code, *words, model=name)


def rename_a_key(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["encoder.other"] = state.pop("encoder.head_conv.0.bias")
    save_file(state, folder / "model.safetensors")


def add_a_key_to_the_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    # Text from a file must not control the terminal.
    (folder / "config.json").write_text(json.dumps({**config, "\x1b[2Jcolour\n": 1}))


def cut_the_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def write_config(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "config.json").write_text(text)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (rename_a_key, ["missing: encoder.head_conv.0.bias", "unexpected: encoder.other"]),
        (add_a_key_to_the_config, ["unknown field `\\x1b[2Jcolour\\x0a`"]),
        (cut_the_weights, ["model.safetensors", "again"]),
        (lambda folder: (folder / "model.safetensors").unlink(), ["model.safetensors"]),
        *(
            (write_config(text), ["config.json"])
            for text in ("", "{", "[]", "null", '{"mean": 1}', "[" * 100_000, "\x00", '{"mean": NaN}')
        ),
    ],
)
def test_a_damaged_model_is_refused(
    refused: Refused, tmp_path: Path, damage: Callable[[Path], object], words: list[str]
) -> None:
    folder = Path(shutil.copytree(refused.model, tmp_path / "broken"))
    damage(folder)
    refused(1, *words, model=folder)


class Malice:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("plain", [False, True], ids=["torch", "pickle"])
def test_code_in_a_model_never_runs(refused: Refused, tmp_path: Path, plain: bool) -> None:
    content = {"model": Malice(tmp_path / "owned")}
    pth, folder = tmp_path / "evil.pth", Path(shutil.copytree(refused.model, tmp_path / "evil"))
    if plain:
        pth.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, pth)
    weights = Path(shutil.copy(pth, folder / "model.safetensors"))
    refused(1, "more than tensors", "weights_only=True", model=pth)
    refused(1, "model.safetensors", model=folder)
    for original in (pth, weights):
        ran = refused.run_pcsr("bench", ".", "--original", original, "--model", refused.model)
        ran.failed(1, original.name)
    assert not (tmp_path / "owned").exists()


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello", "hello")


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b"\x80\x02}q\x00"),
        write_zip,
        lambda path: torch.save({"model": {"sd": {}}}, path),
        lambda path: torch.jit.save(torch.jit.script(torch.nn.Identity()), path),
    ],
    ids=["truncated", "zip", "without arguments", "torchscript"],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_an_invalid_pth_is_refused(refused: Refused, tmp_path: Path, write: Callable[[Path], object]) -> None:
    write(tmp_path / "model.pth")
    refused(1, "model.pth", model=tmp_path / "model.pth")


# Interruptions and permissions.


def test_debugging_shows_the_traceback(run_pcsr: Pcsr) -> None:
    ran = run_pcsr("upscale", "in.png", "out.png", env={"PCSR_DEBUG": "1"})
    assert ran.code == 1
    assert "Traceback" in ran.stderr
    assert "InputError" in ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_an_interruption_leaves_no_files(run_pcsr: Pcsr, tiny_folder: Path, number: signal.Signals, code: int) -> None:
    save(run_pcsr.cwd / "big.png", levels(3000, 3000))
    ran = run_pcsr("upscale", "big.png", "out.png", "--model", tiny_folder, signalled=(1.5, number))
    assert ran.code == code, "the image should take longer"
    assert "Traceback" not in ran.stderr
    assert ("no half-written file was left" in ran.stderr) == (number is signal.SIGINT)
    assert run_pcsr.files() == ["big.png"]


def test_a_result_has_the_usual_permissions(run_pcsr: Pcsr, tiny_folder: Path, image: Path) -> None:
    run_pcsr("upscale", "in.png", "out.png", "--model", tiny_folder).succeeded()
    (run_pcsr.cwd / "usual").touch()
    modes = [stat.S_IMODE((run_pcsr.cwd / name).stat().st_mode) for name in ("out.png", "usual")]
    assert modes[0] == modes[1]
    assert load(run_pcsr.cwd / "out.png").shape == (48, 48, 3)


MIB = 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by the address space")
@pytest.mark.parametrize("max_memory", [20 * MIB, 130 * MIB], ids=["reading", "computing"])
@pytest.mark.parametrize("output", ["out.png", "out.jpg"])
def test_too_little_memory_is_one_line(run_pcsr: Pcsr, tiny_folder: Path, output: str, max_memory: int) -> None:
    save(run_pcsr.cwd / "in.png", np.full((1500, 2000, 3), 77, np.uint8))
    run_pcsr("upscale", "in.png", output, "--model", tiny_folder, max_memory=max_memory).failed(1, "memory")
    assert run_pcsr.files() == ["in.png"]
