"""Registry files are data, and everything in them is checked."""

from pathlib import Path

import pytest

from pcsr_cli.failures import Failure, registry
from pcsr_cli.nets import ORIGINALS
from pcsr_cli.specs import BackboneSpec, ModelSpec, Scales
from pcsr_cli.weights.registry import ORIGINALS as NAMES
from pcsr_cli.weights.registry import Entry, HubLocation, Registry, load_registry, own_registry_path, read_registry
from tests.failing import fails

GOOD = """
[models.mine]
repo = "someone/tiny"
revision = "0123456789abcdef0123456789abcdef01234567"
backbone = { name = "carn", width = 8 }
samplers = [[4], [8, 8]]
classifier = []
mean = [0.1, 0.2, 0.3]
scales = [4, 2]
receptive_radius = 19
licence = "MIT"
source = "a test"
"""

REPO_LINES = 'repo = "someone/tiny"\nrevision = "0123456789abcdef0123456789abcdef01234567"'


def read(tmp_path: Path, text: str) -> Registry:
    path = tmp_path / "weights.toml"
    path.write_text(text)
    return read_registry(path)


def refused(tmp_path: Path, text: str, row: Failure) -> str:
    with fails(row) as told:
        read(tmp_path, text)
    assert told.value.sentence.startswith(f"The registry {tmp_path / 'weights.toml'}")
    return told.value.sentence


def test_the_packaged_registry_pins_the_published_model() -> None:
    carn = load_registry().get("carn")
    assert carn.location == HubLocation("3587jjh/pcsr_carn", "aa0c7379914ee54c416ef79b5d13e898a4379ebc")
    assert carn.spec == ModelSpec(
        BackboneSpec("carn", 52), ((20,) * 3, (74,) * 4), (10, 10), mean=(0.4488, 0.4371, 0.4040)
    )
    assert (carn.scales, carn.receptive_radius, carn.parameters) == (Scales((4.0,)), 19, 168_970)
    assert carn.licence == "not stated by its authors"


def test_every_packaged_entry_is_in_the_order_of_choice_or_asked_for_by_name() -> None:
    packaged = load_registry()
    assert set(packaged.auto) <= set(packaged.entries)


def test_originals_are_the_networks_there_are() -> None:
    assert set(NAMES) == set(ORIGINALS)


def test_an_entry_is_read_in_full(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD).entries == {
        "mine": Entry(
            name="mine",
            location=HubLocation("someone/tiny", "0123456789abcdef0123456789abcdef01234567"),
            spec=ModelSpec(BackboneSpec("carn", 8), ((4,), (8, 8)), (), (0.1, 0.2, 0.3)),
            scales=Scales((2.0, 4.0)),
            receptive_radius=19,
            licence="MIT",
            source="a test",
        )
    }


def test_a_checksum_is_kept(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD + f'sha256 = "{"0f" * 32}"').get("mine").sha256 == "0f" * 32


def test_names_are_known_or_the_known_ones_are_told() -> None:
    with fails(registry.NO_SUCH_MODEL, name="nonsense", known=", ".join(load_registry().entries)):
        load_registry().get("nonsense")


def test_own_entries_add_and_override(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(GOOD + GOOD.replace("models.mine", "models.carn"))
    merged = load_registry(path)
    assert list(merged.entries)[: len(load_registry().entries)] == list(load_registry().entries)
    assert merged.get("carn").licence == merged.get("mine").licence == "MIT"
    assert merged.auto == load_registry().auto


def test_an_order_of_ones_own_replaces_the_packaged_one(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('auto = ["mine", "carn"]\n' + GOOD)
    assert load_registry(path).auto == ("mine", "carn")
    path.write_text('auto = ["nobody"]\n' + GOOD)
    with fails(registry.UNKNOWN_CHOICE, path=path, names="nobody"):
        load_registry(path)


@pytest.mark.parametrize(
    ("right", "wrong", "row"),
    [
        ("licence", "license", registry.KEYS_MISSING),
        ('source = "a test"', 'source = "a test"\ncolour = 1', registry.KEYS_UNKNOWN),
        ('source = "a test"', "", registry.KEYS_MISSING),
        ("someone/tiny", "tiny", registry.BAD_REPO),
        ("someone/tiny", "someone/tiny/more", registry.BAD_REPO),
        ("someone/tiny", "../tiny", registry.BAD_REPO),
        ("someone/tiny", "https://huggingface.co/a", registry.BAD_REPO),
        ('"someone/tiny"', "1", registry.NOT_WELL_FORMED),
        ("0123456789abcdef0123456789abcdef01234567", "main", registry.BAD_REVISION),
        ("0123456789abcdef0123456789abcdef01234567", "0123456", registry.BAD_REVISION),
        ("[models.mine]", '[models.mine]\nfiles = { config = "../config.json" }', registry.BAD_FILE_NAME),
        ("[models.mine]", '[models.mine]\nfiles = { weights = "/etc/passwd" }', registry.BAD_FILE_NAME),
        ("[models.mine]", '[models.mine]\nfiles = { weights = ".." }', registry.BAD_FILE_NAME),
        ("[models.mine]", '[models.mine]\nfiles = { code = "x.py" }', registry.NOT_WELL_FORMED),
        ("[models.mine]", '[models.mine]\nfiles = "model.bin"', registry.NOT_WELL_FORMED),
        ("[models.mine]", '[models.mine]\nfolder = "here"', registry.NO_LOCATION),
        (REPO_LINES, "folder = 1", registry.BAD_FOLDER),
        (REPO_LINES, 'folder = ""', registry.BAD_FOLDER),
        (REPO_LINES, 'folder = "a\\u0000b"', registry.BAD_FOLDER),
        (REPO_LINES, 'folder = "https://example.com/model"', registry.BAD_FOLDER),
        (REPO_LINES, 'packaged = "../../somewhere"', registry.BAD_PACKAGED),
        (REPO_LINES, 'packaged = "/etc"', registry.BAD_PACKAGED),
        (REPO_LINES, 'packaged = ".."', registry.BAD_PACKAGED),
        (REPO_LINES, 'packaged = ["builtin"]', registry.BAD_PACKAGED),
        ("someone/tiny", "someone/..", registry.BAD_REPO),
        ("someone/tiny", "someone/tiny?token=1", registry.BAD_REPO),
        ("someone/tiny", "someone/tiny@main", registry.BAD_REPO),
        ("[models.mine]", '[models."../mine"]', registry.BAD_NAME),
        ("[models.mine]", "[models.Mine]", registry.BAD_NAME),
        ('name = "carn"', 'name = "resnet"', registry.NOT_WELL_FORMED),
        ("width = 8", "width = 0", registry.NOT_WELL_FORMED),
        ("width = 8", 'width = "8"', registry.NOT_WELL_FORMED),
        ("width = 8", "width = 8.0", registry.NOT_WELL_FORMED),
        ("width = 8", "width = 8, colour = 1", registry.NOT_WELL_FORMED),
        ("[[4], [8, 8]]", "[[4]]", registry.FEW_BRANCHES),
        ("[[4], [8, 8]]", "[[4], [0]]", registry.NOT_WELL_FORMED),
        ("[[4], [8, 8]]", "4", registry.NOT_A_LIST),
        ("[[4], [8, 8]]", '["", ""]', registry.NOT_A_LIST),
        ("classifier = []", "classifier = {}", registry.NOT_A_LIST),
        ("[[4], [8, 8]]", "[[4], [true]]", registry.NOT_WELL_FORMED),
        ("[[4], [8, 8]]", "[[4], [5000]]", registry.NOT_WELL_FORMED),
        ("[0.1, 0.2, 0.3]", "[0.1]", registry.NOT_WELL_FORMED),
        ("[0.1, 0.2, 0.3]", "[0.1, 0.2, nan]", registry.NOT_WELL_FORMED),
        ("[0.1, 0.2, 0.3]", f"[0.1, 0.2, {10**18}]", registry.NOT_WELL_FORMED),
        ("[0.1, 0.2, 0.3]", '"abc"', registry.NOT_A_LIST),
        ("classifier = []", "classifier = []\nstd = [0.0, 1.0, 1.0]", registry.NOT_WELL_FORMED),
        ("classifier = []", "classifier = []\nstd = [1.0, -1.0, 1.0]", registry.NOT_WELL_FORMED),
        ("classifier = []", 'classifier = []\ncontinuous = "yes"', registry.NOT_WELL_FORMED),
        ('"a test"', "1", registry.NOT_TEXT),
        ('"MIT"', "[]", registry.NOT_TEXT),
        ("[4, 2]", "[]", registry.NOT_WELL_FORMED),
        ("[4, 2]", "[0.5]", registry.NOT_WELL_FORMED),
        ("[4, 2]", "[inf]", registry.NOT_WELL_FORMED),
        ("[4, 2]", "4", registry.NOT_A_LIST),
        ("[4, 2]", '"42"', registry.NOT_A_LIST),
        ("[4, 2]", "[true]", registry.NOT_WELL_FORMED),
        ("receptive_radius = 19", 'receptive_radius = "wide"', registry.NOT_WHOLE),
        ("receptive_radius = 19", "receptive_radius = 0", registry.NOT_WHOLE),
        ("receptive_radius = 19", 'receptive_radius = 19\nparameters = "many"', registry.NOT_WHOLE),
        ("receptive_radius = 19", 'receptive_radius = 19\noriginal = "vdsr"', registry.NO_SUCH_ORIGINAL),
        ("receptive_radius = 19", 'receptive_radius = 19\nsha256 = "303E"', registry.BAD_SHA256),
    ],
)
def test_what_an_entry_must_not_say(tmp_path: Path, right: str, wrong: str, row: Failure) -> None:
    assert right in GOOD
    sentence = refused(tmp_path, GOOD.replace(right, wrong), row)
    assert "mine" in sentence.lower()


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("[models.mine", registry.NOT_TOML),
        ("models = 1", registry.OTHER_TABLES),
        ("auto = 1", registry.OTHER_TABLES),
        ("auto = [1]", registry.OTHER_TABLES),
        ("[other]\nx = 1", registry.OTHER_TABLES),
        ("[models]\nmine = 1", registry.NOT_A_TABLE),
    ],
)
def test_what_a_registry_must_not_be(tmp_path: Path, text: str, row: Failure) -> None:
    refused(tmp_path, text, row)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    for name in ("nowhere.toml", ""):
        with fails(registry.UNREADABLE):
            read_registry(tmp_path / name)
    with fails(registry.NOT_TOML):
        read_registry(tmp_path / "binary.toml")


def test_the_own_registry_is_where_it_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("PCSR_REGISTRY", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    assert own_registry_path() is None
