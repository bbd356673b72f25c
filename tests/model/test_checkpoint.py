"""Checkpoint files become networks: strictly, finitely, and without running anything."""

import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pcsr_cli.errors import ModelError, OutputError, PcsrError
from pcsr_cli.model.checkpoint import build_model, load_pickle, load_strictly, read_checkpoint, save_folder
from pcsr_cli.model.spec import ModelSpec, Scales, write_config
from tests.failing import fails
from tests.tiny import BACKBONES, tiny_model, tiny_spec


def changed(folder: Path, tmp_path: Path, **changes: object) -> Path:
    """A copy of a model's folder with other settings in its config."""
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
def test_what_is_saved_is_read_back(tmp_path: Path, backbone: str, branches: int) -> None:
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
def test_normalisation_is_the_backbones_unless_the_folder_tells(
    tmp_path: Path, backbone: str, mean: tuple[float, float, float]
) -> None:
    save_folder(tiny_model(backbone), Scales((4.0,)), tmp_path / "model")
    silent = changed(tmp_path / "model", tmp_path, mean=None, std=None, scales=None, continuous=None)
    found = read_checkpoint(silent)
    assert (found.spec.mean, found.spec.std, found.scales) == (mean, (1, 1, 1), None)
    (silent / "config.json").write_text(json.dumps(published(tiny_spec(backbone)) | {"mean": [0.5, 0.5, 0.5]}))
    assert read_checkpoint(silent).spec.mean == (0.5, 0.5, 0.5)


def test_a_safetensors_has_its_config_beside_it(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes((tiny_folder / "model.safetensors").read_bytes())
    with fails(ModelError, f"{tmp_path / 'config.json'} cannot be read: No such file or directory."):
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
    ("name", "write", "said"),
    [
        ("gone.pth", lambda path: None, "There is no file"),
        ("text.txt", lambda path: path.write_text("hello"), "is no model."),
        ("text.pth", lambda path: path.write_text("hello"), "is no readable PyTorch checkpoint."),
        (
            "code.pth",
            lambda path: write_pickle(path, print),
            "holds more than tensors, or is damaged, and was not opened.",
        ),
        ("empty.pth", lambda path: path.write_bytes(b""), "is no readable PyTorch checkpoint."),
        ("stop.pth", lambda path: path.write_bytes(b"\x80\x02."), "is no readable PyTorch checkpoint."),
        (
            "list.pth",
            lambda path: torch.save([1, 2], path),
            "is not laid out as a published PCSR checkpoint (model: name, args, sd).",
        ),
        (
            "half.pth",
            lambda path: torch.save({"model": {"sd": {}}}, path),
            "is not laid out as a published PCSR checkpoint (model: name, args, sd).",
        ),
        (
            "numbers.pth",
            lambda path: torch.save({"model": {"args": published(tiny_spec("carn")), "sd": {"a": 1}}}, path),
            "its state dict holds more than named tensors.",
        ),
    ],
)
def test_what_is_no_model_is_told(tmp_path: Path, name: str, write: Callable[[Path], object], said: str) -> None:
    write(tmp_path / name)
    with fails(ModelError, str(tmp_path / name), said):
        read_checkpoint(tmp_path / name)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_read_or_refused_whatever_its_bytes(tmp_path: Path, zipped: bool) -> None:
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


def test_what_is_no_folder_of_a_model_is_told(tiny_folder: Path, tmp_path: Path) -> None:
    copy = changed(tiny_folder, tmp_path)
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with fails(ModelError, "is no whole safetensors file:"):
        read_checkpoint(copy)
    weights.unlink()
    with fails(ModelError, f"{weights} is missing."):
        read_checkpoint(copy)
    (copy / "config.json").write_text("{")
    with fails(ModelError, "is not valid JSON:"):
        read_checkpoint(copy)


def refused(said: str, weights: dict[str, Tensor]) -> PcsrError:
    with torch.device("meta"):
        model = type(tiny_model("carn"))(tiny_spec("carn"))
    with fails(ModelError, said) as told:
        load_strictly(model, weights, "the file")
    assert "the file" in told.value.sentence
    return told.value


def test_every_missing_and_unexpected_key_is_named() -> None:
    weights = state()
    weights["extra.b"] = weights.pop(KEY)
    weights["extra.a"] = torch.zeros(1)
    sentence = refused("does not fit its config: keys", weights).sentence
    assert f"missing: {KEY}; unexpected: extra.a, extra.b" in sentence


def test_of_very_many_keys_some_are_named_and_the_rest_counted() -> None:
    assert "and" in (sentence := refused("does not fit its config: keys", {}).sentence)
    assert len(sentence) < 500
    assert f"{len(state()) - 8} more" in sentence


def test_other_shapes_are_named() -> None:
    assert (
        f"of another shape: {KEY}" in refused("does not fit its config: keys", state() | {KEY: torch.zeros(2)}).sentence
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_numbers_that_are_not_finite_in_float32_are_named(value: float) -> None:
    broken = state()[KEY].double()
    broken[1] = value
    assert f"not finite: {KEY}" in refused("holds numbers that are not finite:", state() | {KEY: broken}).sentence


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
    assert (
        f"{KEY} is not an ordinary tensor" in refused("is not an ordinary tensor of", state() | {KEY: value}).sentence
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_welcome(tmp_path: Path, tiny_folder: Path, dtype: torch.dtype) -> None:
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
