"""Checkpoint files are read strictly and without executing any code in them."""

import json
import os
import pickle
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pcsr_cli.errors import ModelError, OutputError, PcsrError, RefusedOutputError
from pcsr_cli.model.checkpoint import build_model, load_pickle, load_strictly, read_checkpoint, save_folder
from pcsr_cli.model.spec import ModelSpec, Scales, write_config
from tests.failing import fails
from tests.tiny import BACKBONES, tiny_model, tiny_spec


def changed(folder: Path, tmp_path: Path, **changes: object) -> Path:
    """A copy of a model's folder with changes to its config; None removes a key."""
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    config = json.loads((folder / "config.json").read_text()) | changes
    kept = {key: value for key, value in config.items() if value is not None}
    (copy / "config.json").write_text(json.dumps(kept))
    return copy


def published(spec: ModelSpec) -> dict[str, object]:
    return {key: value for key, value in write_config(spec, Scales((4.0,))).items() if key.endswith("_spec")}


@pytest.mark.parametrize("branches", [2, 3])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_saved_model_is_read_back(tmp_path: Path, backbone: str, branches: int) -> None:
    model, scales = tiny_model(backbone, branches), Scales((1.0, 4.0), continuous=True)
    save_folder(model, scales, tmp_path / "deep" / "folder")
    found = read_checkpoint(tmp_path / "deep" / "folder")
    assert (found.spec, found.scales) == (model.spec, scales)
    rebuilt = build_model(found)
    for key, value in model.state_dict().items():
        assert torch.equal(rebuilt.state_dict()[key], value)
    assert sorted(path.name for path in (tmp_path / "deep" / "folder").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_a_model_is_ready_to_evaluate(tiny_folder: Path) -> None:
    model = build_model(read_checkpoint(tiny_folder))
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert (model.dtype, model.device.type) == (torch.float32, "cpu")


@pytest.mark.parametrize(
    ("backbone", "mean"), [("carn", (0.4488, 0.4371, 0.4040)), ("fsrcnn", (0, 0, 0)), ("srresnet", (0, 0, 0))]
)
def test_normalisation_is_the_backbones_unless_the_config_states_it(
    tmp_path: Path, backbone: str, mean: tuple[float, float, float]
) -> None:
    save_folder(tiny_model(backbone), Scales((4.0,)), tmp_path / "model")
    silent = changed(tmp_path / "model", tmp_path, mean=None, std=None, scales=None, continuous=None)
    found = read_checkpoint(silent)
    assert (found.spec.mean, found.spec.std, found.scales) == (mean, (1, 1, 1), None)
    (silent / "config.json").write_text(json.dumps(published(tiny_spec(backbone)) | {"mean": [0.5, 0.5, 0.5]}))
    assert read_checkpoint(silent).spec.mean == (0.5, 0.5, 0.5)


def test_a_safetensors_has_its_config_beside_it(tiny_folder: Path, tmp_path: Path) -> None:
    save_file(load_file(tiny_folder / "model.safetensors"), tmp_path / "mine.safetensors")
    with fails(ModelError, f"Cannot read {tmp_path / 'config.json'}: no such file or directory."):
        read_checkpoint(tmp_path / "mine.safetensors")
    (tmp_path / "config.json").write_text("not this one")
    (tmp_path / "mine.json").write_text((tiny_folder / "config.json").read_text())
    assert read_checkpoint(tmp_path / "mine.safetensors").spec == tiny_spec("fsrcnn")
    (tmp_path / "mine.json").rename(tmp_path / "config.json")
    assert read_checkpoint(tmp_path / "mine.safetensors").spec == tiny_spec("fsrcnn")


def test_a_pth_is_read_as_published(tmp_path: Path) -> None:
    model = tiny_model("carn")
    content = {"model": {"name": "pcsr-phase1", "args": published(model.spec), "sd": model.state_dict()}}
    for name, zipped in (("new.pth", True), ("old.pt", False)):
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=zipped)
        found = read_checkpoint(tmp_path / name)
        assert (found.spec, found.scales) == (model.spec, None)
        assert torch.equal(build_model(found).classifier.first.weight, model.classifier.first.weight)


def state() -> dict[str, Tensor]:
    return {key: value.clone() for key, value in tiny_model("carn").state_dict().items()}


KEY = "classifier.imnet.layers.0.bias"


def write_pickle(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize(
    ("name", "write", "part"),
    [
        ("gone.pth", lambda path: None, "There is no file"),
        ("text.txt", lambda path: path.write_text("hello"), "is not a model."),
        ("text.pth", lambda path: path.write_text("hello"), "is not a readable PyTorch checkpoint."),
        (
            "code.pth",
            lambda path: write_pickle(path, print),
            "is damaged or contains more than tensors, and was not opened.",
        ),
        ("empty.pth", lambda path: path.write_bytes(b""), "is not a readable PyTorch checkpoint."),
        ("stop.pth", lambda path: path.write_bytes(b"\x80\x02."), "is not a readable PyTorch checkpoint."),
        (
            "list.pth",
            lambda path: torch.save([1, 2], path),
            "does not have the layout of a published PCSR checkpoint (model: name, args, sd).",
        ),
        (
            "half.pth",
            lambda path: torch.save({"model": {"sd": {}}}, path),
            "does not have the layout of a published PCSR checkpoint (model: name, args, sd).",
        ),
        (
            "numbers.pth",
            lambda path: torch.save({"model": {"args": published(tiny_spec("carn")), "sd": {"a": 1}}}, path),
            "the state dict contains more than named tensors.",
        ),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, write: Callable[[Path], object], part: str) -> None:
    write(tmp_path / name)
    with fails(ModelError, str(tmp_path / name), part):
        read_checkpoint(tmp_path / name)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_damaged_pickle_is_read_or_refused(tmp_path: Path, zipped: bool) -> None:
    torch.save(
        {"model": state(), "numbers": [1, 2.5, "three"]}, tmp_path / "whole", _use_new_zipfile_serialization=zipped
    )
    whole, dice = (tmp_path / "whole").read_bytes(), random.Random(0)
    refusals = 0
    for _ in range(200):
        damaged = bytearray(whole[: dice.choice((len(whole), dice.randrange(1, len(whole))))])
        for _ in range(dice.choice((1, 5, 20))):
            damaged[dice.randrange(min(len(damaged), 3000))] = dice.randrange(256)
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            load_pickle(tmp_path / "damaged")
        except ModelError:
            refusals += 1
    assert refusals > 100


def test_an_incomplete_folder_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    copy = changed(tiny_folder, tmp_path)
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with fails(ModelError, "is not a complete safetensors file:"):
        read_checkpoint(copy)
    weights.unlink()
    with fails(ModelError, f"{weights} is missing."):
        read_checkpoint(copy)
    (copy / "config.json").write_text("{")
    with fails(ModelError, "is not valid JSON:"):
        read_checkpoint(copy)


def refused(part: str, weights: dict[str, Tensor]) -> PcsrError:
    with torch.device("meta"):
        model = type(tiny_model("carn"))(tiny_spec("carn"))
    with fails(ModelError, part) as told:
        load_strictly(model, weights, "the file")
    assert "the file" in told.value.sentence
    return told.value


def test_every_missing_and_unexpected_key_is_named() -> None:
    weights = state()
    weights["extra.b"] = weights.pop(KEY)
    weights["extra.a"] = torch.zeros(1)
    sentence = refused("does not fit its config:", weights).sentence
    assert f"missing: {KEY}; unexpected: extra.a, extra.b" in sentence


def test_a_long_list_of_keys_is_cut() -> None:
    assert "and" in (sentence := refused("does not fit its config:", {}).sentence)
    assert len(sentence) < 500
    assert f"{len(state()) - 8} more" in sentence


def test_other_shapes_are_named() -> None:
    assert f"wrong shape: {KEY}" in refused("does not fit its config:", state() | {KEY: torch.zeros(2)}).sentence


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_numbers_that_are_not_finite_in_float32_are_named(value: float) -> None:
    broken = state()[KEY].double()
    broken[1] = value
    assert f"NaN values: {KEY}" in refused("contains infinite or NaN values:", state() | {KEY: broken}).sentence


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(5, dtype=torch.complex64),
        torch.zeros(5, dtype=torch.int64),
        torch.zeros(5).to_sparse(),
        torch.zeros(5, device="meta"),
    ],
    ids=["complex", "whole numbers", "sparse", "without data"],
)
def test_tensors_of_another_kind_are_named(value: Tensor) -> None:
    assert f"{KEY} is not a dense tensor" in refused("is not a dense tensor of", state() | {KEY: value}).sentence


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_converted(tmp_path: Path, tiny_folder: Path, dtype: torch.dtype) -> None:
    folder = changed(tiny_folder, tmp_path)
    save_file({key: value.to(dtype) for key, value in load_file(folder / "model.safetensors").items()}, folder / "x")
    (folder / "x").rename(folder / "model.safetensors")
    assert build_model(read_checkpoint(folder)).dtype == torch.float32


def test_tied_tensors_can_be_saved(tmp_path: Path) -> None:
    model = build_model(read_checkpoint(_tied(tmp_path)))
    save_folder(model, Scales((4.0,)), tmp_path / "out")
    assert torch.equal(
        build_model(read_checkpoint(tmp_path / "out")).classifier.first.bias, model.classifier.first.bias
    )


def _tied(tmp_path: Path) -> Path:
    weights = dict(tiny_model("fsrcnn").state_dict())
    weights["encoder.body_conv.2.bias"] = weights["encoder.body_conv.1.bias"]
    content = {"model": {"name": "pcsr-phase1", "args": published(tiny_spec("fsrcnn")), "sd": weights}}
    torch.save(content, tmp_path / "tied.pth")
    return tmp_path / "tied.pth"


def test_saving_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *args: object, **named: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with fails(OutputError, "cannot be written:", "Free space, or choose another"):
        save_folder(tiny_model("fsrcnn"), Scales((4.0,)), tmp_path / "new" / "folder")
    assert list(tmp_path.iterdir()) == []


def test_a_config_that_never_ends_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    folder = changed(tiny_folder, tmp_path)
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    with fails(ModelError, "Cannot read"):
        read_checkpoint(folder)


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    torch.save({"model": state()}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(tmp_path / "bomb.pth", "w", 8) as bomb:
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    with fails(ModelError, "is not a readable PyTorch checkpoint."):
        load_pickle(tmp_path / "bomb.pth")


def test_saving_does_not_replace_a_config_unless_allowed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("mine")
    with fails(RefusedOutputError, "config.json"):
        save_folder(tiny_model("fsrcnn"), Scales((4.0,)), tmp_path, replace=False)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == "mine"


# Saves a model and kills itself before the file operation of the given number; prints the number of operations without.
KILLED = """
import os, signal, sys
from pathlib import Path
from pcsr_cli.model.checkpoint import save_folder
from pcsr_cli.model.spec import Scales
from tests.tiny import tiny_model

model = tiny_model("carn", seed=2)
for last in range(100):
    folder = Path(sys.argv[1]) / str(last)
    if sys.argv[2:]:
        save_folder(tiny_model("fsrcnn"), Scales((4.0,)), folder)
    child = os.fork()
    if not child:
        count = 0

        def audit(event, arguments):
            global count
            if event in {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "open"}:
                count += 1
                if count > last:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(audit)
        save_folder(model, Scales((2.0,)), folder)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
"""


@pytest.mark.slow
@pytest.mark.parametrize("existing", [False, True])
def test_a_killed_process_leaves_the_old_model_or_the_new_one(tmp_path: Path, existing: bool) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), *(["existing"] if existing else [])]
    subprocess.run(command, check=True, timeout=200)
    found = {}
    for folder in sorted(tmp_path.iterdir(), key=lambda folder: int(folder.name)):
        try:
            checkpoint = read_checkpoint(folder)
        except ModelError:
            assert not existing and not any(folder.glob("*.safetensors"))
            continue
        network = build_model(checkpoint)
        new = checkpoint.scales == Scales((2.0,))
        expected = tiny_model("carn", seed=2) if new else tiny_model("fsrcnn")
        assert torch.equal(network.classifier.first.weight, expected.classifier.first.weight)
        found[int(folder.name)] = new
    assert len(found) > 2 and found[max(found)]
    assert existing == (False in found.values())
