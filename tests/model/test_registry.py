"""Registry files are checked strictly, and every kind of reference loads a model."""

from pathlib import Path
from typing import Any, get_args

import platformdirs
import pytest
import torch
from huggingface_hub import close_session, constants
from msgspec.structs import replace

from pcsr_cli.api import load_model
from pcsr_cli.errors import DeviceError, HubError, ModelError, RegistryError, UnknownModelError
from pcsr_cli.model import registry
from pcsr_cli.model.backbones import ORIGINALS
from pcsr_cli.model.checkpoint import save_folder
from pcsr_cli.model.hub import Fetched, HubLocation
from pcsr_cli.model.registry import Entry, OriginalName, Registry, load_registry, own_registry_path, read_registry
from pcsr_cli.model.spec import BackboneSpec, ModelSpec, Scales
from pcsr_cli.model.transfer import Bounds
from tests.failing import fails
from tests.tiny import changeable_model, file_sha256, tiny_model, tiny_spec

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO_LINES = f'repo = "someone/tiny"\nrevision = "{COMMIT}"'
GOOD = f"""
[models.mine]
{REPO_LINES}
backbone = {{ name = "carn", width = 8 }}
samplers = [[4], [8, 8]]
classifier = []
mean = [0.1, 0.2, 0.3]
scales = [4, 2]
receptive_radius = 19
licence = "MIT"
source = "a test"
"""


def read(tmp_path: Path, text: str) -> Registry:
    path = tmp_path / "weights.toml"
    path.write_text(text)
    return read_registry(path)


def refused(tmp_path: Path, text: str, part: str) -> str:
    with fails(RegistryError, part) as raised:
        read(tmp_path, text)
    assert raised.value.sentence.startswith(f"The registry {tmp_path / 'weights.toml'}")
    return raised.value.sentence


def test_the_packaged_registry_pins_the_published_model() -> None:
    carn = load_registry().get("carn")
    assert isinstance(carn.location, HubLocation)
    assert carn.location.repo == "3587jjh/pcsr_carn"
    assert carn.location.revision == "aa0c7379914ee54c416ef79b5d13e898a4379ebc"
    assert carn.location.sha256 and carn.location.config_sha256 and carn.location.size == 691_408
    assert carn.spec == ModelSpec(
        BackboneSpec("carn", 52), ((20,) * 3, (74,) * 4), (10, 10), mean=(0.4488, 0.4371, 0.4040)
    )
    assert (carn.scales, carn.receptive_radius, carn.parameters) == (Scales((4.0,)), 19, 168_970)
    assert carn.licence == "not stated by its authors"


def test_packaged_names_are_consistent() -> None:
    packaged = load_registry()
    assert set(packaged.auto) <= set(packaged.entries)
    assert set(get_args(OriginalName)) == set(ORIGINALS)


def test_an_entry_is_read(tmp_path: Path) -> None:
    entry = read(tmp_path, GOOD).get("mine")
    assert entry.location == HubLocation("someone/tiny", COMMIT)
    assert entry.spec == ModelSpec(BackboneSpec("carn", 8), ((4,), (8, 8)), (), (0.1, 0.2, 0.3))
    assert (entry.scales, entry.receptive_radius) == (Scales((2.0, 4.0)), 19)
    assert (entry.name, entry.licence, entry.source, entry.sha256) == ("mine", "MIT", "a test", None)
    assert read(tmp_path, GOOD + f'sha256 = "{"0f" * 32}"').get("mine").sha256 == "0f" * 32


def test_an_unknown_name_is_an_error_with_the_known_names() -> None:
    with fails(
        UnknownModelError,
        "There is no model 'nonsense', and no file or folder of this name.",
        f"Use {', '.join(load_registry().entries)}, user/repo on the Hub, a folder, a .safetensors or a .pth.",
    ):
        load_registry().get("nonsense")


def test_own_entries_are_added_or_replace_others(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(GOOD + GOOD.replace("models.mine", "models.carn"))
    merged = load_registry(path)
    assert list(merged.entries)[: len(load_registry().entries)] == list(load_registry().entries)
    assert merged.get("carn").licence == merged.get("mine").licence == "MIT"
    assert merged.auto == load_registry().auto


def test_an_own_list_of_candidates_replaces_the_packaged_one(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('auto = ["mine", "carn"]\n' + GOOD)
    assert load_registry(path).auto == ("mine", "carn")
    path.write_text('auto = ["nobody"]\n' + GOOD)
    with fails(RegistryError, f"the registry {path} has unknown models: nobody."):
        load_registry(path)


BAD_REPOS = (
    "tiny",
    "someone/tiny/more",
    "../tiny",
    "someone/..",
    "https://a/b",
    "someone/tiny?a=1",
    "someone/tiny@main",
)
BAD_FILES = ('config = "../config.json"', 'weights = "/etc/passwd"', 'weights = ".."')


@pytest.mark.parametrize(
    ("right", "wrong", "part"),
    [
        ("licence", "license", "unknown field `license`"),
        ("[models.mine]", '[models.mine]\nfiles = { code = "x.py" }', "unknown field `code`"),
        ("width = 8", "width = 8, colour = 1", "unknown field `colour`"),
        ('source = "a test"', "", "missing required field `source`"),
        *(("someone/tiny", repo, "repo must have the form user/name") for repo in BAD_REPOS),
        ('"someone/tiny"', "1", "repo is invalid: expected a text or nothing, got a whole number"),
        (COMMIT, "main", "revision must be a full commit of 40"),
        (COMMIT, "0123456", "revision must be a full commit of 40"),
        *(("[models.mine]", f"[models.mine]\nfiles = {{ {file} }}", "must be a file name") for file in BAD_FILES),
        ("[models.mine]", '[models.mine]\nfolder = "here"', "give exactly one of repo, folder and packaged"),
        (REPO_LINES, 'folder = ""', "folder must be the path of a folder"),
        (REPO_LINES, 'folder = "a\\u0000b"', "folder must be the path of a folder"),
        (REPO_LINES, 'folder = "https://example.com/model"', "folder must be the path of a folder"),
        (REPO_LINES, 'packaged = "../../somewhere"', "packaged must be the name of a folder in the package"),
        (REPO_LINES, 'packaged = "/etc"', "packaged must be the name of a folder in the package"),
        (REPO_LINES, 'packaged = ".."', "packaged must be the name of a folder in the package"),
        ("[models.mine]", '[models.mine]\nname = "other"', "the key `name` has another value, 'other'"),
        ("[models.mine]", '[models."../mine"]', "use only a-z, 0-9, dot, dash and underscore "),
        ("[models.mine]", "[models.Mine]", "use only a-z, 0-9, dot, dash and underscore "),
        ('name = "carn"', 'name = "resnet"', "unknown backbone 'resnet'"),
        ("width = 8", "width = 0", "backbone.width is invalid: expected a whole number >= 1"),
        ("[[4], [8, 8]]", "[[4]]", "samplers is invalid: expected a list of length >= 2"),
        ("[[4], [8, 8]]", "[[4], [0]]", "samplers[1][0] is invalid: expected a whole number >= 1"),
        ("classifier = []", "classifier = [5000]", "classifier[0] is invalid: expected a whole number <= 4096"),
        ("[0.1, 0.2, 0.3]", "[0.1, 0.2, nan]", "mean[2] is invalid: expected a number >= -100000.0"),
        ("classifier = []", "classifier = []\nstd = [0.0, 1.0, 1.0]", "std[0] is invalid: expected a number >= 1e-05"),
        ("[4, 2]", "[]", "scales is invalid: expected a list of length >= 1"),
        ("[4, 2]", "[0.5]", "scales[0] is invalid: expected a number >= 1.0"),
        ("radius = 19", "radius = 0", "receptive_radius is invalid: expected a whole number >= 1"),
        ("radius = 19", "radius = 19\nparameters = 0", "parameters is invalid: expected a whole number >= 1"),
        ("radius = 19", 'radius = 19\noriginal = "vdsr"', "original is invalid: invalid enum value 'vdsr'"),
        ("radius = 19", 'radius = 19\nsha256 = "303E"', "sha256 must have 64"),
        ("radius = 19", 'radius = 19\nconfig_sha256 = "303E"', "config_sha256 must have 64"),
        ("radius = 19", "radius = 19\nsize = 0", "size"),
    ],
)
def test_an_invalid_entry_is_refused(tmp_path: Path, right: str, wrong: str, part: str) -> None:
    assert right in GOOD
    sentence = refused(tmp_path, GOOD.replace(right, wrong), part)
    assert "mine" in sentence.lower()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[models.mine", "is not valid TOML:"),
        ("auto = [1]", "auto[0] is invalid: expected a text"),
        ("[other]\nx = 1", "unknown field `other`"),
        ("[models]\nmine = 1", "models[...] is invalid: expected a set of keys"),
    ],
)
def test_an_invalid_registry_is_refused(tmp_path: Path, text: str, part: str) -> None:
    refused(tmp_path, text, part)


def test_unreadable_registries_are_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    for name in ("nowhere.toml", ""):
        with fails(RegistryError, "Cannot read the registry"):
            read_registry(tmp_path / name)
    with fails(RegistryError, "is not valid TOML:"):
        read_registry(tmp_path / "binary.toml")


def test_the_environment_chooses_the_own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PCSR_REGISTRY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert own_registry_path() is None
    usual = tmp_path / "pcsr" / "weights.toml"
    usual.parent.mkdir()
    usual.write_text("")
    assert own_registry_path() == usual
    monkeypatch.setenv("PCSR_REGISTRY", "named.toml")
    assert own_registry_path() == Path("named.toml")


def test_a_user_without_a_home_has_no_own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(name: str) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("PCSR_REGISTRY", raising=False)
    monkeypatch.setattr(platformdirs, "user_config_path", no_home)
    assert own_registry_path() is None


# Loading.

FOUR = Scales((4.0,))
HERE = HubLocation("someone/tiny", "0" * 40)


def entry(name: str, location: HubLocation | Path, scales: Scales = FOUR) -> Entry:
    spec = tiny_spec("fsrcnn")
    return Entry(
        name=name,
        backbone=spec.backbone,
        samplers=spec.samplers,
        classifier=spec.classifier,
        scale_values=scales.values,
        continuous=scales.continuous,
        receptive_radius=6,
        original="fsrcnn",
        licence="MIT",
        source="a test",
        folder=str(location) if isinstance(location, Path) else None,
        repo=location.repo if isinstance(location, HubLocation) else None,
        revision="0" * 40,
    )


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> list[HubLocation]:
    """The requests to a Hub that has the tiny model in every repository."""
    locations: list[HubLocation] = []

    def fetch(location: HubLocation, *args: object, **options: object) -> Fetched:
        locations.append(location)
        return Fetched(tiny_folder / "config.json", tiny_folder / "model.safetensors", "1" * 40)

    monkeypatch.setattr(registry, "fetch", fetch)
    return locations


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Hub that cannot be reached, and an empty cache, in which no earlier outage is recorded."""

    def fetch(location: HubLocation, *args: object, **options: object) -> Fetched:
        raise HubError("The Hub cannot be reached.", "Wait.")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(registry, "fetch", fetch)


def test_a_registry_name_loads_its_entry(requests: list[HubLocation]) -> None:
    loaded = load_model("tiny", registry=Registry({"tiny": entry("tiny", HERE)}))
    assert requests == [HERE]
    identity = loaded.identity
    assert (identity.name, identity.revision, identity.licence) == ("tiny", "1" * 40, "MIT")
    assert (identity.original, loaded.scales, loaded.notes) == ("fsrcnn", Scales((4.0,)), ())


@pytest.mark.parametrize(
    ("reference", "revision"),
    [("someone/tiny", "main"), ("someone/tiny@dev", "dev"), ("someone/tiny@a/b", "a/b"), ("someone/tiny@", "main")],
)
def test_a_repository_is_fetched(requests: list[HubLocation], reference: str, revision: str) -> None:
    loaded = load_model(reference)
    assert requests == [HubLocation("someone/tiny", revision)]
    assert (loaded.identity.name, loaded.identity.revision) == ("someone/tiny", "1" * 40)
    assert loaded.identity.licence == "not stated"


def test_a_folder_or_its_weights_load(tiny_folder: Path) -> None:
    expected = file_sha256(tiny_folder / "model.safetensors")
    for path in (tiny_folder, tiny_folder / "model.safetensors"):
        loaded = load_model(str(path))
        assert (loaded.identity.name, loaded.identity.revision) == (path.name, None)
        assert (loaded.identity.sha256, loaded.identity.source) == (expected, str(path))
        assert torch.equal(loaded.network.classifier.first.weight, tiny_model("fsrcnn").classifier.first.weight)


def test_a_local_folder_has_priority_over_the_hub(
    requests: list[HubLocation], tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someone").mkdir()
    (tmp_path / "someone" / "tiny").symlink_to(tiny_folder)
    assert load_model("someone/tiny").identity.revision is None
    assert requests == []


def test_a_registry_name_has_priority_over_a_local_folder(
    requests: list[HubLocation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    load_model("tiny", registry=Registry({"tiny": entry("tiny", HERE)}))
    assert requests == [HERE]


@pytest.mark.parametrize("reference", ["nonsense", "", "a/b/c", "a/b.pth", "a/b.safetensors", "../a/b", "x" * 5000])
def test_other_references_are_refused(requests: list[HubLocation], reference: str) -> None:
    with fails(UnknownModelError, "and no file or folder of this name.") as raised:
        load_model(reference)
    assert "carn" in raised.value.next_step
    assert requests == []


def test_device_and_precision_are_checked_before_anything_is_fetched(requests: list[HubLocation]) -> None:
    for device, precision, part in (("toaster", "auto", "Unknown device"), ("cpu", "fp64", "Unknown precision")):
        with fails(DeviceError, part):
            load_model("someone/tiny", device, precision)  # type: ignore[arg-type]
    assert requests == []


def test_the_network_has_the_requested_device_and_precision(tiny_folder: Path) -> None:
    network = load_model(str(tiny_folder), "cpu", "bf16").network
    assert (network.device, network.dtype) == (torch.device("cpu"), torch.bfloat16)


def test_weights_must_fit_the_precision(tmp_path: Path) -> None:
    model = changeable_model("fsrcnn")
    model.classifier.first.bias[0] = 1e6
    save_folder(model, Scales((4.0,)), tmp_path / "large")
    with fails(DeviceError, "The weights of large do not fit fp16."):
        load_model(str(tmp_path / "large"), precision="fp16")


def test_auto_chooses_the_first_model_trained_for_the_scale(requests: list[HubLocation], tiny_folder: Path) -> None:
    entries = {
        "two": entry("two", tiny_folder, Scales((2.0,))),
        "four": entry("four", tiny_folder),
        "any": entry("any", tiny_folder, Scales((1.0, 4.0), continuous=True)),
    }
    known = Registry(entries, ("two", "four", "any"))
    for scale, name in ((2, "two"), (4, "four"), (3.3, "any"), (8, "four")):
        loaded = load_model("auto", registry=known, scale=scale)
        assert (loaded.identity.name, loaded.notes) == (name, ())


def test_auto_prefers_a_model_for_the_sources(requests: list[HubLocation], tiny_folder: Path) -> None:
    entries = {
        "clean": entry("clean", tiny_folder, Scales((2.0, 4.0))),
        "lossy": replace(entry("lossy", tiny_folder), sources="lossy"),
    }
    for auto in (("clean", "lossy"), ("lossy", "clean")):
        known = Registry(entries, auto)
        chosen = [load_model(registry=known, scale=4, lossy=lossy).identity.name for lossy in (False, True)]
        assert chosen == ["clean", "lossy"]
        assert load_model(registry=known, scale=2, lossy=True).identity.name == "clean"
        chosen = [load_model(registry=known, scale=8, lossy=lossy).identity.name for lossy in (False, True)]
        assert chosen == ["clean", "lossy"]  # a larger scale is made from the largest trained one
        assert (known.has_lossy(4), known.has_lossy(8), known.has_lossy(2)) == (True, True, False)
    assert not Registry(entries, ("clean",)).has_lossy(4)


def test_auto_chooses_an_available_model_and_notes_why(no_hub: None, tiny_folder: Path) -> None:
    known = Registry({"far": entry("far", HERE), "near": entry("near", tiny_folder)}, ("far", "near"))
    loaded = load_model("auto", registry=known)
    assert loaded.identity.name == "near"
    (note,) = loaded.notes
    assert "far" in note
    assert "cannot be reached" in note


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"HF_ENDPOINT": "http://["}, "is not an http(s) address"),
        ({"ALL_PROXY": "socks5://127.0.0.1:1"}, "needs the Python package socksio"),
        ({"HTTPS_PROXY": "http://127.0.0.1:port"}, "The proxy settings are invalid"),
        ({"SSL_CERT_FILE": "/nonexistent"}, "Cannot use SSL_CERT_FILE /nonexistent"),
        ({"HF_TOKEN": "hf_schlüssel"}, "HF_TOKEN contains characters"),
    ],
    ids=str,
)
def test_auto_continues_with_builtin_if_a_setting_of_the_hub_is_invalid(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str], reason: str
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    close_session()
    loaded = load_model("auto")
    close_session()
    assert loaded.identity.name == "builtin"
    assert reason in loaded.notes[0] and loaded.notes[0].endswith("; continued without carn")


def test_auto_waits_briefly_for_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_folder: Path) -> None:
    waits: list[float] = []

    def fetch(location: HubLocation, name: str, notify: object, bounds: Bounds) -> Fetched:
        waits.append(bounds.connect)
        return Fetched(tiny_folder / "config.json", tiny_folder / "model.safetensors", "1" * 40)

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(registry, "fetch", fetch)
    known = Registry({"far": entry("far", HERE)}, ("far",))
    for name in ("auto", "far"):
        load_model(name, registry=known)
    assert waits == [2.0, 5.0]


def test_a_named_model_is_never_replaced_by_another(no_hub: None, tiny_folder: Path) -> None:
    known = Registry({"far": entry("far", HERE), "near": entry("near", tiny_folder)}, ("far", "near"))
    with pytest.raises(HubError):
        load_model("far", registry=known)


def test_auto_needs_candidates() -> None:
    with fails(RegistryError, "The registry has no list `auto`"):
        load_model("auto", registry=Registry({}))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"receptive_radius": 7}, "has the wrong receptive_radius 7."),
        ({"backbone": tiny_spec("carn").backbone}, "differs from its registry entry."),
        ({"samplers": tiny_spec("fsrcnn", branches=3).samplers}, "differs from its registry entry."),
    ],
)
def test_files_must_match_the_registry(tiny_folder: Path, change: dict[str, Any], part: str) -> None:
    known = Registry({"tiny": replace(entry("tiny", tiny_folder), **change)})
    with fails(ModelError, "tiny", part):
        load_model("tiny", registry=known)


def test_weights_must_match_the_checksum_of_the_registry(tiny_folder: Path) -> None:
    sha256 = file_sha256(tiny_folder / "model.safetensors")
    right, wrong = (replace(entry("tiny", tiny_folder), sha256=text) for text in (sha256, "0" * 64))
    assert load_model("tiny", registry=Registry({"tiny": right})).identity.sha256 == sha256
    with fails(ModelError, f"The weights of tiny have the sha256 {sha256}, but its registry entry requires 000"):
        load_model("tiny", registry=Registry({"tiny": wrong}))


def test_the_packaged_weights_match_the_registry() -> None:
    # Other weights need another checksum in weights.toml, and another card.
    builtin = load_registry().get("builtin")
    assert isinstance(builtin.location, Path)
    assert builtin.sha256 == file_sha256(builtin.location / "model.safetensors")
