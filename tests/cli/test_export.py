"""``pcsr export``."""

from importlib.util import find_spec

import onnx
import pytest

from pcsr_cli.cli import export, main
from tests.command import Pcsr
from tests.tiny import tiny_entry


@pytest.mark.slow
def test_a_model_is_written_with_its_origin(run_pcsr: Pcsr, tiny_folder: object) -> None:
    (run_pcsr.cwd / "own.toml").write_text(tiny_entry("tiny", f'folder = "{tiny_folder}"', "CC0-1.0"))
    ran = run_pcsr("export", "tiny", "a.onnx", "--size", "9x7", "--registry", "own.toml").succeeded()
    assert ran.stdout == ""
    assert "Wrote a.onnx" in ran.stderr and "tiny, x4, all heavy, opset 18, input (1, 3, 7, 9)" in ran.stderr
    assert "Licence: CC0-1.0." in ran.stderr
    assert ran.stderr.count("\n") == 1
    facts = {entry.key: entry.value for entry in onnx.load(run_pcsr.cwd / "a.onnx").metadata_props}
    command = ("export", "tiny", "a.onnx", "--registry", "own.toml", "--threshold", "0.5", "--json", "-y")
    document = run_pcsr(*command).succeeded().document
    assert document == {
        "file": "a.onnx",
        "opset": 18,
        "input": [1, 3, "height", "width"],
        **facts,
        "routing": "threshold 0.5",
    }


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        ("builtin a.pb", 2, "a name that ends in .onnx"),
        ("builtin taken.onnx", 2, "To replace it, use --overwrite."),
        ("builtin nowhere/a.onnx", 1, "nowhere"),
        ("builtin a.onnx --size 640", 2, "WIDTHxHEIGHT"),
        ("builtin a.onnx --scale 2.5", 2, "a whole scale that the model was trained for (x1..x4)"),
        ("builtin a.onnx --threshold 2", 2, "not a probability"),
        ("nonsense a.onnx", 2, "no model 'nonsense'"),
    ],
)
def test_mistakes_are_reported_before_any_work(run_pcsr: Pcsr, arguments: str, code: int, part: str) -> None:
    (run_pcsr.cwd / "taken.onnx").touch()
    run_pcsr("export", *arguments.split()).failed(code, part)
    assert run_pcsr.files() == ["taken.onnx"]


def test_without_the_extra_one_sentence_names_the_installation(
    run_pcsr: Pcsr, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run_pcsr.cwd)
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else find_spec(name))
    assert main.run(["export", "builtin", "a.onnx"]) == 2
    assert capsys.readouterr().err == ("pcsr: Exports need onnx and onnxscript. Run: pip install onnx onnxscript.\n")
    assert run_pcsr.files() == []
