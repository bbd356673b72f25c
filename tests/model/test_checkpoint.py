"""Checkpoint files are read strictly and without executing any code in them."""

import os
import pickle
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pcsr_cli.errors import ModelError, OutputError, RefusedOutputError
from pcsr_cli.model.checkpoint import MAX_HEADER, build_model, load_pickle, load_strictly, read_checkpoint, save_folder
from pcsr_cli.model.network import Pcsr
from pcsr_cli.model.spec import ModelSpec, Scales, write_config
from tests.failing import fails
from tests.tiny import BACKBONES, file_sha256, tiny_model, tiny_spec

KEY = "classifier.imnet.layers.0.bias"
NO_LAYOUT = "does not have the layout of a published PCSR checkpoint (model: name, args, sd)."
UNREADABLE = "is not a readable PyTorch checkpoint."


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of a model's folder that a test may modify."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def published(spec: ModelSpec) -> dict[str, object]:
    """The constructor arguments of a published file."""
    return {key: value for key, value in write_config(spec, Scales((4.0,))).items() if key.endswith("_spec")}


def pth(spec: ModelSpec, weights: Mapping[str, object]) -> dict[str, object]:
    """The content of a published checkpoint."""
    return {"model": {"name": "pcsr-phase1", "args": published(spec), "sd": weights}}


def state() -> dict[str, Tensor]:
    return {key: value.clone() for key, value in tiny_model("carn").state_dict().items()}


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
    assert {path.name for path in (tmp_path / "deep" / "folder").iterdir()} == {"config.json", "model.safetensors"}


def test_a_model_is_ready_to_evaluate(tiny_folder: Path) -> None:
    model = build_model(read_checkpoint(tiny_folder))
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert (model.dtype, model.device.type) == (torch.float32, "cpu")


def test_a_safetensors_has_its_config_beside_it(tiny_folder: Path, tmp_path: Path) -> None:
    save_file(load_file(tiny_folder / "model.safetensors"), tmp_path / "mine.safetensors")
    with fails(ModelError, f"Cannot read {tmp_path / 'config.json'}: no such file or directory."):
        read_checkpoint(tmp_path / "mine.safetensors")
    (tmp_path / "config.json").write_text("not this one")
    (tmp_path / "mine.json").write_text((tiny_folder / "config.json").read_text())
    assert read_checkpoint(tmp_path / "mine.safetensors").spec == tiny_spec("fsrcnn")
    (tmp_path / "mine.json").rename(tmp_path / "config.json")
    assert read_checkpoint(tmp_path / "mine.safetensors").spec == tiny_spec("fsrcnn")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_published_pth_is_read(tmp_path: Path, zipped: bool) -> None:
    model = tiny_model("carn")
    torch.save(pth(model.spec, model.state_dict()), tmp_path / "published.pth", _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(tmp_path / "published.pth")
    assert (found.spec, found.scales) == (model.spec, None)
    assert torch.equal(build_model(found).classifier.first.weight, model.classifier.first.weight)


@pytest.mark.parametrize(
    ("name", "write", "part"),
    [
        ("gone.pth", lambda path: None, "Cannot read"),
        ("text.txt", lambda path: path.write_text("hello"), "is not a model."),
        ("text.pth", lambda path: path.write_text("hello"), UNREADABLE),
        ("empty.pth", lambda path: path.touch(), UNREADABLE),
        ("stop.pt", lambda path: path.write_bytes(b"\x80\x02."), UNREADABLE),
        ("code.pth", lambda path: path.write_bytes(pickle.dumps(print)), "more than tensors, and was not opened."),
        ("list.pth", lambda path: torch.save([1, 2], path), NO_LAYOUT),
        ("half.pth", lambda path: torch.save({"model": {"sd": {}}}, path), NO_LAYOUT),
        ("number.pt", lambda path: torch.save(pth(tiny_spec("carn"), {"a": 1}), path), "more than named tensors."),
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


def test_an_incomplete_folder_is_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with fails(ModelError, "is not a complete safetensors file:"):
        read_checkpoint(folder)
    weights.unlink()
    with fails(ModelError, f"{weights} is missing."):
        read_checkpoint(folder)
    for text in ("{", "[" * 100_000, "1" * 5000):
        (folder / "config.json").write_text(text)
        with fails(ModelError, "is not valid JSON:", "Fetch or copy") as raised:
            read_checkpoint(folder)
        assert "sys." not in str(raised.value)
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    with fails(ModelError, "Cannot read"):
        read_checkpoint(folder)


def refused(weights: dict[str, Tensor], *parts: str) -> str:
    """Check that loading the weights fails with these parts, and return the sentence."""
    with torch.device("meta"):
        model = Pcsr(tiny_spec("carn"))
    with fails(ModelError, "the file", *parts) as raised:
        load_strictly(model, weights, "the file")
    return raised.value.sentence


def test_missing_and_unexpected_keys_are_reported() -> None:
    weights = state()
    weights["extra.b"] = weights.pop(KEY)
    weights["extra.a"] = torch.zeros(1)
    refused(weights, f"does not fit its config: missing: {KEY}; unexpected: extra.a, extra.b")


def test_a_long_list_of_keys_is_shortened() -> None:
    assert len(refused({}, "does not fit its config:", f"and {len(state()) - 8} more")) < 500


def bias_with(value: float) -> Tensor:
    return torch.tensor([0, value, 0, 0, 0], dtype=torch.float64)


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (torch.zeros(2), f"does not fit its config: wrong shape: {KEY}"),
        (bias_with(float("nan")), f"contains infinite or NaN values: {KEY}"),
        (bias_with(float("inf")), f"contains infinite or NaN values: {KEY}"),
        (bias_with(-float("inf")), f"contains infinite or NaN values: {KEY}"),
        (bias_with(1e300), f"contains infinite or NaN values: {KEY}"),
        (torch.zeros(5, dtype=torch.complex64), f"{KEY} is not a dense tensor of"),
        (torch.zeros(5, dtype=torch.int64), f"{KEY} is not a dense tensor of"),
        (torch.zeros(5).to_sparse(), f"{KEY} is not a dense tensor of"),
        (torch.zeros(5, device="meta"), f"{KEY} is not a dense tensor of"),
    ],
)
def test_an_unusable_tensor_is_reported(value: Tensor, part: str) -> None:
    refused(state() | {KEY: value}, part)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_converted(folder: Path, dtype: torch.dtype) -> None:
    weights = folder / "model.safetensors"
    converted = {key: value.to(dtype) for key, value in load_file(weights).items()}
    weights.unlink()
    save_file(converted, weights)
    assert build_model(read_checkpoint(folder)).dtype == torch.float32


def test_tensors_that_share_memory_can_be_saved(tmp_path: Path) -> None:
    weights = dict(tiny_model("fsrcnn").state_dict())
    weights["encoder.body_conv.2.bias"] = weights["encoder.body_conv.1.bias"]
    torch.save(pth(tiny_spec("fsrcnn"), weights), tmp_path / "shared.pth")
    save_folder(build_model(read_checkpoint(tmp_path / "shared.pth")), Scales((4.0,)), tmp_path / "out")
    saved = build_model(read_checkpoint(tmp_path / "out")).state_dict()
    assert all(torch.equal(saved[key], value) for key, value in weights.items())


def test_a_failed_save_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *args: object, **named: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with fails(OutputError, "cannot be written:", "Free space, or choose another"):
        save_folder(tiny_model("fsrcnn"), Scales((4.0,)), tmp_path / "new" / "folder")
    assert list(tmp_path.iterdir()) == []


def rewritten(plain: Path, target: Path, compression: int) -> None:
    """Copy an archive with another compression."""
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))


def overlapping(plain: Path, target: Path) -> None:
    """Copy an archive and list its entries twice."""
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
        new.filelist *= 2


BOMBS: dict[str, Callable[[Path, Path], object]] = {
    "a compressed archive": lambda plain, path: rewritten(plain, path, zipfile.ZIP_DEFLATED),
    "overlapping entries": overlapping,
    "a long pickle": lambda plain, path: torch.save("x" * MAX_HEADER, path),
    "a long pickle without numbers": lambda plain, path: path.write_bytes(b"\x80\x02]" + b"N" * 4 * MAX_HEADER + b"."),
    "a large object": lambda plain, path: path.write_bytes(b"\x80\x02c__builtin__\nbytearray\nJ\0\0\0\x10\x85R."),
    "many copies": lambda plain, path: path.write_bytes(pickle.dumps([b"copy"] * 2, protocol=2)),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_pickle_that_grows_in_memory_is_refused(tmp_path: Path, kind: str) -> None:
    torch.save({"model": state()}, tmp_path / "plain.pth")
    BOMBS[kind](tmp_path / "plain.pth", tmp_path / "bomb.pth")
    with fails(ModelError, "is not a readable PyTorch checkpoint:", "Save it again with torch.save."):
        load_pickle(tmp_path / "bomb.pth")


def test_a_network_is_bounded_before_its_weights_are_read() -> None:
    with torch.device("meta"):
        model = Pcsr(msgspec.structs.replace(tiny_spec("carn"), samplers=((4096,) * 18, (5,))))
    weights = {key: torch.zeros(()).expand(value.shape) for key, value in model.state_dict().items()}
    with fails(ModelError, "the file describes weights of 1,", "bytes, more than the limit of 1,073,741,824."):
        load_strictly(model, weights, "the file")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_is_bounded_before_it_is_read(folder: Path, name: str) -> None:
    os.truncate(folder / name, 2**40)  # takes no space on the disk
    with fails(
        ModelError, f"Cannot read {folder / name}: the file has 1,099,511,627,776 bytes, more than the limit of"
    ):
        read_checkpoint(folder)


@pytest.mark.parametrize("name", ["config.json", "some.pth"])
def test_a_device_is_not_read(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("/dev/zero")
    with fails(ModelError, f"Cannot read {folder / name}: not a regular file."):
        read_checkpoint(folder if name == "config.json" else folder / name)


def test_a_long_list_of_tensors_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((MAX_HEADER + 2).to_bytes(8, "little") + b"{}" + bytes(MAX_HEADER))
    with fails(ModelError, "is not a complete safetensors file: the header has", "more than the limit"):
        read_checkpoint(folder)


@pytest.mark.parametrize("change", [b"", bytes(10_000)], ids=["truncated", "overwritten"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_change_of_the_file_has_no_effect_on_a_read_model(folder: Path, suffix: str, change: bytes) -> None:
    model = tiny_model("fsrcnn")
    path = folder / f"model{suffix}"
    if suffix == ".pth":
        torch.save(pth(model.spec, model.state_dict()), path)
    sha256 = file_sha256(path)
    found = read_checkpoint(path)
    with path.open("r+b") as file:
        file.truncate(len(change))
        file.write(change)
    assert found.sha256 == sha256 != file_sha256(path)
    network = build_model(found).state_dict()
    assert all(torch.equal(network[key], value) for key, value in model.state_dict().items())


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
from pcsr_cli.model.network import Pcsr
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
def test_a_killed_save_leaves_the_old_or_the_new_model(tmp_path: Path, existing: bool) -> None:
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
