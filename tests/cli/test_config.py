"""``pcsr config``: an option overrides PCSR_MODEL, which overrides the user's file, which overrides the built-in
default."""

from pathlib import Path

import pytest

from pcsr_cli.cli import main
from tests.command import Pcsr
from tests.failing import contains
from tests.images import levels, save


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's file, which does not exist, for commands in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PCSR_CONFIG", str(tmp_path / "folder" / "config.toml"))
    monkeypatch.delenv("PCSR_MODEL", raising=False)
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder" / "config.toml"


def test_an_option_precedes_the_environment_and_the_environment_the_file(run_pcsr: Pcsr, tiny_folder: Path) -> None:
    save(run_pcsr.cwd / "in.png", levels(5, 6))

    def upscale(*options: str, **env: str) -> tuple[str, float]:
        document = run_pcsr("in.png", "out.png", "-y", "--json", *options, env=env).succeeded().document
        return document["model"]["name"], document["scale"]

    builtin = {"PCSR_MODEL": "builtin"}
    assert upscale(**builtin) == ("builtin", 4)
    for name, value in (("model", str(tiny_folder)), ("scale", "2x")):
        run_pcsr("config", "set", name, value).succeeded()
    assert upscale() == ("tiny", 2)
    assert upscale(**builtin) == ("builtin", 2)
    assert upscale("--model", str(tiny_folder), "--scale", "3", **builtin) == ("tiny", 3)
    assert upscale("--width", "20", **builtin)[0] == "builtin"  # a default is no request for a scale
    run_pcsr("config", "unset", "model").succeeded()
    run_pcsr("plan", "in.png", "--json", env=builtin).succeeded()
    assert "(default: 2.0)" in run_pcsr("upscale", "--help").succeeded().stdout.replace("[", "(").replace("]", ")")
    assert (Path(run_pcsr.env["HOME"]) / ".config" / "pcsr" / "config.toml").read_text() == "scale = 2.0\n"


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ('colour = "red"', "unknown field `colour`; allowed are model, scale, device, threads, precision."),
        ("model = 3", "model is invalid: expected a text"),
        ('model = ""', "model is invalid"),
        ("scale = 0.5", "scale is invalid: expected a number >= 1.0."),
        ("threads = 0", "threads is invalid: expected a whole number >= 1."),
        ('device = "toaster"', "Unknown device 'toaster'."),
        ('precision = "fp8"', "allowed are auto, bf16, fp16, fp32."),
        ("[model]", "model is invalid: expected a text"),
        ("model = builtin", "is not valid TOML"),
        (b"\xff\xfe", "Cannot read the config"),
        (None, "Cannot read the config"),
    ],
)
def test_an_invalid_file_is_named_in_one_sentence(
    config: Path, capsys: pytest.CaptureFixture[str], content: str | bytes | None, part: str
) -> None:
    if content is None:
        config.mkdir()
    else:
        config.write_bytes(content if isinstance(content, bytes) else content.encode())
    for command in ("upscale in.png", "sweep", "config", "config unset model"):
        assert main.run(command.split()) == 2
        printed = capsys.readouterr().err
        assert printed.count("\n") == 1 and contains(printed, str(config), part), printed


@pytest.mark.parametrize(
    ("line", "part"),
    [('model = "nobody"', "There is no model 'nobody'"), ('device = "cuda:99"', "The device cuda:99 is not available")],
)
def test_the_file_is_named_if_its_values_do_not_exist_here(
    config: Path, capsys: pytest.CaptureFixture[str], line: str, part: str
) -> None:
    config.write_text(line)
    save(Path("in.png"), levels(5, 6))
    assert main.run(["upscale", "in.png", "out.png"]) == 2
    assert contains(capsys.readouterr().err, part, f"The config {config} sets the {line.split()[0]}.")


def test_the_variable_is_named_if_its_model_does_not_exist(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PCSR_MODEL", "nobody")
    assert main.run(["bench", "folder"]) == 2
    assert contains(capsys.readouterr().err, "PCSR_MODEL sets the model.")


def test_a_change_keeps_the_other_lines(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text('# for the old machine\nmodel = "carn"\nthreads = 2 # of 4\n')
    for command in ("config set model builtin", "config set device cpu", "config unset threads", "config unset scale"):
        assert main.run(command.split()) == 0
    assert config.read_text() == '# for the old machine\nmodel = "builtin"\ndevice = "cpu"\n'
    capsys.readouterr()
    assert main.run(["config", "--json"]) == 0
    assert contains(capsys.readouterr().out, '"model": "builtin"', '"device": "cpu"', str(config))


@pytest.mark.parametrize(
    "change", ["threads many", "threads 0", "scale 0.5", "device toaster", "precision x", "model nobody", "colour red"]
)
def test_an_invalid_value_changes_nothing(config: Path, capsys: pytest.CaptureFixture[str], change: str) -> None:
    assert main.run(["config", "set", *change.split()]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not config.exists()


def test_the_file_has_no_effect_on_commands_without_its_options(config: Path) -> None:
    config.write_text("broken")
    assert main.run(["models"]) == 0
