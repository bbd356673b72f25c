"""A model by any name a user may give it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pcsr_cli.api import load_model
from pcsr_cli.errors import DeviceError, HubError, ModelError, RegistryError, UnknownModelError
from pcsr_cli.model import load as models
from pcsr_cli.model.checkpoint import save_folder
from pcsr_cli.model.hub import Fetched
from pcsr_cli.model.hub_cache import file_sha256
from pcsr_cli.model.registry import Entry, HubLocation, Registry, load_registry
from pcsr_cli.model.spec import Scales
from tests.failing import fails
from tests.tiny import changeable_model, tiny_model, tiny_spec

HERE = HubLocation("someone/tiny", "0" * 40)


def entry(name: str, location: HubLocation | Path, scales: Scales | None = None) -> Entry:
    known = scales or Scales((4.0,))
    return Entry(name, location, tiny_spec("fsrcnn"), known, 6, "MIT", "a test", original="fsrcnn")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> list[HubLocation]:
    """What was asked of a Hub that has the tiny model under every name."""
    locations: list[HubLocation] = []

    def fetch(location: HubLocation, name: str, show_progress: bool = False) -> Fetched:
        locations.append(location)
        return Fetched(tiny_folder / "config.json", tiny_folder / "model.safetensors", "1" * 40)

    monkeypatch.setattr(models, "fetch", fetch)
    return locations


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(location: HubLocation, name: str, show_progress: bool = False) -> Fetched:
        raise HubError("The Hub cannot be reached.", "Wait.")

    monkeypatch.setattr(models, "fetch", fetch)


def test_a_registry_name(asked: list[HubLocation]) -> None:
    loaded = load_model("tiny", registry=Registry({"tiny": entry("tiny", HERE)}))
    assert asked == [HERE]
    identity = loaded.identity
    assert (identity.name, identity.revision, identity.licence) == ("tiny", "1" * 40, "MIT")
    assert (identity.original, loaded.scales, loaded.notes) == ("fsrcnn", Scales((4.0,)), ())


@pytest.mark.parametrize(
    ("reference", "revision"),
    [("someone/tiny", "main"), ("someone/tiny@dev", "dev"), ("someone/tiny@a/b", "a/b"), ("someone/tiny@", "main")],
)
def test_a_repository(asked: list[HubLocation], reference: str, revision: str) -> None:
    loaded = load_model(reference)
    assert asked == [HubLocation("someone/tiny", revision)]
    assert (loaded.identity.name, loaded.identity.revision) == ("someone/tiny", "1" * 40)
    assert loaded.identity.licence == "not stated"


def test_a_folder_and_its_weights(tiny_folder: Path) -> None:
    expected = file_sha256(tiny_folder / "model.safetensors")
    for path in (tiny_folder, tiny_folder / "model.safetensors"):
        loaded = load_model(str(path))
        assert (loaded.identity.name, loaded.identity.revision) == (path.name, None)
        assert (loaded.identity.sha256, loaded.identity.source) == (expected, str(path))
        assert torch.equal(loaded.network.classifier.first.weight, tiny_model("fsrcnn").classifier.first.weight)


def test_what_lies_here_goes_before_what_is_on_the_hub(
    asked: list[HubLocation], tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someone").mkdir()
    (tmp_path / "someone" / "tiny").symlink_to(tiny_folder)
    assert load_model("someone/tiny").identity.revision is None
    assert asked == []


def test_a_registry_name_goes_before_what_lies_here(
    asked: list[HubLocation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    load_model("tiny", registry=Registry({"tiny": entry("tiny", HERE)}))
    assert asked == [HERE]


@pytest.mark.parametrize("reference", ["nonsense", "", "a/b/c", "a/b.pth", "a/b.safetensors", "../a/b", "x" * 5000])
def test_what_is_none_of_these(asked: list[HubLocation], reference: str) -> None:
    with fails(UnknownModelError, "nor a file or folder of that name.") as told:
        load_model(reference)
    assert "carn" in told.value.next_step
    assert asked == []


def test_device_and_precision_are_checked_before_anything_is_fetched(asked: list[HubLocation]) -> None:
    for device, precision, said in (("toaster", "auto", "is no device."), ("cpu", "fp64", "is no precision.")):
        with fails(DeviceError, said):
            load_model("someone/tiny", device, precision)  # type: ignore[arg-type]
    assert asked == []


def test_the_network_is_where_and_what_was_asked_for(tiny_folder: Path) -> None:
    network = load_model(str(tiny_folder), "cpu", "bf16").network
    assert (network.device, network.dtype) == (torch.device("cpu"), torch.bfloat16)


def test_weights_have_to_fit_the_precision(tmp_path: Path) -> None:
    model = changeable_model("fsrcnn")
    model.classifier.first.bias[0] = 1e6
    save_folder(model, Scales((4.0,)), tmp_path / "large")
    with fails(DeviceError, "The weights of large do not fit fp16."):
        load_model(str(tmp_path / "large"), precision="fp16")


def test_auto_takes_the_first_that_was_trained_for_the_scale(asked: list[HubLocation], tiny_folder: Path) -> None:
    entries = {
        "two": entry("two", tiny_folder, Scales((2.0,))),
        "four": entry("four", tiny_folder),
        "any": entry("any", tiny_folder, Scales((1.0, 4.0), continuous=True)),
    }
    registry = Registry(entries, ("two", "four", "any"))
    for scale, name in ((2, "two"), (4, "four"), (3.3, "any"), (8, "any")):
        loaded = load_model("auto", registry=registry, scale=scale)
        assert (loaded.identity.name, loaded.notes) == (name, ())


def test_auto_falls_back_on_what_can_be_had_and_says_so(no_hub: None, tiny_folder: Path) -> None:
    registry = Registry({"far": entry("far", HERE), "near": entry("near", tiny_folder)}, ("far", "near"))
    loaded = load_model("auto", registry=registry)
    assert loaded.identity.name == "near"
    (note,) = loaded.notes
    assert "far" in note
    assert "cannot be reached" in note


def test_a_model_asked_for_by_name_is_that_or_none(no_hub: None, tiny_folder: Path) -> None:
    registry = Registry({"far": entry("far", HERE), "near": entry("near", tiny_folder)}, ("far", "near"))
    with pytest.raises(HubError):
        load_model("far", registry=registry)


def test_auto_needs_an_order() -> None:
    with fails(RegistryError, "The registry has no order for --model auto."):
        load_model("auto", registry=Registry({}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"receptive_radius": 7}, "a receptive radius its backbone does not have."),
        ({"spec": tiny_spec("carn")}, "describe another network than the registry does."),
        ({"spec": tiny_spec("fsrcnn", branches=3)}, "describe another network than the registry does."),
    ],
)
def test_files_have_to_be_what_the_registry_says(tiny_folder: Path, change: dict[str, Any], said: str) -> None:
    registry = Registry({"tiny": replace(entry("tiny", tiny_folder), **change)})
    with fails(ModelError, "tiny", said):
        load_model("tiny", registry=registry)


def test_weights_that_a_registry_names_have_to_be_those(tiny_folder: Path) -> None:
    sha256 = file_sha256(tiny_folder / "model.safetensors")
    right, wrong = (replace(entry("tiny", tiny_folder), sha256=told) for told in (sha256, "0" * 64))
    assert load_model("tiny", registry=Registry({"tiny": right})).identity.sha256 == sha256
    with fails(ModelError, f"The weights of tiny are not those its registry entry names: their sha256 is {sha256}."):
        load_model("tiny", registry=Registry({"tiny": wrong}))


def test_the_packaged_weights_are_those_the_registry_names() -> None:
    # Other weights need another checksum in weights.toml, and another card.
    builtin = load_registry().get("builtin")
    assert isinstance(builtin.location, Path)
    assert builtin.sha256 == file_sha256(builtin.location / "model.safetensors")
